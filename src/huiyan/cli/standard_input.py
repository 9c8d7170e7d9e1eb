"""A bare ``-`` on the command line: standard input, or output. cyclopts would take it for an option.

It is hidden from cyclopts behind a stand-in, for every parameter at once. cyclopts' own ``allow_leading_hyphen`` would
also take a mistyped option for the file.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huiyan.core.errors import ConfigError

STAND_IN = "\0"
"""No argument of a process can hold a NUL, so nothing else looks like it."""


def hide_hyphens(words: Sequence[str]) -> list[str]:
    """The words with the stand-in for every bare hyphen among them; those after ``--`` are texts and stay."""
    end = words.index("--") if "--" in words else len(words)
    return [STAND_IN if word == "-" else word for word in words[:end]] + list(words[end:])


def show_hyphens(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a command with their hyphens back.

    Raises:
        ConfigError: a bare hyphen stands among free texts, where it could mean either.
    """
    if any(isinstance(value, tuple) and STAND_IN in value for value in arguments.values()):
        raise ConfigError(
            "A bare - is no text here.",
            hint="For standard input say --file - and for the text itself put -- before the texts.",
        )
    return {name: _shown(value) for name, value in arguments.items()}


def _shown(value: Any) -> Any:
    if isinstance(value, str | Path):
        return type(value)("-") if str(value) == STAND_IN else value
    if isinstance(value, tuple):
        return tuple(_shown(item) for item in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        changed = {field.name: _shown(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return dataclasses.replace(value, **changed)
    return value
