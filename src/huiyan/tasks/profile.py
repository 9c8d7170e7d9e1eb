"""``profile.json``: what the rows a model learned from were like, without a word of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from huiyan.core.config import Config
from huiyan.core.errors import ArtifactError, ConfigError
from huiyan.core.json_files import read_object

PROFILE = "profile.json"
_BARS = 20


@dataclass(frozen=True, kw_only=True)
class Profile(Config):
    """What later texts can be held against, and which rows chose the model.

    Args:
        rows: that the model learned from.
        length_edges: of the histogram of their tokens, special tokens included, after cutting; one more than bars.
        length_rows: rows in each bar.
        unknown_pieces: share of the tokens that the vocabulary does not have.
        classes: rows of each label; of numbers, rows of each tenth.
        scripts: share of the letters that each script has.
        validation_rows: where the rows came from that chose the best weights, the temperature and the thresholds.
        fingerprint: SHA-256 over the texts and labels learned from, in order.
    """

    rows: int
    length_edges: tuple[int, ...]
    length_rows: tuple[int, ...]
    unknown_pieces: float
    classes: dict[str, int]
    scripts: dict[str, float]
    validation_rows: tuple[str, ...]
    fingerprint: str

    @classmethod
    def of(
        cls,
        sequences: Sequence[Sequence[int]],
        classes: dict[str, int],
        *,
        unknown_id: int | None,
        scripts: dict[str, float],
        validation_rows: Sequence[str],
        fingerprint: str,
    ) -> Self:
        """The profile of rows given as token ids, and of how many have each label."""
        lengths = np.fromiter(map(len, sequences), np.int64, len(sequences))
        edges = histogram_edges(lengths)
        unknown = sum(list(sequence).count(unknown_id) for sequence in sequences) if unknown_id is not None else 0
        return cls(
            rows=len(sequences),
            length_edges=tuple(edges.tolist()),
            length_rows=tuple(np.histogram(lengths, edges)[0].tolist()),
            unknown_pieces=unknown / max(1, int(lengths.sum())),
            classes=classes,
            scripts=scripts,
            validation_rows=tuple(validation_rows),
            fingerprint=fingerprint,
        )

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """Read it from a model folder; None where there is none.

        Raises:
            ArtifactError: the file is broken.
        """
        path, hint = folder / PROFILE, "Restore the folder from where it was trained."
        if not path.is_file():
            return None
        try:
            return cls.from_dict(read_object(path, ArtifactError, hint=hint))
        except (ConfigError, TypeError) as error:
            raise ArtifactError(f"{path} does not fit: {error}", hint=hint) from error


def histogram_edges(lengths: np.ndarray) -> np.ndarray:
    """Whole numbers that part lengths `n` into at most 20 bars, each so many times as wide as the one before."""
    return np.unique(np.geomspace(max(1, lengths.min()), lengths.max() + 1, _BARS + 1).round().astype(np.int64))
