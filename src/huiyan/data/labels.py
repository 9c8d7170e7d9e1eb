"""Kinds of label: how a cell is read as one, what names it has, and which rows count as alike when rows are dealt.

Whatever its kind, a label is a string: a set of labels is its names as a JSON list, in order and each once; a number is
its shortest decimal form. Equal labels are equal strings.
"""

import json
import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import quantiles
from typing import Any, Literal, cast, get_args

from huiyan.core.config import require
from huiyan.core.errors import ConfigError, DataError, closest
from huiyan.data.cells import cell_text

Kind = Literal["classify", "multilabel", "ordinal", "regression"]
AskedKind = Literal["auto", "classify", "multilabel", "ordinal", "regression"]
MOST_LABELS_OF_A_ROW = 1000
NO_LABELS = "[]"
"""A cell of text without labels; an empty cell is no label."""
LARGEST_NUMBER = 1e30
"""What is learned in float32 has squares there."""
_BINS = 10
_FEWEST = 3  # rows that a stratum needs to be in every split


@dataclass
class LabelReader:
    """Reads the cells of a label column.

    Args:
        asked: which kind; "auto" is several labels where ``separator`` is given or the first cell is a list, ordered
            ones where ``order`` is given, else one of several.
        separator: what stands between the labels in a cell.
        order: the labels from the lowest to the highest, for ordinal ones that are no numbers.
        drop: labels whose rows are set aside.
    Raises:
        ConfigError: the options are not for one kind.
    """

    asked: AskedKind = "auto"
    separator: str | None = None
    order: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require(self.asked in get_args(AskedKind), "task", "one of " + ", ".join(get_args(AskedKind)), self.asked)
        require(self.separator != "", "label_separator", "one character or more", self.separator)
        for option, given, kind in (
            ("--label-separator", self.separator is not None, "multilabel"),
            ("--label-order", bool(self.order), "ordinal"),
        ):
            if given and self.asked not in ("auto", kind):
                raise ConfigError(f"{option} is for --task {kind}, and {self.asked} was asked for.")
        if self.separator is not None and self.order:
            raise ConfigError("--label-separator is for sets of labels, --label-order for one of several.")
        if self.order and (len(set(self.order)) < len(self.order) or len(self.order) < 2):
            raise ConfigError(f"--label-order must name two labels or more, each once. Got {list(self.order)} instead.")
        self._found: Kind | None = None if self.asked == "auto" else self.asked
        if self.separator is not None:
            self._found = "multilabel"
        elif self.order:
            self._found = "ordinal"

    @property
    def kind(self) -> Kind:
        """What the labels are; as long as none has been read, one of several."""
        return self._found or "classify"

    def read(self, cell: Any) -> str:
        """The label in a cell.

        Raises:
            DataError: it holds none; the message is the reason to reject the row with.
        """
        if self._found is None and (isinstance(cell, list) or cell_text(cell)):
            self._found = "multilabel" if isinstance(cell, list) else "classify"
        if self.kind == "multilabel":
            return self._several(cell)
        text = cell_text(cell)
        if not text:
            raise DataError("no label")
        if text in self.drop:
            raise DataError(f"label to be left out: {text!r}")
        if self.kind == "regression":
            return number_label(text)
        if self.order and text not in self.order:
            raise DataError(f"label not in --label-order: {text!r}", hint=closest(text, self.order))
        if self.kind == "ordinal" and not self.order:
            return _number_or(text)  # 1, 1.0 and 01 are one rank
        return text

    def _several(self, cell: Any) -> str:
        if not isinstance(cell, list) and not cell_text(cell):
            raise DataError("no label")
        names = self._names(cell)
        dropped = [name for name in names if name.strip() in self.drop]
        if dropped:
            raise DataError(f"label to be left out: {dropped[0]!r}")
        return set_label(names)

    def _names(self, cell: Any) -> list[str]:
        """The names in a cell: a list, one written as JSON, or text with the separator."""
        if isinstance(cell, list):
            names = [cell_text(one) for one in cast("list[Any]", cell)]
            torn = [name for name in names if self.separator is not None and self.separator in name]
            if torn:
                raise DataError(f"label in a list that has the separator in it: {torn[0]!r}")
            return names
        text = cell_text(cell)
        if text == NO_LABELS:
            return []
        if self.separator is not None:
            return text.split(self.separator)
        return _json_names(text) or [text]


def set_label(names: Sequence[str]) -> str:
    """The label that is a set of names; empty names are left out.

    Raises:
        DataError: there are too many.
    """
    kept = sorted({name.strip() for name in names} - {""})
    if len(kept) > MOST_LABELS_OF_A_ROW:
        raise DataError(f"over the size limit: {len(kept)} labels, {MOST_LABELS_OF_A_ROW} are the most")
    return json.dumps(kept, ensure_ascii=False)


def number_label(text: str) -> str:
    """The label that is a number.

    Raises:
        DataError: it is none, or not finite.
    """
    try:
        number = math.nan if "_" in text else float(text)  # Python reads 1_000 as a number; in a table it is a name
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise DataError(f"no number: the label is {text!r}")
    if abs(number) > LARGEST_NUMBER:
        raise DataError(f"over the size limit: the label is {text!r}, {LARGEST_NUMBER:g} is the most")
    return cell_text(number)


def _number_or(text: str) -> str:
    """A number in its shortest form; anything else as it is."""
    try:
        return number_label(text)
    except DataError:
        return text


def _json_names(text: str) -> list[str] | None:
    """The names in a list that is written as JSON; None for any other text."""
    if not (text.startswith("[") and text.endswith("]")):
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    listed = cast("list[Any]", found) if isinstance(found, list) else [None]
    return [cell_text(one) for one in listed] if all(isinstance(one, str | int | float) for one in listed) else None


def names_in(label: str, kind: Kind) -> list[str]:
    """The names in a label: of a set all of them, of a number none."""
    if kind == "multilabel":
        return json.loads(label)
    return [] if kind == "regression" else [label]


def shown_label(label: str, kind: Kind) -> str:
    """A label as people read it."""
    return ", ".join(names_in(label, kind)) or "none" if kind == "multilabel" else label


def strata(labels: Sequence[str], kind: Kind) -> list[str]:
    """What each row counts as when every split is to have its share of all: `n` labels → `n` names.

    A set counts as the rarest of its names that is not too rare to be in every split, a number as its tenth of all (as
    itself where there are no more than ten).
    """
    if kind == "multilabel":
        sets = [names_in(label, kind) for label in labels]
        counts = Counter(name for names in sets for name in names)
        enough = {name: count for name, count in counts.items() if count >= _FEWEST}
        return [min((name for name in names if name in enough), key=enough.__getitem__, default="") for names in sets]
    if kind == "regression":
        values = [float(label) for label in labels]
        if len(set(values)) <= _BINS:
            return [f"{value:g}" for value in values]
        edges = sorted({min(values), max(values), *quantiles(values, n=_BINS, method="inclusive")})
        bins = [min(bisect_right(edges, value) - 1, len(edges) - 2) for value in values]
        return [f"{edges[one]:g} to {edges[one + 1]:g}" for one in bins]
    return list(labels)


def counts_of(labels: Sequence[str], kind: Kind) -> dict[str, int]:
    """Rows of each name, the most frequent first; of numbers, rows of each tenth, from low to high."""
    if kind == "regression":
        return dict(sorted(Counter(strata(labels, kind)).items(), key=lambda one: float(one[0].split(" to ")[0])))
    return dict(Counter(name for label in labels for name in names_in(label, kind)).most_common())
