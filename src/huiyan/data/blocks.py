"""Rows that belong together: of one group, or with texts that are the same but for case and whitespace."""

import hashlib
from collections.abc import Iterable, Sequence


def rows_together(texts: Sequence[str], groups: Sequence[str] | None) -> list[list[int]]:
    """Blocks of rows that must stay on one side of a split, each ascending, in the order of their first rows.

    Two rows are in one block when a chain of equal texts and equal groups connects them.

    Args:
        texts: one a row.
        groups: one a row; None when there are none.
    """
    parent = list(range(len(texts)))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    def connect(keys: Iterable[object]) -> None:
        first_row: dict[object, int] = {}
        for row, key in enumerate(keys):
            first = first_row.setdefault(key, row)
            if first != row:
                one, other = root(first), root(row)
                parent[max(one, other)] = min(one, other)

    connect(map(text_key, texts))
    if groups is not None:
        connect(groups)
    members: dict[int, list[int]] = {}
    for row in range(len(texts)):
        members.setdefault(root(row), []).append(row)
    return list(members.values())


def text_key(text: str) -> bytes:
    """A digest, equal for texts that are the same but for case and whitespace."""
    return hashlib.blake2b(" ".join(text.split()).casefold().encode("utf-8", "surrogatepass"), digest_size=16).digest()
