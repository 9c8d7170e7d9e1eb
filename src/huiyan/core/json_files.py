"""JSON files that somebody else may have written: an object, or an error that names the file."""

import json
from pathlib import Path
from typing import Any, cast

from huiyan.core.errors import SourceError, UsageError


def read_object(
    path: Path, error: type[UsageError] = SourceError, *, hint: str = "Fetch the model again."
) -> dict[str, Any]:
    """The object in a JSON file.

    Args:
        path: the file.
        error: what to raise.
        hint: what to do then.
    Raises:
        UsageError: of the kind asked for: the file cannot be read, is not JSON in UTF-8, is nested too deeply to be
            read, or holds something else than an object.
    """
    try:
        values: Any = json.loads(path.read_text(encoding="utf-8"))
    except OSError as caught:
        raise error(f"{path} cannot be read: {caught.strerror or caught}.", hint=hint) from caught
    except RecursionError as caught:
        raise error(f"{path} is nested too deeply to be read.", hint=hint) from caught
    except ValueError as caught:
        raise error(f"{path} is not JSON: {caught}.", hint=hint) from caught
    if not isinstance(values, dict):
        raise error(f"{path} must hold an object. Got a {type(values).__name__} instead.", hint=hint)
    return cast("dict[str, Any]", values)
