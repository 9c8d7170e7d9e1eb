"""The file of ``--json``: looked at before work that takes minutes, not after it."""

import os
from pathlib import Path

from huiyan.core.errors import OutputError


def check_json(path: Path | None) -> None:
    """Refuse a file for ``--json`` that could not be written later. Folders that are not there are made later.

    Raises:
        OutputError: it is a folder, or lies in a place that is no folder or may not be written.
    """
    if path is None:
        return
    if path.is_dir():
        raise OutputError(f"--json {path} cannot be written: it is a folder.", hint="Name a file in it.")
    folder = next(parent for parent in path.absolute().parents if os.path.lexists(parent))
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        why = "may not be written" if folder.is_dir() else "is not a folder"
        raise OutputError(f"--json {path} cannot be written: {folder} {why}.", hint="Name another file.")
