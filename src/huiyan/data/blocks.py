"""Rows that belong together: of one group, or with texts that are the same or nearly so."""

import hashlib
from collections.abc import Iterable, Sequence


def rows_together(
    texts: Sequence[str], groups: Sequence[str] | None, alike: Iterable[tuple[int, int]] = ()
) -> list[list[int]]:
    """Blocks of rows that must stay on one side of a split, each ascending, in the order of their first rows.

    Two rows are in one block when a chain of equal texts (but for case and whitespace), equal groups and pairs that are
    alike connects them.

    Args:
        texts: one a row.
        groups: one a row; None when there are none.
        alike: pairs of rows that belong together for another reason.
    """
    parent = list(range(len(texts)))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    def connect(one: int, other: int) -> None:
        one, other = root(one), root(other)
        parent[max(one, other)] = min(one, other)

    def connect_equal(keys: Iterable[object]) -> None:
        first_row: dict[object, int] = {}
        for row, key in enumerate(keys):
            connect(first_row.setdefault(key, row), row)

    connect_equal(map(text_key, texts))
    if groups is not None:
        connect_equal(groups)
    for one, other in alike:
        connect(one, other)
    members: dict[int, list[int]] = {}
    for row in range(len(texts)):
        members.setdefault(root(row), []).append(row)
    return list(members.values())


def text_key(text: str) -> bytes:
    """A digest, equal for texts that are the same but for case and whitespace."""
    return hashlib.blake2b(plain_text(text).encode("utf-8", "surrogatepass"), digest_size=16).digest()


def plain_text(text: str) -> str:
    """A text without what is taken for no difference: case, and how much whitespace there is."""
    return " ".join(text.split()).casefold()
