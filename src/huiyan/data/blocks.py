"""Rows that belong together: of one group, or with texts that are the same or nearly so."""

import hashlib
from collections.abc import Hashable, Iterable, Iterator


def rows_together(
    n_rows: int, *keys: Iterable[Hashable] | None, pairs: Iterable[tuple[int, int]] = ()
) -> list[list[int]]:
    """Blocks of rows that must stay on one side of a split, each ascending, in the order of their first rows.

    Two rows are in one block when a chain of equal keys and of pairs connects them.

    Args:
        n_rows: how many there are.
        keys: of each kind of key one a row, such as groups; None for a kind that there is not.
        pairs: of rows that belong together for another reason.
    """
    parent = list(range(n_rows))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    def connect(one: int, other: int) -> None:
        one, other = root(one), root(other)
        parent[max(one, other)] = min(one, other)

    for one_kind in keys:
        first_row: dict[Hashable, int] = {}
        for row, key in enumerate(one_kind or ()):
            connect(first_row.setdefault(key, row), row)
    for one, other in pairs:
        connect(one, other)
    members: dict[int, list[int]] = {}
    for row in range(n_rows):
        members.setdefault(root(row), []).append(row)
    return list(members.values())


def keys_of(texts: Iterable[str]) -> Iterator[bytes]:
    """The ``text_key`` of each text."""
    return map(text_key, texts)


def text_key(text: str) -> bytes:
    """A digest, equal for texts that are the same but for case and whitespace."""
    return hashlib.blake2b(plain_text(text).encode("utf-8", "surrogatepass"), digest_size=16).digest()


def plain_text(text: str) -> str:
    """A text without what is taken for no difference: case, and how much whitespace there is."""
    return " ".join(text.split()).casefold()
