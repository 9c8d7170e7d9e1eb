"""One tile of scores, and what flows back through it: the part of the blockwise kernel that knows the variants.

A tile holds the pairs of some queries and some keys, `b h q k`, for some sequences and heads. Relative terms have one
table row for each diagonal of a tile. Products with the rows, `q w`, become a tile, `q k`, by *skewing*: row i moved i
places to the left, which is a view with a row stride one shorter and costs nothing.

Scores are computed in *bits*: natural scores times log₂ e, since 2ˣ is three times as fast as eˣ on a CPU, and does not
slow down where the result is next to nothing.
"""

import math
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from huiyan.attention.blocks import Block, Sees, Span
from huiyan.attention.positions.relative import RelativeTerms
from huiyan.attention.scoring import Scoring

BITS = math.log2(math.e)  # in a natural unit


def unit(scoring: Scoring) -> float:
    """What scores are multiplied by until the mask: bits, or natural units where a cap must see them first."""
    return BITS if scoring.soft_cap is None else 1.0


def computed(scoring: Scoring, like: Tensor) -> Scoring:
    """The variants in the precision and in the unit of the computation."""
    in_precision = scoring.with_tensors([None if x is None else x.to(like.dtype) for x in scoring.tensors()])
    terms, sinks = in_precision.terms, in_precision.sinks
    if terms is not None and terms.bias is not None:
        terms = replace(terms, bias=terms.bias * unit(scoring))
    sinks = None if sinks is None else sinks * BITS
    return replace(in_precision, scale=scoring.scale * unit(scoring), terms=terms, sinks=sinks)


class Workspace:
    """Buffers that tiles of one shape share, so that a tile allocates nothing large."""

    def __init__(self, like: Tensor) -> None:
        self._like = like
        self._buffers: dict[tuple[str, tuple[int, ...]], Tensor] = {}

    @property
    def device(self) -> torch.device:
        """Where the numbers are."""
        return self._like.device

    def buffer(self, name: str, *shape: int) -> Tensor:
        """Room for numbers: zeros at first, and then what stood there before."""
        key = (name, shape)
        if key not in self._buffers:
            self._buffers[key] = self._like.new_zeros(shape)
        return self._buffers[key]


@dataclass(frozen=True)
class Scores:
    """Scores of a tile in bits.

    Args:
        values: `b h q k`, −inf where nothing is seen.
        shift: what is to be added to every score of a row, `#b h #q 1`; whoever subtracts something from the scores
            anyway subtracts that much less, which saves a pass over the tile.
        steepness: what a gradient must be multiplied by to pass the cap; None without one.
    """

    values: Tensor
    shift: Tensor | float
    steepness: Tensor | None


@dataclass
class Tile:
    """A block of the map for some sequences and heads.

    Args:
        block: its rows and columns.
        sequences: which of the batch.
        heads: which query heads.
        scoring: the variants for the whole batch, as ``computed`` gives them.
        space: buffers.
    """

    block: Block
    sequences: Span
    heads: Span
    scoring: Scoring
    space: Workspace
    shape: tuple[int, int, int, int] = field(init=False)

    def __post_init__(self) -> None:
        self.shape = (self.sequences.size, self.heads.size, self.block.rows.size, self.block.columns.size)

    def scores(self, q: Float[Tensor, "b h q d"], k: Float[Tensor, "b g k d"], *, slope: bool = False) -> Scores:
        """What scale · q kᵀ, the position, the cap and the mask come to. ``q`` is multiplied by the scale already.

        Args:
            slope: also give what a gradient must be multiplied by to pass the cap.
        """
        s = self.space.buffer("scores", *self.shape)
        n_groups = k.shape[1]
        torch.bmm(folded(q, n_groups), folded(k, n_groups).mT, out=folded(s, n_groups))
        shift = 0.0 if self.scoring.terms is None else self._add_terms(s, self.scoring.terms, q, k)
        steepness = None
        if self.scoring.soft_cap is not None:
            s, shift = s.add_(shift), 0.0
            s.div_(self.scoring.soft_cap).tanh_()
            steepness = torch.mul(s, s).neg_().add_(1) if slope else None
            s.mul_(self.scoring.soft_cap * BITS)
        if self.scoring.mask is not None and self.scoring.mask.sees(self.block) is not Sees.ALL:
            # Adding -inf is 20 times faster than filling through a boolean mask.
            allowed = _own(self.scoring.mask.allowed(self.block, s.device), self.sequences)
            s.add_(torch.zeros(allowed.shape, dtype=s.dtype, device=s.device).masked_fill_(~allowed, -torch.inf))
        return Scores(s, shift, steepness)

    def keeps(self, device: torch.device) -> Tensor | None:
        """Which weights dropout keeps, `b h q k`; None without dropout."""
        if self.scoring.dropout is None:
            return None
        sequences = self.sequences.moved(self.scoring.first_sequence)
        return self.scoring.dropout.keeps(sequences, self.heads, self.block.rows, self.block.columns, device)

    def _add_terms(self, s: Tensor, terms: RelativeTerms, q: Tensor, k: Tensor) -> Tensor | float:
        """Add the terms, but for what is the same for all keys: that is returned."""
        shift: Tensor | float = 0.0
        n_rows, n_columns = self.shape[2:]
        if terms.bias is not None:
            bias = self._rows(terms.bias)  # h w
            if bias.shape[-1] > 1:
                wide = self.space.buffer("bias", bias.shape[0], n_rows, bias.shape[1])
                s.add_(skewed(wide.copy_(bias[:, None]), n_columns))
            else:
                shift = bias[:, :, None]
        if terms.keys is not None:
            by_query = _product(q, self._rows(terms.keys).mT)
            if by_query.shape[-1] > 1:
                s.add_(skewed(by_query, n_columns))
            else:
                shift = shift + by_query
        if terms.queries is not None:
            rows = self._rows_by_key(terms.queries)
            by_key = _product(per_head(k, self.shape[1]), rows.mT).mul_(self.scoring.scale)  # b h k w
            s.add_(skewed(by_key, n_rows).mT)
        return shift

    def add_value_terms(self, out: Float[Tensor, "b h q d"], weights: Float[Tensor, "b h q k"]) -> None:
        """Add the weighted rows of the value table to ``out``."""
        terms = self.scoring.terms
        if terms is not None and terms.values is not None:
            rows = self._rows(terms.values)
            out.add_(_product(self._spread("weights", weights, rows.shape[-2]), rows))

    def value_gradient(self, d_out: Float[Tensor, "b h q d"]) -> Float[Tensor, "b h q #k"] | None:
        """What the value table adds to the gradient of the weights."""
        terms = self.scoring.terms
        if terms is None or terms.values is None:
            return None
        return skewed(_product(d_out, self._rows(terms.values).mT), self.shape[3])

    def add_term_gradients(
        self,
        gradients: RelativeTerms,
        inputs: tuple[Tensor, Tensor, Tensor],
        d_inputs: tuple[Tensor, Tensor],
        d_scores: Float[Tensor, "b h q k"],
        weights: Float[Tensor, "b h q k"],
    ) -> None:
        """Add the tile's share to the gradients of the tables, and of the queries and keys through them.

        Args:
            gradients: of each table, changed in place; those of ``keys`` and ``queries`` are in the tile's unit.
            inputs: scaled queries `b h q d`, keys `b g k d`, and the gradient of the output `b h q d`.
            d_inputs: gradients of the queries before the scale and of the keys in the tile's unit, changed in place.
            d_scores: gradient of the natural scores.
            weights: after dropout.
        """
        terms = self.scoring.terms
        if terms is None:
            return
        (q, k, d_out), (d_q, d_k) = inputs, d_inputs
        if gradients.bias is not None or terms.keys is not None:
            by_diagonal = self._spread("scores", d_scores, self._diagonals.size)
            if gradients.bias is not None:
                self._diagonals.add(_own(gradients.bias, self.heads), by_diagonal.sum((0, 2)))
            if terms.keys is not None:
                d_q.add_(_product(by_diagonal, self._rows(terms.keys)))
                self._add_rows(gradients.keys, self._diagonals, by_diagonal, q)
        if terms.queries is not None:
            by_diagonal = self._spread("keys", d_scores.mT, self._diagonals_by_key.size).mul_(self.scoring.scale)
            for_heads = _product(by_diagonal, self._rows_by_key(terms.queries))
            d_k.add_(for_heads.unflatten(1, (d_k.shape[1], -1)).sum(2))
            self._add_rows(gradients.queries, self._diagonals_by_key, by_diagonal, per_head(k, self.shape[1]))
        if gradients.values is not None:
            by_diagonal = self._spread("weights", weights, self._diagonals.size)
            self._add_rows(gradients.values, self._diagonals, by_diagonal, d_out)

    def _add_rows(self, gradient: Tensor | None, diagonals: "_Diagonals", by_diagonal: Tensor, rows: Tensor) -> None:
        if gradient is None:
            return
        d_rows = torch.matmul(by_diagonal.mT, rows).sum(0)  # h w d
        shared = gradient.shape[0] == 1
        diagonals.add(_own(gradient, self.heads), d_rows.sum(0, keepdim=True) if shared else d_rows)

    def _rows(self, table: Tensor) -> Tensor:
        """The rows of a table `#h r …` for the tile's diagonals, `#h w …`, from the lowest offset up."""
        return self._diagonals.of(_own(table, self.heads))

    def _rows_by_key(self, table: Tensor) -> Tensor:
        """The same for the transposed tile, keys by queries: from the highest offset down."""
        return self._diagonals_by_key.of(_own(table, self.heads))

    @cached_property
    def _diagonals(self) -> "_Diagonals":
        # One diagonal more than there are: with an even number products are a fifth faster.
        lowest = self.block.columns.start - (self.block.positions.stop - 1)
        return _Diagonals.at(self.scoring.terms, lowest, sum(self.shape[2:]), self.space.device)

    @cached_property
    def _diagonals_by_key(self) -> "_Diagonals":
        forward = self._diagonals
        if forward.size == 1:
            return forward
        highest = self.block.columns.stop - 1 - self.block.positions.start
        offsets = torch.arange(highest, highest - forward.size, -1, device=self.space.device)
        terms = self.scoring.terms or RelativeTerms(lowest=0)
        return _Diagonals(terms.rows(offsets))

    def _spread(self, name: str, pairs: Float[Tensor, "b h q k"], width: int) -> Float[Tensor, "b h q w"]:
        """The opposite of ``skewed``: each pair on its diagonal; or the sum over all, where they share one row."""
        if width == 1:
            return pairs.sum(-1, keepdim=True)
        # Only the tile's pairs are ever written: what lies beside them in the buffer is 0 and stays so.
        wide = self.space.buffer(f"spread {name}", *pairs.shape[:-1], width)
        skewed(wide, pairs.shape[-1]).copy_(pairs)
        return wide


@dataclass(frozen=True)
class _Diagonals:
    """Where the rows of a tile's diagonals stand in the tables: neighbours, or one number a diagonal."""

    where: Span | Int[Tensor, " w"]

    @classmethod
    def at(cls, terms: RelativeTerms | None, lowest: int, n: int, device: torch.device) -> "_Diagonals":
        """Of ``n`` diagonals from an offset up; one alone where all have the same row."""
        terms = terms or RelativeTerms(lowest=0)
        first, last = lowest - terms.lowest, terms.n_rows - 1
        if first >= last:
            return cls(Span(last, last + 1))
        if first + n - 2 <= 0:
            return cls(Span(0, 1))
        if first >= 0 and first + n <= terms.n_rows:
            return cls(Span(first, first + n))
        return cls(terms.rows(torch.arange(lowest, lowest + n, device=device)))

    @property
    def size(self) -> int:
        """How many rows they have."""
        return self.where.size if isinstance(self.where, Span) else len(self.where)

    def of(self, table: Tensor) -> Tensor:
        """Their rows, dimension 1 of a table."""
        return self.where.of(table, 1) if isinstance(self.where, Span) else table.index_select(1, self.where)

    def add(self, gradient: Tensor, rows: Tensor) -> None:
        """Add to the gradient of their rows."""
        if isinstance(self.where, Span):
            self.where.of(gradient, 1).add_(rows)
        else:
            gradient.index_add_(1, self.where, rows.to(gradient.dtype))


def skewed(x: Float[Tensor, "*b q w"], n_columns: int) -> Float[Tensor, "*b q #k"]:
    """The view of ``x``, which is contiguous, in which pair (i, j) is x[i, j − i + q − 1]; w is at least q + k − 1.

    With w = 1 all diagonals are one, and ``x`` broadcasts as it is.
    """
    n_rows, width = x.shape[-2:]
    if width == 1:
        return x
    strides = (*x.stride()[:-2], width - 1, 1)
    return x.as_strided((*x.shape[:-1], n_columns), strides, x.storage_offset() + n_rows - 1)


def folded(x: Float[Tensor, "b h q x"], n_groups: int) -> Float[Tensor, "bg hq x"]:
    """The view in which the query heads that share a key head are rows of one matrix: one product serves them all."""
    b, h, q, width = x.shape
    return x.view(b * n_groups, h // n_groups * q, width)


def per_head(x: Float[Tensor, "b g k d"], n_heads: int) -> Float[Tensor, "b h k d"]:
    """Key heads, each as often as query heads share it."""
    return x if x.shape[1] == n_heads else x.repeat_interleave(n_heads // x.shape[1], dim=1)


def _product(x: Float[Tensor, "b h q x"], table: Float[Tensor, "#h x y"]) -> Float[Tensor, "b h q y"]:
    # Broadcasting over a batch of one would copy the table.
    if table.shape[0] == 1:
        return torch.matmul(x, table[0])
    return torch.bmm(x[0], table)[None] if x.shape[0] == 1 else torch.matmul(x, table)


def _own(x: Tensor, which: Span) -> Tensor:
    # A first dimension of 1 is shared by all.
    return x if x.shape[0] == 1 else which.of(x, 0)
