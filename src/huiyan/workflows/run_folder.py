"""The folder of a run: taken or free, begun or finished, and never lost by mistake."""

import json
import shutil
from pathlib import Path
from typing import Any

from huiyan.core.errors import OutputError

RUN = "run.json"
CHECKPOINTS = "checkpoint"


def check_out(out: Path, *, resume: bool, overwrite: bool) -> None:
    """Refuse, before any work is done, a folder that would have to be overwritten unasked.

    Raises:
        OutputError: the folder is taken; is not a folder; or holds files that no run of ours wrote.
    """
    if resume and overwrite:
        raise OutputError("--resume goes on and --overwrite starts again: give one of them.")
    if out.exists() and not out.is_dir():
        raise OutputError(f"--out {out} is a file; it must be a folder.", hint="Name another folder.")
    if not out.exists() or not any(out.iterdir()):
        return
    if not (resume or overwrite):
        raise OutputError(
            f"--out {out} exists already.",
            hint="Use --resume to go on with it, --overwrite to replace it, or name another folder.",
        )
    if not (out / RUN).is_file():
        raise OutputError(
            f"--out {out} holds files that no run of Huiyan wrote, so it is left alone.",
            hint="Name another folder, or empty that one yourself.",
        )


def begin(out: Path, *, overwrite: bool) -> Path:
    """Make the folder ready, emptied when it is to be overwritten; gives the folder for checkpoints.

    Raises:
        OutputError: the folder cannot be written.
    """
    try:
        if overwrite and out.exists():
            shutil.rmtree(out)
        checkpoints = out / CHECKPOINTS
        checkpoints.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"--out {out} cannot be written: {error.strerror or error}.") from error
    return checkpoints


def read_run(out: Path) -> dict[str, Any] | None:
    """The run.json of a folder, or None when there is none or it is damaged."""
    try:
        return json.loads((out / RUN).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
