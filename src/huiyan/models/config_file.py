"""The config.json of a model folder, as it stands there. This file imports no torch."""

from pathlib import Path
from typing import Any

from huiyan.core.errors import SourceError
from huiyan.core.json_files import read_object

CONFIG_FILE = "config.json"


def read_config(folder: Path) -> dict[str, Any]:
    """The config.json of a model folder.

    Raises:
        SourceError: it is not there, cannot be read, or is not a JSON object.
    """
    path = folder / CONFIG_FILE
    if not path.is_file():
        begun = (folder / "run.json").is_file()
        raise SourceError(
            f"{folder} has no {CONFIG_FILE}.",
            hint="Its training was not finished: go on with the same command and --resume."
            if begun
            else "Is this the folder of a model?",
        )
    return read_object(path)
