"""Adaptive span: each head learns how far it looks, and nothing beyond the farthest is computed."""

import functools
import math
import operator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from huiyan.attention.approximate.base import Approximation, check_heads
from huiyan.attention.functional import attend
from huiyan.attention.masks import Causal, Keys, Mask
from huiyan.core.config import require

_SMALLEST_BLOCK, _LARGEST_BLOCK = 32, 128


class AdaptiveSpan(Approximation):
    """Attention whose weights fade out at a learnt distance: mᵢⱼ exp(sᵢⱼ) / Σⱼ mᵢⱼ exp(sᵢⱼ).

    m(x) = min(max((ramp + z − x) / ramp, 0), 1) at distance x: 1 up to the head's span z, then falling to 0. Add
    ``weight · penalty()`` to the loss, and spans that do not pay shrink.

    Time and memory follow the largest span of the heads, not the length: queries go in blocks, and a block computes
    with the keys it can reach. When every span is at least the length, it is exact attention.

    Source: Sukhbaatar et al. 2019, eq. 2 (the mask), 3 (the weights), 4 (the penalty). Differs: both sides of a query
    unless causal; spans start at their largest, so that a trained layer starts as it is.

    Args:
        n_heads: `h`.
        max_span: the largest z, in tokens.
        ramp: R, tokens over which the mask falls from 1 to 0.
        initial: z of every head at the start, in tokens; None is ``max_span``.
        causal: whether a query sees only what came before, and itself.
    Raises:
        ConfigError: a number out of its range.
    """

    def __init__(
        self, n_heads: int, *, max_span: int, ramp: int = 32, initial: float | None = None, causal: bool = False
    ) -> None:
        super().__init__()
        require(n_heads >= 1, "n_heads", "at least 1", n_heads)
        require(max_span >= 1, "max_span", "at least 1 token", max_span)
        require(ramp >= 1, "ramp", "at least 1 token", ramp)
        initial = float(max_span) if initial is None else initial
        require(0 <= initial <= max_span, "initial", f"between 0 and max_span, {max_span}", initial)
        self.n_heads, self.max_span, self.ramp, self.causal = n_heads, max_span, ramp, causal
        # As a share of the largest, so that a usual learning rate moves it.
        self.share = nn.Parameter(torch.full((n_heads,), initial / max_span))

    @property
    def span(self) -> Tensor:
        """z of each head in tokens, `h`, between 0 and ``max_span``, with its gradient."""
        if self.training:
            # An optimiser may step over the edge, where a clamp has no gradient to come back by. Through `.data`,
            # so that a forward pass between another and its backward pass does not count as a change.
            self.share.data.clamp_(0.0, 1.0)
        return self.max_span * self.share.clamp(0.0, 1.0)

    def penalty(self) -> Tensor:
        """The mean span over the heads, in tokens: what eq. 4 adds to the loss, before its weight λ."""
        return self.span.mean()

    def meet(self, q: Tensor, k: Tensor, v: Tensor, keys: Tensor | None) -> Tensor:
        """Blocks of queries, each against the blocks of keys it can reach."""
        check_heads(q, self.n_heads)
        length, span = q.shape[2], self.span.to(q.dtype)
        # Reading the spans makes an accelerator wait; the sizes of what follows hang on them.
        narrowest, widest = (float(z) for z in span.detach().aminmax())
        if narrowest >= length - 1:
            return self._attend_to_all(q, k, v, keys)
        reach = min(math.ceil(widest + self.ramp) - 1, length - 1)
        size = min(max(reach, _SMALLEST_BLOCK), _LARGEST_BLOCK)
        beside = math.ceil(reach / size)
        bias = self._bias(span, size, beside)  # h r w
        # Whole blocks, and not a slice for each window: the gradient of a slice is a whole sequence of zeros.
        (q_blocks, k_blocks, v_blocks), n = (x.split(size, dim=2) for x in (q, k, v)), math.ceil(length / size)
        key_blocks = None if keys is None else keys.split(size, dim=1)
        outputs: list[Tensor] = []
        for i, queries in enumerate(q_blocks):
            window = slice(max(i - beside, 0), min(i + 1 + (0 if self.causal else beside), n))
            near_k, near_v = (torch.cat(blocks[window], dim=2) for blocks in (k_blocks, v_blocks))
            start = (window.start - (i - beside)) * size
            near = bias[:, : queries.shape[2], start : start + near_k.shape[2]]
            real = None if key_blocks is None else torch.cat(key_blocks[window], dim=1)
            outputs.append(_attend_with(near, queries, near_k, near_v, real))
        return torch.cat(outputs, dim=2)

    def _attend_to_all(self, q: Tensor, k: Tensor, v: Tensor, keys: Tensor | None) -> Tensor:
        masks: list[Mask] = [Causal()] if self.causal else []
        masks += [] if keys is None else [Keys(keys)]
        return attend(q, k, v, mask=functools.reduce(operator.and_, masks) if masks else None)

    def _bias(self, span: Tensor, size: int, beside: int) -> Tensor:
        """log m of each head for each place in a block of queries and in its window: the same for every block."""
        rows = beside * size + torch.arange(size, device=span.device)
        columns = torch.arange((beside + 1 + (0 if self.causal else beside)) * size, device=span.device)
        distance = rows[:, None] - columns
        fade = ((self.ramp + span[:, None, None] - distance.abs()) / self.ramp).clamp(0.0, 1.0)
        if self.causal:
            fade = fade.masked_fill(distance < 0, 0.0)
        seen = fade > 0
        return torch.where(seen, fade, 1.0).log().masked_fill(~seen, _hidden(span))


def _attend_with(bias: Tensor, q: Tensor, k: Tensor, v: Tensor, real: Tensor | None) -> Tensor:
    """m exp(s) / Σ m exp(s) is softmax(s + log m); without gradients `torch` never holds the weights."""
    if real is None:  # every query sees itself
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias[None])
    bias = bias.masked_fill(~real[:, None, None, :], _hidden(q))  # b h r w
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
    return torch.where((bias > _hidden(q)).any(dim=-1, keepdim=True), out, 0.0)


def _hidden(like: Tensor) -> float:
    # Half of the lowest: a score is added to it, and -inf must not come out.
    return torch.finfo(like.dtype).min / 2
