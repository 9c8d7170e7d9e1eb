"""What tables say twice: duplicates, near duplicates, one text with two labels, and texts on both sides of a split."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from huiyan.data.blocks import rows_together, text_key
from huiyan.data.examples import Examples
from huiyan.data.labels import shown_label
from huiyan.data.near import near_pairs

SHOWN, SHOWN_CHARACTERS = 10, 300


@dataclass(frozen=True, slots=True)
class Likeness:
    """Texts that are the same or nearly so: sources and labels of some, and the beginning of the first text."""

    text: str
    sources: list[str]
    labels: list[str]
    rows: int


@dataclass(frozen=True, slots=True)
class Leak:
    """How many rows of one part are in an earlier part as well, word for word (``exact``) or nearly (``near``)."""

    part: str
    of: str
    exact: int
    near: int
    rows: int
    groups: int
    examples: list[Likeness]


@dataclass(frozen=True, slots=True)
class Overlap:
    """What ``overlap_of`` found.

    Args:
        exact: rows whose text an earlier row has, but for case and whitespace.
        near: rows beyond the first in clusters of near duplicates, the exact ones left out.
        clusters: the largest clusters of rows that are alike.
        conflicts: texts that have several labels, those with most rows first.
        conflicting_texts: how many such texts there are.
        conflicting_rows: and how many rows have them.
        leaks: what later parts share with earlier ones.
        first_alike: for each row that is alike to an earlier one, by source, the source of the first of them.
    """

    exact: int
    near: int
    clusters: list[Likeness]
    conflicts: list[Likeness]
    conflicting_texts: int
    conflicting_rows: int
    leaks: list[Leak]
    first_alike: dict[str, str]

    def keys_of(self, examples: Examples) -> list[str]:
        """One a row, equal for rows that are alike."""
        return [self.first_alike.get(source, source) for source in examples.sources]


def overlap_of(parts: dict[str, Examples]) -> Overlap:
    """Look for texts that are alike, within the parts of a data set and between them.

    Args:
        parts: by name, such as train, validation and test, in the order in which a later one must not repeat an
            earlier one. Numbers in what comes back count all their rows.
    """
    rows = _Rows(parts)
    clusters = rows_together(len(rows.texts), pairs=(pair[:2] for pair in near_pairs(rows.texts)))
    by_text: dict[bytes, list[int]] = {}
    for row, text in enumerate(rows.texts):
        by_text.setdefault(text_key(text), []).append(row)
    exact = len(rows.texts) - len(by_text)
    several = [members for members in by_text.values() if len({rows.raw_labels[row] for row in members}) > 1]
    return Overlap(
        exact=exact,
        near=len(rows.texts) - len(clusters) - exact,
        clusters=rows.largest(members for members in clusters if len(members) > 1),
        conflicts=rows.largest(several),
        conflicting_texts=len(several),
        conflicting_rows=sum(map(len, several)),
        leaks=_leaks(parts, rows, by_text.values(), clusters),
        first_alike={rows.sources[row]: rows.sources[members[0]] for members in clusters for row in members[1:]},
    )


class _Rows:
    """The rows of all parts, one part after the other."""

    def __init__(self, parts: dict[str, Examples]) -> None:
        self.texts = [text for examples in parts.values() for text in examples.plain]
        self.raw_labels = [label for examples in parts.values() for label in examples.labels]
        self.labels = [shown_label(label, examples.kind) for examples in parts.values() for label in examples.labels]
        self.sources = [source for examples in parts.values() for source in examples.sources]
        self.part_of = [name for name, examples in parts.items() for _ in range(len(examples))]

    def likeness(self, members: Sequence[int]) -> Likeness:
        shown = members[:SHOWN]
        return Likeness(
            self.texts[members[0]][:SHOWN_CHARACTERS],
            [self.sources[row] for row in shown],
            [self.labels[row] for row in shown],
            len(members),
        )

    def largest(self, groups: Iterable[Sequence[int]]) -> list[Likeness]:
        return [self.likeness(members) for members in sorted(groups, key=lambda group: (-len(group), group[0]))[:SHOWN]]


def _leaks(
    parts: dict[str, Examples], rows: _Rows, same: Iterable[Sequence[int]], alike: Iterable[Sequence[int]]
) -> list[Leak]:
    names = list(parts)
    exact, near = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    examples: dict[tuple[str, str], list[Sequence[int]]] = {}
    for groups, counts in ((same, exact), (alike, near)):
        for members in groups:
            found = {rows.part_of[row] for row in members}
            if len(found) < 2:
                continue
            present = [name for name in names if name in found]
            inside = Counter(rows.part_of[row] for row in members)
            for place, name in enumerate(present):
                for earlier in present[:place]:
                    counts[name, earlier] += inside[name]
                    if groups is alike:
                        both = [row for row in members if rows.part_of[row] in (name, earlier)]
                        examples.setdefault((name, earlier), []).append(both)
    groups_of = {name: set(one.groups or ()) for name, one in parts.items()}
    leaks: list[Leak] = []
    for place, name in enumerate(names):
        for earlier in names[:place]:
            key = (name, earlier)
            shared = len(groups_of[name] & groups_of[earlier])
            if near[key] or shared:
                shown = rows.largest(examples.get(key, []))
                leaks.append(Leak(name, earlier, exact[key], near[key] - exact[key], len(parts[name]), shared, shown))
    return leaks
