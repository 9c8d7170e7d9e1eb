"""Tiles of the map itself, computed again from queries and keys: what a kernel saw and did not keep.

The log-sum-exp of a row is all that is needed of the other columns: a weight is exp(score − lse).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from huiyan.attention.blocks import Block, Span
from huiyan.attention.kernels.seen import seen_columns
from huiyan.attention.kernels.tiles import BITS, Tile, Workspace, computed, folded
from huiyan.attention.scoring import Scoring

_LARGEST_TILE_ON_CPU, _LARGEST_TILE = 1 << 19, 1 << 24
"""Scores in a tile, over its heads."""
_ROWS, _COLUMNS = 256, 512


@dataclass(frozen=True)
class Rows:
    """Some queries of some heads of one sequence, and what they are compared with.

    Args:
        q: `1 h q d`, multiplied by the scale, in the precision of the computation.
        k: all keys of the sequence, `1 g k d`.
        heads: which query heads, whole groups or a part of one.
        rows: which queries.
        tiles: the tiles of these rows in which anything is seen, from left to right.
    """

    q: Tensor
    k: Tensor
    heads: Span
    rows: Span
    tiles: list[Tile]

    def scores(self, tile: Tile) -> tuple[Tensor, Tensor | float]:
        """Natural scores of a tile times log₂ e, and what is to be added to them."""
        found = tile.scores(self.q, tile.block.columns.of(self.k, 2))
        return found.values, found.shift


def rows_of(
    q: Float[Tensor, "1 h q d"], k: Float[Tensor, "1 g k d"], scoring: Scoring, *, heads: Span, rows: Span
) -> Iterator[Rows]:
    """The map of a sequence, some heads and some queries at a time.

    Args:
        q: queries of one sequence, as a kernel gets them.
        k: keys.
        scoring: the variants, without dropout.
        heads: which query heads.
        rows: which queries.
    """
    n_queries, n_keys, share = q.shape[2], k.shape[2], q.shape[1] // k.shape[1]
    dtype = torch.promote_types(q.dtype, torch.float32)
    scoring = computed(scoring, q.new_empty(0, dtype=dtype))
    size = min(_ROWS, rows.size), min(_COLUMNS, n_keys)
    numbers = _LARGEST_TILE_ON_CPU if q.device.type == "cpu" else _LARGEST_TILE
    at_once = max(1, numbers // max(1, size[0] * size[1]))
    space = Workspace(q.new_empty(0, dtype=dtype))
    for some in _head_spans(heads, share, at_once):
        groups = Span(some.start // share, (some.stop - 1) // share + 1)
        keys = groups.of(k, 1).to(dtype).contiguous()
        for own in rows.blocks(_ROWS):
            queries = (own.of(some.of(q, 1), 2).to(dtype) * scoring.scale).contiguous()
            tiles = [
                Tile(Block(own, columns, n_queries, n_keys), Span(0, 1), some, scoring, space)
                for columns in _columns(scoring, own, n_queries, n_keys)
            ]
            yield Rows(queries, keys, some, own, tiles)


def log_sum_exp(rows: Rows, scoring: Scoring) -> Float[Tensor, "1 h q"]:
    """The log-sum-exp of each row, in natural units; −inf for one that sees nothing."""
    like = rows.q
    lowest = torch.finfo(like.dtype).min / 2  # finite, or the difference of two would be NaN
    shape = (*like.shape[:3], 1)
    if scoring.sinks is None:
        largest, total = like.new_full(shape, lowest), like.new_zeros(shape)
    else:
        sinks = rows.heads.of(scoring.sinks, 0).to(like.dtype).mul(BITS).clamp_min(lowest)
        largest, total = sinks[:, None, None].expand(shape), like.new_ones(shape)
    for tile in rows.tiles:
        scores, shift = rows.scores(tile)
        larger = torch.maximum(largest, scores.amax(-1, keepdim=True) + shift)
        total = total * (largest - larger).exp2() + scores.sub_(larger - shift).exp2_().sum(-1, keepdim=True)
        largest = larger
    return (largest + total.log2()).squeeze(-1).div_(BITS)


def weights_of(rows: Rows, lse: Float[Tensor, "1 h q"]) -> Iterator[tuple[Tile, Float[Tensor, "1 h q k"]]]:
    """The weights of these rows, some columns at a time; a tensor is good until the next one is asked for."""
    base = lse.masked_fill(lse == -torch.inf, 0.0).to(rows.q.dtype).mul(BITS)[..., None]
    for tile in rows.tiles:
        scores, shift = rows.scores(tile)
        yield tile, scores.sub_(base - shift).exp2_()


def weight_gradients(
    tile: Tile, d_out: Float[Tensor, "1 h q d"], v: Float[Tensor, "1 g k d"]
) -> Float[Tensor, "1 h q k"]:
    """What the loss changes by with each weight of a tile: dA = dO Vᵀ, and dO times the rows of a value table."""
    own, n_groups = tile.block.columns.of(v, 2).contiguous(), v.shape[1]
    found = torch.bmm(folded(d_out, n_groups), folded(own, n_groups).mT).view(tile.shape)
    by_position = tile.value_gradient(d_out)
    return found if by_position is None else found + by_position


def _head_spans(heads: Span, share: int, at_once: int) -> Iterator[Span]:
    """The heads in spans that are whole groups; a part of a group is one head at a time."""
    if heads.start % share or heads.stop % share:
        yield from heads.blocks(1)
        return
    yield from heads.blocks(max(1, at_once // share) * share)


def _columns(scoring: Scoring, rows: Span, n_queries: int, n_keys: int) -> Iterator[Span]:
    if scoring.mask is None:
        return Span(0, n_keys).blocks(_COLUMNS)
    return (columns for columns, _ in seen_columns(scoring.mask, rows, n_queries, n_keys, _COLUMNS))
