"""Attention as the formula says it: what every kernel is tested against, and the place to start reading.

Three steps, each a function of its own:

1. ``project``: Q = X W_Q, K = X W_K, V = X W_V;
2. ``compare`` and ``weigh``: S = scale · Q Kᵀ, A = softmax(S);
3. ``mix``: O = A V.

All run in any dtype; float64 makes them the reference.
"""

from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from huiyan.attention.blocks import Block, Span
from huiyan.attention.positions.relative import score_terms, value_terms
from huiyan.attention.scoring import Scoring
from huiyan.core.errors import ShapeError


def project(
    x: Float[Tensor, "*b l m"],
    query: Float[Tensor, "... m d"],
    key: Float[Tensor, "... m d"] | None = None,
    value: Float[Tensor, "... m d"] | None = None,
) -> tuple[Float[Tensor, "*b l d"], Float[Tensor, "*b l d"], Float[Tensor, "*b l d"]]:
    """Step 1: queries, keys and values, Q = X W_Q, K = X W_K, V = X W_V.

    Left out, ``key`` is ``query`` (queries and keys share a projection) and ``value`` is ``key`` (with ``query`` alone
    all three share one). A projection `l m d` has a matrix for each of the `l` positions.

    Raises:
        ShapeError: a projection does not take rows of this width, or has matrices for another number of positions.
    """
    key = query if key is None else key
    value = key if value is None else value
    for name, weight in (("query", query), ("key", key), ("value", value)):
        fits = weight.dim() in (2, 3) and weight.shape[-2] == x.shape[-1]
        if not fits or (weight.dim() == 3 and weight.shape[0] != x.shape[-2]):
            raise ShapeError(
                f"The {name} projection must be `m d`, or `l m d` with a matrix for each position, where x is `l m`. "
                f"Got {tuple(weight.shape)} for x {tuple(x.shape)}."
            )
    q, k, v = (torch.einsum("...lm,lmd->...ld", x, w.expand(x.shape[-2], -1, -1)) for w in (query, key, value))
    return q, k, v


def compare(
    q: Float[Tensor, "*b q d"], k: Float[Tensor, "*b k d"], *, scale: float | None = None
) -> Float[Tensor, "*b q k"]:
    """Step 2, first half: the score of every query with every key, S = scale · Q Kᵀ.

    ``scale`` is 1/√d unless given, which keeps the variance of a score that of its factors; 1 is the unscaled form.
    """
    factor = q.shape[-1] ** -0.5 if scale is None else scale
    return factor * (q @ k.mT)


def weigh(
    scores: Float[Tensor, "*b q k"],
    allowed: Bool[Tensor, "..."] | None = None,
    sinks: Float[Tensor, "*#b 1 1"] | None = None,
) -> Float[Tensor, "*b q k"]:
    """Step 2, second half: A = softmax(S) over the keys a query may attend to; rows sum to 1, or less with a sink.

    A row that may attend to nothing is 0, and so are its gradients.
    """
    if sinks is not None:
        scores = torch.cat([sinks.expand(*scores.shape[:-1], 1), scores], dim=-1)
        allowed = (
            None
            if allowed is None
            else torch.nn.functional.pad(allowed.expand(scores[..., 1:].shape), (1, 0), value=True)
        )
        return weigh(scores, allowed)[..., 1:]
    if allowed is None:
        return scores.softmax(dim=-1)
    # The lowest finite number, not -inf: a row of -inf alone would be NaN, here and in the backward pass.
    lowest = torch.finfo(scores.dtype).min
    return scores.masked_fill(~allowed, lowest).softmax(dim=-1).masked_fill(~allowed, 0.0)


def mix(weights: Float[Tensor, "*b q k"], v: Float[Tensor, "*b k d"]) -> Float[Tensor, "*b q d"]:
    """Step 3: each row of the output is the values, averaged by the row's weights, O = A V."""
    return weights @ v


def attend_by_formula(
    q: Float[Tensor, "b h q d"], k: Float[Tensor, "b g k d"], v: Float[Tensor, "b g k d"], scoring: Scoring
) -> Float[Tensor, "b h q d"]:
    """Attention with all its variants, holding the whole map `b h q k`.

    Source: Vaswani et al. 2017, eq. 1. Differs: a row that may attend to nothing gives 0 instead of NaN.
    """
    block, dtype = Block.whole(q.shape[2], k.shape[2]), q.dtype
    q, k, v, scoring = _in_one_precision(q, k, v, scoring)
    k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))

    scores = compare(q, k, scale=scoring.scale)  # b h q k
    if scoring.terms is not None:
        scores = scores + score_terms(scoring.terms, block.positions, block.columns, q=q, k=k, scale=scoring.scale)
    if scoring.soft_cap is not None:
        scores = scoring.soft_cap * torch.tanh(scores / scoring.soft_cap)

    allowed = None if scoring.mask is None else scoring.mask.allowed(block, q.device)
    sinks = None if scoring.sinks is None else scoring.sinks[:, None, None]
    weights = weigh(scores, allowed, sinks)  # b h q k
    if scoring.dropout is not None:
        sequences, heads = Span(0, q.shape[0]).moved(scoring.first_sequence), Span(0, q.shape[1])
        keeps = scoring.dropout.keeps(sequences, heads, block.rows, block.columns, q.device)
        weights = weights * keeps / scoring.dropout.keep_share

    out = mix(weights, v)  # b h q d
    if scoring.terms is not None:
        out = out + value_terms(scoring.terms, block.positions, block.columns, weights)
    return out.to(dtype)


def attend_each_by_formula(
    q: Float[Tensor, "t h d"],
    k: Float[Tensor, "s g d"],
    v: Float[Tensor, "s g d"],
    scoring: Scoring,
    *,
    lengths: Int[Tensor, " b"],
    key_lengths: Int[Tensor, " b"],
) -> Float[Tensor, "t h d"]:
    """The formula on packed sequences, one after the other."""
    rows: list[Tensor] = []
    ends, key_ends = lengths.cumsum(0), key_lengths.cumsum(0)
    for number, (end, length) in enumerate(zip(ends, lengths, strict=True)):
        own, own_keys = slice(end - length, end), slice(key_ends[number] - key_lengths[number], key_ends[number])
        own_q, own_k, own_v = (x.transpose(0, 1)[None] for x in (q[own], k[own_keys], v[own_keys]))
        out = attend_by_formula(own_q, own_k, own_v, replace(scoring, first_sequence=number))
        rows.append(out[0].transpose(0, 1))
    return torch.cat(rows) if rows else q


def _in_one_precision(q: Tensor, k: Tensor, v: Tensor, scoring: Scoring) -> tuple[Tensor, Tensor, Tensor, Scoring]:
    """All in the widest dtype among them: parameters of a position may be float32 where queries are bfloat16."""
    tensors = scoring.tensors()
    dtype = q.dtype
    for x in tensors:
        dtype = dtype if x is None else torch.promote_types(dtype, x.dtype)
    scoring = scoring.with_tensors([x if x is None else x.to(dtype) for x in tensors])
    return q.to(dtype), k.to(dtype), v.to(dtype), scoring
