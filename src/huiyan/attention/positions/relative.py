"""What every relative position scheme comes down to: small tables, indexed by how far a key stands from a query.

The *offset* of a pair is the key's position minus the query's: 0 on the diagonal, negative for what came before. A
scheme that acts on scores (ALiBi, T5, Shaw, Transformer-XL, DeBERTa) gives ``RelativeTerms``; what a scheme does to
make them (buckets, sinusoids, projections) is ordinary autograd over O(n) numbers. Kernels add a tile's share of them
where they compute the tile, so no n² bias is ever stored.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from huiyan.attention.blocks import Span
from huiyan.core.errors import ShapeError


@dataclass(frozen=True, kw_only=True)
class RelativeTerms:
    """Tables of `r` rows, one an offset.

    With o the offset of query i and key j, and R[o] the row of o in a table:

    | field | shape | adds |
    |---|---|---|
    | ``bias`` | `h r` | bias[o] to the score |
    | ``keys`` | `#h r d` | scale · qᵢ · keys[o] to the score |
    | ``queries`` | `#h r d` | scale · queries[o] · kⱼ to the score |
    | ``values`` | `#h r d` | weightᵢⱼ · values[o] to the output |
    | ``content_bias`` | `h d` | scale · content_bias · kⱼ to the score |
    | ``position_bias`` | `h d` | scale · position_bias · keys[o] to the score |

    A table with a first dimension of 1 is shared by the heads.

    Args:
        lowest: the offset of row 0. Offsets below have row 0, offsets above the last row the last one.
    """

    lowest: int
    bias: Float[Tensor, "h r"] | None = None
    keys: Float[Tensor, "#h r d"] | None = None
    queries: Float[Tensor, "#h r d"] | None = None
    values: Float[Tensor, "#h r d"] | None = None
    content_bias: Float[Tensor, "h d"] | None = None
    position_bias: Float[Tensor, "h d"] | None = None

    def rows(self, offsets: Int[Tensor, "..."]) -> Int[Tensor, "..."]:
        """The row of each offset in every table."""
        return (offsets - self.lowest).clamp(0, self.n_rows - 1)

    @property
    def has_tables(self) -> bool:
        """Whether anything is added at all."""
        return any(x is not None for x in (self.bias, self.keys, self.queries, self.values))

    @property
    def is_bias_only(self) -> bool:
        """Whether nothing depends on queries, keys or weights."""
        return self.keys is None and self.queries is None and self.values is None

    @property
    def n_rows(self) -> int:
        """Rows of each table, `r`; 1 where there is no table."""
        tables = (self.bias, self.keys, self.queries, self.values)
        return next((table.shape[1] for table in tables if table is not None), 1)

    def map(self, change: Callable[[Tensor], Tensor]) -> "RelativeTerms":
        """The same with every tensor changed."""
        tensors = {name: getattr(self, name) for name in TENSORS}
        return replace(self, **{name: change(x) for name, x in tensors.items() if x is not None})

    def without_biases(self, q: Float[Tensor, "... h d"], scale: float) -> "tuple[Tensor, RelativeTerms]":
        """Queries and terms that give the same scores with neither ``content_bias`` nor ``position_bias``.

        With u the one and w the other, (q + u) k + (q + w) R = p k + p R + (w − u) R where p = q + u: the last term
        does not depend on q, and joins ``bias``. ``q`` has heads and width last; kernels see the four tables alone.
        """
        u, w = self.content_bias, self.position_bias
        if u is None and w is None:
            return q, self
        bias = self.bias
        if self.keys is not None:
            difference = torch.zeros_like(self.keys[:, 0]) if w is None else w
            if u is not None:
                difference = difference - u
            from_keys = scale * torch.einsum("hd,hrd->hr", difference, self.keys.expand(difference.shape[0], -1, -1))
            bias = from_keys if bias is None else bias + from_keys
        # Autocast gives half queries beside float32 biases: attention has the dtype of the queries.
        return (q if u is None else q + u.to(q.dtype)), replace(self, bias=bias, content_bias=None, position_bias=None)


TABLES = ("bias", "keys", "queries", "values")
TENSORS = tuple(field.name for field in fields(RelativeTerms) if field.name != "lowest")


class ScorePosition(nn.Module, ABC):
    """A position scheme that acts on scores: pass it as ``attend(position=…)``."""

    @abstractmethod
    def terms(self, lowest: int, highest: int) -> RelativeTerms:
        """The tables for offsets ``lowest`` … ``highest`` (key position − query position), both included.

        A scheme that treats all far keys alike may give fewer rows: what is outside the table has its outermost row.
        """

    def tile(
        self,
        rows: range,
        columns: range,
        *,
        q: Float[Tensor, "*b h q d"] | None = None,
        k: Float[Tensor, "*b h k d"] | None = None,
        scale: float = 1.0,
    ) -> Float[Tensor, "*#b h q k"]:
        """What the scheme adds to the scores of these query and key positions, and nothing beyond them.

        Args:
            rows: positions of the queries.
            columns: positions of the keys.
            q: the queries at ``rows``, for schemes in which what is added depends on them.
            k: the keys at ``columns``, likewise.
            scale: what scores are multiplied by; it applies to the terms that hold a query or a key.
        Raises:
            ShapeError: the scheme needs queries or keys, and they are not given.
        """
        terms = self.terms(columns.start - rows.stop + 1, columns.stop - 1 - rows.start)
        needs_q = terms.keys is not None
        needs_k = terms.queries is not None or terms.content_bias is not None
        if (needs_q and q is None) or (needs_k and k is None):
            raise ShapeError(
                f"What {type(self).__name__} adds to a score depends on {'the query' if needs_q else 'the key'}.",
                hint="Pass q= and k=, the queries at rows and the keys at columns.",
            )
        return score_terms(terms, rows, columns, q=q, k=k, scale=scale)


def score_terms(
    terms: RelativeTerms,
    rows: range | Span,
    columns: range | Span,
    *,
    q: Float[Tensor, "*b h q d"] | None,
    k: Float[Tensor, "*b h k d"] | None,
    scale: float,
) -> Float[Tensor, "*#b #h #q #k"]:
    """The terms of a tile as their definition says, a table row for each pair. The reference for the kernels.

    Args:
        rows: positions of the queries.
        columns: positions of the keys.
    """
    index = _rows_of_pairs(terms, rows, columns)
    parts: list[Tensor] = []
    if terms.bias is not None:
        parts.append(terms.bias[:, index])
    if terms.keys is not None and q is not None:
        with_bias = q if terms.position_bias is None else q + terms.position_bias[:, None]
        parts.append(scale * _pick(with_bias @ terms.keys.mT, index))
    if terms.queries is not None and k is not None:
        parts.append(scale * _pick(k @ terms.queries.mT, index.mT).mT)
    if terms.content_bias is not None and k is not None:
        parts.append(scale * torch.einsum("hd,...hkd->...hk", terms.content_bias, k)[..., None, :])
    if not parts:  # values alone: a zero of their dtype, which widens no score
        return torch.zeros(1, 1, 1, device=index.device, dtype=None if terms.values is None else terms.values.dtype)
    return sum(parts[1:], start=parts[0])


def value_terms(
    terms: RelativeTerms, rows: range | Span, columns: range | Span, weights: Float[Tensor, "*b h q k"]
) -> Float[Tensor, "*b h q d"] | float:
    """What ``terms.values`` adds to the output of a tile, as the definition says."""
    if terms.values is None:
        return 0.0
    index = _rows_of_pairs(terms, rows, columns).expand(weights.shape)
    by_offset = weights.new_zeros(*weights.shape[:-1], terms.n_rows).scatter_add(-1, index, weights)
    return by_offset @ terms.values


def _pick(scores: Float[Tensor, "*b h q r"], index: Int[Tensor, "q k"]) -> Float[Tensor, "*b h q k"]:
    return scores.gather(-1, index.expand(*scores.shape[:-1], -1))


def _rows_of_pairs(terms: RelativeTerms, rows: range | Span, columns: range | Span) -> Int[Tensor, "q k"]:
    device = next((x.device for x in (getattr(terms, name) for name in TENSORS) if x is not None), None)
    queries = torch.arange(rows.start, rows.stop, device=device)
    keys = torch.arange(columns.start, columns.stop, device=device)
    return terms.rows(keys - queries[:, None])
