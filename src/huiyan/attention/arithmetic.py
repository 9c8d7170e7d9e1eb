"""The additions and multiplications of an attention, counted as two for each product of numbers that is summed."""

from typing import NamedTuple

from huiyan.attention.blocks import Span
from huiyan.attention.footprint import Call, is_fused, seen_block
from huiyan.attention.kernels.seen import seen_columns
from huiyan.attention.masks import Mask

_LOOKED_AT = 64  # rows of blocks of a long map whose blocks are counted, spread over it


class Flops(NamedTuple):
    """Additions and multiplications of the two passes."""

    forward: int
    backward: int


def flops(call: Call) -> Flops:
    """Of the products that are computed, masked parts of a block included; of the softmax none.

    Forward two products for each pair, q·k and weight·v; backward five, of which one is q·k again (Dao et al. 2022,
    section 3.1 and appendix B.4). A relative table adds one forward and three backward, for the diagonals of a block.
    """
    pairs = diagonals = 0.0
    terms = call.scoring.terms
    n_tables = sum(getattr(terms, name) is not None for name in ("keys", "queries", "values")) if terms else 0
    for n_sequences, length in call.runs:
        own = n_sequences * call.n_heads * _computed_pairs(call, length)
        pairs += own
        if n_tables:
            block = seen_block(call, length)
            diagonals += own * n_tables * (block.rows + block.columns) / block.columns
    product = 2 * call.head_width
    return Flops(
        int(product * (2 * pairs + diagonals)),
        int(product * (5 * pairs + 3 * diagonals)) if call.training else 0,
    )


def _computed_pairs(call: Call, length: int) -> float:
    mask = call.scoring.mask
    if mask is None:
        return length**2
    if is_fused(call.scoring):  # causal: what torch's kernel skips, the upper half
        return length * (length + 1) / 2
    if call.kernel == "sdpa" or (call.kernel == "packed" and call.device != "cpu" and call.scoring.is_plain):
        return length**2
    return _pairs_in_blocks(mask, length, *seen_block(call, length))


def _pairs_in_blocks(mask: Mask, length: int, n_rows: int, n_columns: int) -> float:
    """Of blocks in which anything is seen; on a long map counted in some rows and extended to all."""
    every = list(Span(0, length).blocks(n_rows))
    chosen = every[:: max(1, len(every) // _LOOKED_AT)]
    pairs = sum(
        rows.size * columns.size
        for rows in chosen
        for columns, _ in seen_columns(mask, rows, length, length, n_columns)
    )
    return pairs * length / sum(rows.size for rows in chosen)
