"""Everything that stands between q·k and the weights, as one value that kernels take."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from jaxtyping import Float
from torch import Tensor

from huiyan.attention.dropout import Dropout
from huiyan.attention.masks import Causal, Mask
from huiyan.attention.positions.relative import TABLES, RelativeTerms


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """score = cap(scale · q·k + position), seen where the mask allows; weights = dropout(softmax(score, sinks)).

    Args:
        scale: what q·k is multiplied by.
        mask: which pairs may attend; None is all of them.
        terms: what relative positions add, without ``content_bias`` and ``position_bias``.
        soft_cap: scores become soft_cap · tanh(score / soft_cap).
        sinks: `h`, a score of no key for each head: it takes its share of the softmax and gives nothing.
        dropout: of the weights.
        first_sequence: the number of the first sequence in its batch, for ``dropout``.
    """

    scale: float
    mask: Mask | None = None
    terms: RelativeTerms | None = None
    soft_cap: float | None = None
    sinks: Float[Tensor, " h"] | None = None
    dropout: Dropout | None = None
    first_sequence: int = 0

    @property
    def is_plain(self) -> bool:
        """Whether there is nothing but a scale and a mask."""
        return self.terms is None and self.soft_cap is None and self.sinks is None and self.dropout is None

    def is_fused(self, n_queries: int, n_keys: int) -> bool:
        """Whether torch's fused kernel takes it without a mask written out: at most a causal one on a square map."""
        square_causal = isinstance(self.mask, Causal) and n_queries == n_keys
        return self.is_plain and (self.mask is None or square_causal)

    def tensors(self) -> list[Tensor | None]:
        """The tensors a gradient may be wanted for, in the order that ``with_tensors`` takes."""
        terms = [None] * len(TABLES) if self.terms is None else [getattr(self.terms, name) for name in TABLES]
        return [*terms, self.sinks]

    def with_tensors(self, tensors: Sequence[Tensor | None]) -> "Scoring":
        """The same with other tensors."""
        *tables, sinks = tensors
        terms = self.terms and replace(self.terms, **dict(zip(TABLES, tables, strict=True)))
        return replace(self, terms=terms, sinks=sinks)
