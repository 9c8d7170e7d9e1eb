"""Exact attention in O(n) memory, forward and backward, on any device, with every variant.

The map is computed a block at a time and never kept. Forward, each row holds the largest score so far, the sum of the
exponentials and the weighted values, and rescales them when a larger score comes (the online softmax). Backward, a
block is computed again: with the log-sum-exp of each row, weights are exp(score − lse) at once.

Source: Rabe and Staats 2021; Milakov and Gimelshein 2018 (online softmax); Dao et al. 2022, algorithms 1 and 4.
Differs: relative terms, caps, sinks and dropout, and blocks that no mask lets see anything are never computed. Half
precisions are computed in float32.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from huiyan.attention.blocks import Block, Span
from huiyan.attention.dropout import TILE
from huiyan.attention.kernels.seen import seen_columns
from huiyan.attention.kernels.tiles import BITS, Tile, Workspace, computed, folded, unit
from huiyan.attention.masks import Causal, Window
from huiyan.attention.scoring import Scoring

# Scores in one tile, over all its heads. On a CPU what its nearest large cache holds (2 MB in float32); an accelerator
# wants more to do at once.
_TILE_NUMBERS_ON_CPU, _TILE_NUMBERS = 1 << 19, 1 << 25


def attend_blockwise(
    q: Float[Tensor, "b h q d"],
    k: Float[Tensor, "b g k d"],
    v: Float[Tensor, "b g k d"],
    scoring: Scoring,
    *,
    block_size: int | None = None,
) -> Float[Tensor, "b h q d"]:
    """As ``attend_by_formula``, in memory that grows with q + k.

    Args:
        block_size: queries and keys in a block; None chooses. The result does not depend on it, rounding aside.
    """
    # Its loops over blocks would be unrolled into a graph of thousands of small operations: they stay out of it.
    apply: Any = _Blockwise.apply
    if torch.compiler.is_compiling() and not torch.compiler.is_exporting():
        apply = torch.compiler.disable(apply)
    return apply(q, k, v, scoring, block_size, *scoring.tensors())


class _Blockwise(torch.autograd.Function):
    @staticmethod  # one line, long as it is: over several, the names that autograd gives would fill a screen
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, scoring: Scoring, block_size: int | None, *tensors: Tensor | None) -> Tensor:  # noqa: E501 # fmt: skip
        out, lse = forward(q, k, v, scoring.with_tensors(tensors), block_size=block_size)
        ctx.save_for_backward(q, k, v, out, lse, *tensors)
        # Without its tensors: what autograd saves it can also free.
        ctx.scoring, ctx.block_size = scoring.with_tensors([None] * len(tensors)), block_size
        return out

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride] - the decorator hides the names
        ctx: Any, *gradients: Tensor
    ) -> tuple[Tensor | None, ...]:
        q, k, v, out, lse, *tensors = ctx.saved_tensors
        scoring, wanted = ctx.scoring.with_tensors(tensors), ctx.needs_input_grad[5:]
        d_q, d_k, d_v, d_tensors = backward(
            gradients[0], (q, k, v), out, lse, scoring, wanted=wanted, block_size=ctx.block_size
        )
        return d_q, d_k, d_v, None, None, *d_tensors


class Blocks(NamedTuple):
    """Queries and keys in a block."""

    rows: int
    columns: int


def blocks_for(n_queries: int, n_keys: int, scoring: Scoring) -> Blocks:
    """The block that computes an attention fastest.

    Large blocks use the processor best; under a causal mask or a narrow window small ones skip more. Terms that have a
    product for each diagonal want few rows: the rows and columns of a tile together are its diagonals.
    """
    terms, parts = scoring.terms, scoring.mask.parts() if scoring.mask else ()
    rows, columns = (512, 512) if terms is None or terms.queries is not None else (128, 512)
    # Where all queries are one block's rows, beside a memory, smaller blocks skip nothing.
    if scoring.mask is not None and scoring.mask.has(Causal) and n_queries > rows:
        # Of eight blocks in a row of the map, half a block on the diagonal is computed in vain.
        rows, columns = min(rows, max(128, n_queries // 8)), min(columns, max(128, n_keys // 8))
    span = min([columns, *(part.left + part.right + 1 for part in parts if isinstance(part, Window))])
    return Blocks(min(rows, _rounded(min(span, n_queries))), min(columns, _rounded(min(span, n_keys))))


def _rounded(n: int) -> int:
    return max(TILE, 1 << (n - 1).bit_length())


@dataclass(frozen=True)
class _Chunk:
    """Sequences and heads that are computed together."""

    sequences: Span
    groups: Span
    heads: Span

    def queries(self, x: Tensor, rows: Span) -> Tensor:
        return rows.of(self.heads.of(self.sequences.of(x, 0), 1), 2)

    def keys(self, x: Tensor, columns: Span) -> Tensor:
        return columns.of(self.groups.of(self.sequences.of(x, 0), 1), 2)


def computed_at_once(block: Blocks, n_groups: int, share: int, device_type: str) -> tuple[int, int]:
    """Sequences, and key heads of each, that together fill a tile; ``share`` query heads come with a key head."""
    numbers = _TILE_NUMBERS_ON_CPU if device_type == "cpu" else _TILE_NUMBERS
    groups = max(1, numbers // max(1, block.rows * block.columns * share))
    return max(1, groups // n_groups), min(groups, n_groups)


def _walk(
    q: Float[Tensor, "b h q d"], k: Float[Tensor, "b g k d"], scoring: Scoring, block_size: int | None
) -> Iterator[tuple[_Chunk, Span, Iterator[Tile]]]:
    """The whole map: some sequences and heads, some rows, and the tiles of these rows in which anything is seen."""
    (n_sequences, n_heads, n_queries, _), (n_groups, n_keys) = q.shape, k.shape[1:3]
    size = blocks_for(n_queries, n_keys, scoring) if block_size is None else Blocks(block_size, block_size)
    block, share = Blocks(min(size.rows, n_queries), min(size.columns, n_keys)), n_heads // n_groups
    sequences_at_once, groups_at_once = computed_at_once(block, n_groups, share, q.device.type)
    space = Workspace(q)
    for sequences in Span(0, n_sequences).blocks(sequences_at_once):
        for groups in Span(0, n_groups).blocks(groups_at_once):
            chunk = _Chunk(sequences, groups, Span(groups.start * share, groups.stop * share))
            for rows in Span(0, n_queries).blocks(size.rows):
                yield chunk, rows, _tiles(rows, n_queries, n_keys, size.columns, chunk, scoring, space)


def _tiles(
    rows: Span, n_queries: int, n_keys: int, size: int, chunk: _Chunk, scoring: Scoring, space: Workspace
) -> Iterator[Tile]:
    if scoring.mask is None:
        seen = Span(0, n_keys).blocks(size)
    else:
        seen = (columns for columns, _ in seen_columns(scoring.mask, rows, n_queries, n_keys, size))
    for columns in seen:
        yield Tile(Block(rows, columns, n_queries, n_keys), chunk.sequences, chunk.heads, scoring, space)


def _computed(*tensors: Tensor) -> list[Tensor]:
    """In the precision of the computation, and laid out so that heads can be folded."""
    half = tensors[0].dtype in (torch.float16, torch.bfloat16)
    return [x.to(torch.float32 if half else x.dtype).contiguous() for x in tensors]


def forward(
    q: Float[Tensor, "b h q d"],
    k: Float[Tensor, "b g k d"],
    v: Float[Tensor, "b g k d"],
    scoring: Scoring,
    *,
    block_size: int | None = None,
) -> tuple[Float[Tensor, "b h q d"], Float[Tensor, "b h q"]]:
    """The output, and the log-sum-exp of each row (−inf for one that sees nothing), in the computed precision."""
    out = torch.empty_like(q, memory_format=torch.contiguous_format)
    q, k, v = _computed(q, k, v)
    scoring = computed(scoring, q)
    lse = q.new_empty(q.shape[:3])
    for chunk, rows, tiles in _walk(q, k, scoring, block_size):
        own_out, own_lse = _forward_rows(chunk.queries(q, rows) * scoring.scale, k, v, chunk, tiles, scoring)
        chunk.queries(out, rows).copy_(own_out)
        chunk.queries(lse, rows).copy_(own_lse)
    return out, lse


def _forward_rows(
    q: Tensor, k: Tensor, v: Tensor, chunk: _Chunk, tiles: Iterator[Tile], scoring: Scoring
) -> tuple[Tensor, Tensor]:
    n_groups = chunk.groups.size
    if scoring.sinks is None:
        # Finite: the difference of two of them is 0, where that of two infinities would be NaN.
        largest, total = q.new_full((*q.shape[:3], 1), torch.finfo(q.dtype).min / 2), q.new_zeros((*q.shape[:3], 1))
    else:
        # Finite for the same reason: a sink of −inf is none.
        sinks = chunk.heads.of(scoring.sinks, 0).clamp_min(torch.finfo(q.dtype).min / 2)
        largest, total = sinks[:, None, None].expand(*q.shape[:3], 1), q.new_ones((*q.shape[:3], 1))
    out = torch.zeros_like(q)
    for tile in tiles:
        columns = tile.block.columns
        scores = tile.scores(q, chunk.keys(k, columns))
        larger = torch.maximum(largest, scores.values.amax(-1, keepdim=True) + scores.shift)
        shrink = (largest - larger).exp2_()
        weights = scores.values.sub_(larger - scores.shift).exp2_()
        total.mul_(shrink).add_(weights.sum(-1, keepdim=True))
        keeps = tile.keeps(q.device)
        if keeps is not None:
            weights.mul_(keeps)
        out.mul_(shrink)
        folded(out, n_groups).baddbmm_(folded(weights, n_groups), folded(chunk.keys(v, columns), n_groups))
        tile.add_value_terms(out, weights)
        largest = larger
    share = 1.0 if scoring.dropout is None else scoring.dropout.keep_share
    lse = (largest + total.log2()).squeeze(-1).div_(BITS)
    # A row's total is at least 1, from its largest score, unless it sees nothing. The smallest number comes last: a
    # share of it would be 0 where the processor flushes what is smaller.
    return out.div_(total.mul_(share).clamp_min_(torch.finfo(q.dtype).tiny)), lse


def backward(
    d_out: Float[Tensor, "b h q d"],
    inputs: tuple[Tensor, Tensor, Tensor],
    out: Float[Tensor, "b h q d"],
    lse: Float[Tensor, "b h q"],
    scoring: Scoring,
    *,
    wanted: Sequence[bool],
    block_size: int | None = None,
) -> tuple[Tensor, Tensor, Tensor, list[Tensor | None]]:
    """Gradients of queries, keys and values, and of the tensors of ``scoring`` in its order.

    Source: Dao et al. 2022, algorithm 4, with δ = Σ dO ∘ O for each row.

    Args:
        wanted: which of the tensors of ``scoring`` a gradient is wanted for; the others have None.
    """
    dtype = inputs[0].dtype
    q, k, v, d_out, out = _computed(*inputs, d_out, out)
    given, scoring = scoring, computed(scoring, q)
    delta = (d_out * out).sum(-1, keepdim=True)
    if scoring.dropout is not None:
        d_out = d_out / scoring.dropout.keep_share
    lse = lse.masked_fill(lse == -torch.inf, 0.0).mul_(BITS)[..., None]  # b h q 1

    d_q, d_k, d_v = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
    gradients = scoring.with_tensors(
        [
            torch.zeros_like(x) if x is not None and wish else None
            for x, wish in zip(scoring.tensors(), wanted, strict=True)
        ]
    )
    for chunk, rows, tiles in _walk(q, k, scoring, block_size):
        own = _Rows(
            chunk.queries(q, rows) * scoring.scale,
            *(chunk.queries(x, rows).contiguous() for x in (d_out, lse, delta)),
        )
        chunk.queries(d_q, rows).copy_(_backward_rows(own, (k, v), (d_k, d_v), chunk, tiles, gradients))
    if scoring.sinks is not None and gradients.sinks is not None:
        taken = (scoring.sinks[:, None, None] - lse).exp2_()
        gradients.sinks.sub_((taken * delta).sum((0, 2, 3)))
    d_q.mul_(given.scale)
    terms = gradients.terms
    for in_unit in (d_k, *(() if terms is None else (terms.keys, terms.queries))):
        if in_unit is not None:
            in_unit.div_(unit(given))
    d_tensors = [
        None if x is None or gradient is None else gradient.to(x.dtype)
        for x, gradient in zip(given.tensors(), gradients.tensors(), strict=True)
    ]
    return d_q.to(dtype), d_k.to(dtype), d_v.to(dtype), d_tensors


@dataclass(frozen=True)
class _Rows:
    """What the backward pass knows of some queries: scaled, `b h q d`; the rest `b h q 1`."""

    q: Tensor
    d_out: Tensor
    lse: Tensor
    delta: Tensor


def _backward_rows(
    rows: _Rows,
    keys_values: tuple[Tensor, Tensor],
    d_keys_values: tuple[Tensor, Tensor],
    chunk: _Chunk,
    tiles: Iterator[Tile],
    gradients: Scoring,
) -> Tensor:
    """The gradient of the scaled queries; those of keys, values and tables are added where they belong."""
    n_groups = chunk.groups.size
    d_q = torch.zeros_like(rows.q)
    for tile in tiles:
        columns = tile.block.columns
        k, v = (chunk.keys(x, columns) for x in keys_values)
        d_k, d_v = (chunk.keys(x, columns) for x in d_keys_values)
        scores = tile.scores(rows.q, k, slope=True)
        weights = scores.values.sub_(rows.lse - scores.shift).exp2_()
        d_scores = tile.space.buffer("gradient", *tile.shape)
        torch.bmm(folded(rows.d_out, n_groups), folded(v, n_groups).mT, out=folded(d_scores, n_groups))
        from_values = tile.value_gradient(rows.d_out)
        if from_values is not None:
            d_scores.add_(from_values)
        kept, keeps = weights, tile.keeps(rows.q.device)
        if keeps is not None:
            d_scores.mul_(keeps)
            kept = torch.mul(weights, keeps, out=tile.space.buffer("kept", *tile.shape))
        folded(d_v, n_groups).baddbmm_(folded(kept, n_groups).mT, folded(rows.d_out, n_groups))
        d_scores.sub_(rows.delta).mul_(weights)
        if scores.steepness is not None:
            d_scores.mul_(scores.steepness)
        folded(d_q, n_groups).baddbmm_(folded(d_scores, n_groups), folded(k, n_groups))
        folded(d_k, n_groups).baddbmm_(folded(d_scores, n_groups).mT, folded(rows.q, n_groups))
        if gradients.terms is not None:
            inputs, d_inputs = (rows.q, k, rows.d_out), (d_q, d_k)
            tile.add_term_gradients(gradients.terms, inputs, d_inputs, d_scores, kept)
    return d_q
