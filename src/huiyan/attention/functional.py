"""The one attention function. Every module, every model and every bridge calls it."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from huiyan.attention.choosing import Kernel, choose_kernel
from huiyan.attention.dropout import Dropout
from huiyan.attention.kernels.blockwise import attend_blockwise
from huiyan.attention.kernels.flex import attend_flex
from huiyan.attention.kernels.packed import attend_packed
from huiyan.attention.kernels.runs import attend_by_runs
from huiyan.attention.kernels.sdpa import attend_dense
from huiyan.attention.masks import Mask
from huiyan.attention.observing import Lengths, told
from huiyan.attention.oracle import attend_by_formula, attend_each_by_formula
from huiyan.attention.positions.relative import ScorePosition
from huiyan.attention.positions.rotary import Rotary
from huiyan.attention.scoring import Scoring
from huiyan.attention.shapes import (
    check_is_mask,
    check_lengths,
    check_mask,
    check_packed_mask,
    check_pairs,
    check_sinks,
    check_sum,
    check_tensors,
    check_terms,
)
from huiyan.core.config import require
from huiyan.core.errors import ConfigError, ShapeError
from huiyan.core.packed import packed_positions

_DENSE: dict[str, Callable[[Tensor, Tensor, Tensor, Scoring], Tensor]] = {
    "oracle": attend_by_formula,
    "sdpa": attend_dense,
    "blockwise": attend_blockwise,
    "flex": attend_flex,
}
_PACKED: dict[str, Callable[..., Tensor]] = {
    "oracle": attend_each_by_formula,
    "packed": attend_packed,
    "blockwise": attend_by_runs,
}


def attend(  # noqa: PLR0913 - the variants of attention; each has a name, and none a flag
    q: Float[Tensor, "b h q d"] | Float[Tensor, "t h d"],
    k: Float[Tensor, "b g k d"] | Float[Tensor, "s g d"],
    v: Float[Tensor, "b g k d"] | Float[Tensor, "s g d"],
    *,
    lengths: Int[Tensor, " b"] | None = None,
    key_lengths: Int[Tensor, " b"] | None = None,
    mask: Mask | None = None,
    position: ScorePosition | Rotary | None = None,
    scale: float | None = None,
    soft_cap: float | None = None,
    sinks: Float[Tensor, " h"] | None = None,
    dropout: float = 0.0,
    seed: int | None = None,
    kernel: Kernel = "auto",
) -> Float[Tensor, "b h q d"] | Float[Tensor, "t h d"]:
    """Scaled dot-product attention, softmax(scale · q kᵀ) v, over a dense batch or over packed sequences.

    Source: Vaswani et al. 2017, eq. 1. Differs: ``scale`` may be 1 (the unscaled form); key heads may be fewer than
    query heads (grouped-query attention, Ainslie et al. 2023); a row that may attend to nothing gives 0.

    Args:
        q: queries, `b h q d`; or packed `t h d`, with ``lengths``.
        k: keys, `b g k d`, or packed `s g d`; g divides h, and each key head serves h / g neighbouring query heads.
        v: values, of the shape of ``k``.
        lengths: tokens in each packed sequence, `b`, int64, on the CPU; a query sees its own sequence only.
        key_lengths: the same for keys, where they are not as many as the queries.
        mask: what may attend to what, such as ``Causal()`` or ``Window(64, 64) | Global([0])``.
        position: a scheme that acts on queries and keys (``Rotary``) or on scores (``T5Bias``, ``XLRelative``…).
        scale: what q·k is multiplied by; None is what ``position`` asks for, or 1/√d.
        soft_cap: scores s become soft_cap · tanh(s / soft_cap), before the mask (Gemma team 2024, section 2).
        sinks: `h`, a score for no key at all, which takes its share of every row's softmax (OpenAI 2025, gpt-oss).
        dropout: probability that a weight is made 0; the others grow so that the mean stays.
        seed: of the dropout: the same seed drops the same weights, whatever the kernel. None draws one from `torch`.
        kernel: "oracle" is the formula itself; "sdpa", "blockwise" and "flex" (CUDA) take dense input, "packed" packed
            input; "auto" takes the one that fits, as ``huiyan.attention.plan`` tells. All are exact.
    Returns:
        The shape and the dtype of ``q``.
    Raises:
        ShapeError: tensors that do not fit together, in shape, dtype or device.
        ConfigError: a kernel that is unknown or does not take this input, or a mask or position that does not.
    """
    packed = lengths is not None
    check_tensors(q, k, v, packed=packed)
    check_is_mask(mask)
    require(soft_cap is None or soft_cap > 0, "soft_cap", "above 0", soft_cap)
    require(0 <= dropout < 1, "dropout", "at least 0 and below 1", dropout)
    if sinks is not None:
        check_sinks(sinks, q)
    if lengths is None:
        if key_lengths is not None:
            raise ShapeError("key_lengths are for packed input, and need lengths beside them. Got key_lengths alone.")
        if mask is not None:
            check_mask(mask, q, k)
    else:
        key_lengths = _check_packed(q, k, lengths, key_lengths, mask)

    if isinstance(position, Rotary):
        q, k = _rotate(position, q, k, lengths, key_lengths)
    elif position is not None and not isinstance(position, ScorePosition):
        raise ConfigError(
            f"attend takes a position that acts on scores, or Rotary. Got {type(position).__name__}.",
            hint="Sinusoidal and Learned positions are added to the rows before they are projected.",
        )
    wanted: float | None = getattr(position, "scale", None) if scale is None else scale
    usual: float = q.shape[-1] ** -0.5
    scoring = Scoring(scale=usual if wanted is None else wanted, mask=mask, soft_cap=soft_cap, sinks=sinks)
    if isinstance(position, ScorePosition):
        q, scoring = _with_terms(position, q, k, scoring, lengths, key_lengths)
    if dropout:
        scoring = replace(scoring, dropout=Dropout(dropout, _seed(seed)))

    name = choose_kernel(kernel, q, k, scoring, packed=packed)
    if lengths is None:
        compute = partial(_DENSE[name], q, k, v, scoring)
    else:
        compute = partial(_PACKED[name], q, k, v, scoring, lengths=lengths, key_lengths=key_lengths)
    if q.device.type == "meta" or not torch.is_autocast_enabled(q.device.type):
        out = compute()
    else:
        # Autocast would round inside a kernel, forwards only: the backward pass would compute other scores than seen.
        with torch.autocast(q.device.type, enabled=False):
            out = compute()
    if not torch.compiler.is_compiling():
        told(q, k, v, out, scoring, None if lengths is None or key_lengths is None else Lengths(lengths, key_lengths))
    return out


def _check_packed(
    q: Tensor, k: Tensor, lengths: Tensor, key_lengths: Tensor | None, mask: Mask | None
) -> Int[Tensor, " b"]:
    """The lengths of the keys, once all is known to fit."""
    key_lengths = lengths if key_lengths is None else key_lengths
    check_lengths(lengths, name="lengths")
    check_lengths(key_lengths, name="key_lengths")
    check_pairs(lengths, key_lengths)
    if not torch.compiler.is_compiling():  # a traced program does not read numbers; the operator looks again
        check_sum(lengths, len(q), name="lengths", of="q")
        if key_lengths is not lengths or len(k) != len(q):
            check_sum(key_lengths, len(k), name="key_lengths", of="k")
    if mask is not None:
        check_packed_mask(mask)
    return key_lengths


def _rotate(
    rotary: Rotary, q: Tensor, k: Tensor, lengths: Tensor | None, key_lengths: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Queries and keys turned by their positions; the last query stands at the last key."""
    if lengths is None or key_lengths is None:
        n_queries, n_keys = q.shape[2], k.shape[2]
        columns = torch.arange(n_keys, device=q.device)
        rows = torch.arange(n_queries, device=q.device) + (n_keys - n_queries)
        q, k = (rotary.rotate(x.transpose(1, 2), at).transpose(1, 2) for x, at in ((q, rows), (k, columns)))
        return q, k
    first_rows = (key_lengths - lengths).repeat_interleave(lengths, output_size=len(q))
    rows = (packed_positions(lengths, len(q)) + first_rows).to(q.device, non_blocking=True)
    columns = packed_positions(key_lengths, len(k)).to(q.device, non_blocking=True)
    return rotary.rotate(q, rows), rotary.rotate(k, columns)


def _with_terms(
    position: ScorePosition,
    q: Tensor,
    k: Tensor,
    scoring: Scoring,
    lengths: Tensor | None,
    key_lengths: Tensor | None,
) -> tuple[Tensor, Scoring]:
    """The queries and the scoring with what a relative position adds to them."""
    if lengths is None or key_lengths is None:
        n_queries, n_keys = q.shape[2], k.shape[2]
    elif torch.compiler.is_compiling():
        n_queries, n_keys = len(q), len(k)  # no sequence is longer than all of them; its length is not read
    else:
        n_queries, n_keys = (int(x.max()) if len(x) else 0 for x in (lengths, key_lengths))
    terms = position.terms(min(0, 1 - n_keys), max(0, n_queries - 1))
    check_terms(terms, q)
    heads_last = q if lengths is not None else q.transpose(1, 2)
    with_bias, terms = terms.without_biases(heads_last, scoring.scale)
    q = with_bias if lengths is not None else with_bias.transpose(1, 2)
    return q, replace(scoring, terms=terms)


def _seed(seed: int | None) -> int | Tensor:
    # A tensor, so that a traced program draws another one in each run.
    return torch.randint(-(1 << 63), (1 << 63) - 1, (), device="cpu") if seed is None else seed
