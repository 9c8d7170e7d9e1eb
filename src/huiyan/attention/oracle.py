"""Attention as the formula says it: what every kernel is tested against, and the place to start reading."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from huiyan.attention.masks import Mask


def attend_by_formula(
    q: Float[Tensor, "b h q d"],
    k: Float[Tensor, "b g k d"],
    v: Float[Tensor, "b g k d"],
    *,
    mask: Mask | None,
    scale: float,
) -> Float[Tensor, "b h q d"]:
    """Scaled dot-product attention, softmax(scale · q kᵀ) v, in three steps.

    Holds the whole map `b h q k`. Runs in any dtype: float64 makes it the reference.

    Source: Vaswani et al. 2017, eq. 1. Differs: a row that may attend to nothing gives 0 instead of NaN.
    """
    k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))

    scores = scale * q @ k.transpose(-2, -1)  # b h q k
    weights = masked_softmax(scores, mask)  # b h q k, rows sum to 1
    return weights @ v  # b h q d


def masked_softmax(scores: Float[Tensor, "b h q k"], mask: Mask | None) -> Float[Tensor, "b h q k"]:
    """Softmax over the keys a row may attend to; a row with none is 0, and so are its gradients."""
    if mask is None:
        return scores.softmax(dim=-1)
    allowed = mask.allowed(scores.shape[-2], scores.shape[-1], scores.device)
    # The lowest finite number, not -inf: a row of -inf alone would be NaN, here and in the backward pass.
    lowest = torch.finfo(scores.dtype).min
    return scores.masked_fill(~allowed, lowest).softmax(dim=-1).masked_fill(~allowed, 0.0)


def attend_each_by_formula(
    q: Float[Tensor, "t h d"],
    k: Float[Tensor, "s g d"],
    v: Float[Tensor, "s g d"],
    *,
    lengths: Int[Tensor, " b"],
    key_lengths: Int[Tensor, " b"],
    mask: Mask | None,
    scale: float,
) -> Float[Tensor, "t h d"]:
    """The formula on packed sequences, one after the other."""
    rows: list[Tensor] = []
    ends, key_ends = lengths.cumsum(0), key_lengths.cumsum(0)
    for end, length, key_end, key_length in zip(ends, lengths, key_ends, key_lengths, strict=True):
        own, own_keys = slice(end - length, end), slice(key_end - key_length, key_end)
        heads_first = (x.transpose(0, 1)[None] for x in (q[own], k[own_keys], v[own_keys]))
        rows.append(attend_by_formula(*heads_first, mask=mask, scale=scale)[0].transpose(0, 1))
    return torch.cat(rows) if rows else q
