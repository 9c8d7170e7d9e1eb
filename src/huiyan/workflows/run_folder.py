"""The folder of a run: taken or free, begun or finished, and never lost by mistake."""

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from huiyan.core.errors import ConfigError, OutputError
from huiyan.core.files import write_json
from huiyan.tasks.manifest import MANIFEST
from huiyan.training.config import LoopConfig
from huiyan.training.tracking import Tracker

RUN = "run.json"
REJECTED = "rejected.jsonl"
PARTS = "parts"
"""The folder, in a run's folder, of the trainings of which one is kept, until the run is finished."""
TRACKING = "tracking"
"""The folder, in a run's folder, of what an experiment tracker writes."""
CHECKPOINTS = "checkpoint"
"""The folder, in a run's folder, of the state for ``resume``."""
STARTING = {"status": "starting"}


def check_out(out: Path, inputs: Sequence[str], *, resume: bool, overwrite: bool) -> None:
    """Refuse, before any work is done, a folder that would have to be overwritten unasked.

    Args:
        out: the folder.
        inputs: files and folders the run reads.
        resume: whether the run in it is to go on.
        overwrite: whether the run in it is to be replaced.
    Raises:
        OutputError: the folder is taken; is not a folder; holds files that no run of ours wrote, or what is read.
    """
    if resume and overwrite:
        raise OutputError("--resume goes on and --overwrite starts again: give one of them.")
    if out.exists() and not out.is_dir():
        raise OutputError(f"--out {out} is a file; it must be a folder.", hint="Name another folder.")
    # Rows that a refused run set aside are no run.
    if not out.exists() or not {path.name for path in out.iterdir()} - {REJECTED}:
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
    if overwrite:
        _refuse_inside(out, [*inputs, "."])


def _refuse_inside(out: Path, inputs: Sequence[str]) -> None:
    for name in inputs:
        path = Path(name)
        if path.exists() and path.resolve().is_relative_to(out.resolve()):
            raise OutputError(
                f"--overwrite would delete {path.resolve() if name == '.' else name}, which lies in --out {out} and "
                "is in use.",
                hint="Name another folder.",
            )


@contextlib.contextmanager
def replacing(out: Path, *, overwrite: bool, saved_as: str = MANIFEST) -> Iterator[None]:
    """Set the run in ``out`` aside; it comes back when the block fails before it has saved a model there.

    Args:
        out: the folder of the run.
        overwrite: whether there may be another run.
        saved_as: the file that a saved model has.

    Raises:
        OutputError: the folder cannot be written.
    """
    old, own = out.with_name(f".{out.name}.replaced"), False
    with _written(out):
        if overwrite and out.exists():
            if old.exists():
                # A run that was to replace it was killed. What is whole is kept, the newer of both.
                shutil.rmtree(old if (out / saved_as).is_file() else out)
            if out.exists():
                out.rename(old)
            own = True
        out.mkdir(parents=True, exist_ok=True)
        if not (out / RUN).exists():
            # First of all: from here on the folder is known to be a run's, whenever the process is killed.
            write_json(out / RUN, STARTING)
    try:
        yield
    finally:
        if (out / saved_as).is_file():
            if old.exists():
                shutil.rmtree(old)
        # What an earlier process had begun stays, with its checkpoints: it is resumed with other words. A folder that
        # ended before its first step holds nothing, and must not stand in the way of the next try.
        elif own or json.loads((out / RUN).read_text(encoding="utf-8")) == STARTING:
            shutil.rmtree(out)
            if old.exists():
                old.rename(out)


@contextlib.contextmanager
def made_whole(out: Path) -> Iterator[Path]:
    """Give a folder beside ``out``; on a clean exit it takes the place of ``out``, and else nothing is left of it.

    What was in ``out`` stays there until then.

    Raises:
        OutputError: the folder cannot be written, or cannot be replaced as a whole.
    """
    place = out.resolve()
    if os.path.ismount(place):
        raise OutputError(
            f"--out {out} is where a disk is mounted, and cannot be replaced as a whole.",
            hint=f"Name a folder in it, such as {out / 'model'}.",
        )
    fresh = place.with_name(f".{place.name}.new")
    with _written(out):
        if fresh.exists():  # of a process that was killed
            shutil.rmtree(fresh)
        fresh.mkdir(parents=True)
    try:
        yield fresh
        with _written(out):
            _swap(fresh, place)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _swap(fresh: Path, place: Path) -> None:
    old = place.with_name(f".{place.name}.replaced")
    if old.exists():
        shutil.rmtree(old)
    try:
        if place.exists():
            place.rename(old)
        fresh.rename(place)
    except BaseException:
        if old.exists() and not place.exists():
            old.rename(place)
        raise
    shutil.rmtree(old, ignore_errors=True)


@contextlib.contextmanager
def _written(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(f"--out {out} cannot be written: {error.strerror or error}.") from error


def keep_rejected(rejected: Path, out: Path) -> str:
    """Keep the rows that a refused run set aside, where there is no run to be disturbed; says where."""
    if not rejected.is_file() or not rejected.stat().st_size or (out / RUN).exists():
        return ""
    out.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(rejected, out / REJECTED)
    return f"The rejected rows are listed in {out / REJECTED}."


def tracker_for(out: Path | None, training: LoopConfig, model: str, note: Callable[[str], None]) -> Tracker | None:
    """What tells an experiment tracker of a training; None where nobody asked.

    Args:
        out: the folder of the training.
        training: its options.
        model: which one it trains.
        note: told when the tracker fails.
    Raises:
        ConfigError: there is no folder.
        MissingExtraError: the tracker is not installed.
    """
    if training.track == "none":
        return None
    if out is None:
        raise ConfigError("--track needs a folder, and this training has none.", hint="Use `huiyan train`.")
    # One of several trainings lies in a folder that goes when they are over; what is tracked stays.
    whole = out.parent.parent if out.parent.name == PARTS else out
    kept = {"model": model} | {name: str(value) for name, value in training.to_dict().items()}
    return Tracker(
        training.track,
        whole / TRACKING / (out.name if whole != out else ""),
        run_name=whole.name if whole == out else f"{whole.name}-{out.name}",
        options=kept,
        note=note,
    )
