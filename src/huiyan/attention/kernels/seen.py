"""Which blocks of a map are worth computing, found without asking about each of them."""

from collections.abc import Iterator

from huiyan.attention.blocks import Block, Sees, Span
from huiyan.attention.masks import Mask


def seen_columns(
    mask: Mask, rows: Span, n_queries: int, n_keys: int, size: int, *, within: Span | None = None
) -> Iterator[tuple[Span, Sees]]:
    """The blocks of keys in which some rows see anything, in order, each with how much.

    A wide span is asked about first, and halved only where the answer is mixed: for a narrow window that is O(log n)
    questions, where asking about every block is O(n).

    Args:
        rows: indices of queries, one or more.
        size: keys in a block; the last may be smaller.
        within: of which keys, from the start of a block on; None is all.
    """
    columns = Span(0, n_keys) if within is None else within
    if columns.size == 0:
        return
    sees = mask.sees(Block(rows, columns, n_queries, n_keys))
    if sees is Sees.MIXED and columns.size > size:
        middle = columns.start + -(-columns.size // size) // 2 * size
        for half in (Span(columns.start, middle), Span(middle, columns.stop)):
            yield from seen_columns(mask, rows, n_queries, n_keys, size, within=half)
    elif sees is not Sees.NONE:
        yield from ((block, sees) for block in columns.blocks(size))
