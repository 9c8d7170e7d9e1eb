"""Every error Huiyan raises, in one tree.

```text
HuiyanError
├── UsageError                  the user's to mend: one line, exit status 2
│   ├── ConfigError             an option, key or value is not one we know      (ValueError)
│   ├── ShapeError              tensors that do not fit together                (ValueError)
│   ├── DataError               a table that cannot be read or used
│   │   ├── ColumnError         a column that is not there
│   │   └── EncodingError       bytes that are not text in the encoding named
│   ├── SourceError             a pretrained model that cannot be had
│   │   ├── HashError           bytes that are not the ones we pinned
│   │   └── UnknownFamilyError  a checkpoint of an architecture we do not read
│   ├── WeightsError            weights that do not fit the model they are for
│   ├── ArtifactError           a model folder that is broken, foreign or too new
│   ├── OutputError             a place that cannot be written, or is taken
│   └── MissingExtraError       an optional dependency that is not installed    (ImportError)
└── TrainingError               training went wrong: one line, exit status 1
    └── NonFiniteLossError      the loss became NaN or infinite
```

A message says what was wrong, what was expected and what was got; ``hint`` says what to do next.
"""

import difflib
from collections.abc import Iterable


class HuiyanError(Exception):
    """The root of the tree. ``str(error)`` is the message followed by the hint."""

    exit_status = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(f"{message} {hint}".strip())
        self.message = message
        self.hint = hint


class UsageError(HuiyanError):
    """Something the user can mend."""

    exit_status = 2


class ConfigError(UsageError, ValueError):
    """An option, a key or a value is not one we know."""


class ShapeError(UsageError, ValueError):
    """Tensors that do not fit together."""


class DataError(UsageError):
    """A table that cannot be read or used."""


class ColumnError(DataError):
    """A column that is not there."""


class EncodingError(DataError):
    """Bytes that are not text in the encoding named."""


class SourceError(UsageError):
    """A pretrained model that cannot be had."""


class HashError(SourceError):
    """Bytes that are not the ones we pinned."""


class UnknownFamilyError(SourceError):
    """A checkpoint of an architecture we do not read."""


class WeightsError(UsageError):
    """Weights that do not fit the model they are for."""


class ArtifactError(UsageError):
    """A model folder that is broken, foreign or too new."""


class OutputError(UsageError):
    """A place that cannot be written, or is taken."""


class MissingExtraError(UsageError, ImportError):
    """An optional dependency that is not installed."""

    def __init__(self, what: str, *, extra: str, library: str = "") -> None:
        super().__init__(
            f"{what} needs an optional dependency that is not installed.",
            hint=f"Install it with: pip install 'huiyan[{extra}]' {library}".rstrip(),
        )


class TrainingError(HuiyanError):
    """Training went wrong."""


class NonFiniteLossError(TrainingError):
    """The loss became NaN or infinite."""


def closest(name: str, choices: Iterable[str]) -> str:
    """A sentence that names the valid choice nearest to ``name``, or all of them when none is near.

    Args:
        name: what the user wrote.
        choices: what would have been valid.
    Returns:
        ``"Did you mean 'x'?"``, ``"Choose one of: a, b."``, or ``""`` when there is no choice.
    """
    known = [str(choice) for choice in choices]
    lowered = {choice.lower(): choice for choice in known}
    near = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.6)
    if near:
        return f"Did you mean {lowered[near[0]]!r}?"
    if not known:
        return ""
    shown = ", ".join(known[:12])
    rest = f" and {len(known) - 12} more" if len(known) > 12 else ""
    return f"Choose one of: {shown}{rest}."
