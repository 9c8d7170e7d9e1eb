"""Attention over sequences laid end to end: one operator, whatever the lengths.

A query sees the keys of its own sequence only. On the CPU, neighbours of equal length form a *run*, which is a dense
batch by a mere view, so that a batch sorted by length costs a handful of fused calls and no padding is ever computed
(one block-diagonal mask over the whole row would be some 20 times slower). On an accelerator, where many small
launches are what costs, the batch is padded for this one call, unless nearly all of it would be padding.

To ``torch.compile`` all this is one opaque operator, ``huiyan::attend_packed``: lengths are data to it, so that a batch
of other lengths does not compile again. Masks come as a text of numbers, positions as their tables.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from huiyan.attention.dropout import Dropout
from huiyan.attention.kernels import blockwise
from huiyan.attention.kernels.padded import MOST_PADDED, attend_padded
from huiyan.attention.kernels.runs import Run, attend_by_runs, runs
from huiyan.attention.kernels.sdpa import SHORT
from huiyan.attention.mask_text import mask_as_text, mask_from_text
from huiyan.attention.masks import Where
from huiyan.attention.positions.relative import RelativeTerms
from huiyan.attention.scoring import Scoring
from huiyan.attention.shapes import check_sum


def attend_packed(
    q: Float[Tensor, "t h d"],
    k: Float[Tensor, "s g d"],
    v: Float[Tensor, "s g d"],
    scoring: Scoring,
    *,
    lengths: Int[Tensor, " b"],
    key_lengths: Int[Tensor, " b"],
) -> Float[Tensor, "t h d"]:
    """Attention inside each of `b` sequences; ``lengths`` and ``key_lengths`` are on the CPU and add up to t and s."""
    if scoring.mask is not None and scoring.mask.has(Where):
        # A function of Python is no argument of an operator.
        return attend_by_runs(q, k, v, scoring, lengths=lengths, key_lengths=key_lengths)
    mask = mask_as_text(scoring.mask)  # refuses a kind that has no text, on either way
    if not torch.compiler.is_compiling() and not _is_recorded((q, k, v, *scoring.tensors())):
        # Nobody traces it and no gradient will be asked for: an operator would cost more than a short text does.
        return _forward(q, k, v, scoring, lengths, key_lengths, want_lse=False)[0]
    p, seed = (0.0, 0) if scoring.dropout is None else (scoring.dropout.p, scoring.dropout.seed)
    if not isinstance(seed, Tensor):
        signed = (seed + (1 << 63)) % (1 << 64) - (1 << 63)  # the same 64 bits
        seed = torch.tensor(signed, device="cpu")
    numbers = (0 if scoring.terms is None else scoring.terms.lowest, scoring.scale, scoring.soft_cap, p)
    out, _ = _operator(q, k, v, lengths, key_lengths, *scoring.tensors(), seed, *numbers, mask)
    return out


@torch.library.custom_op("huiyan::attend_packed", mutates_args=())
def _operator(  # noqa: PLR0913, PLR0917 - an operator takes tensors and numbers, not values made of them
    q: Tensor,
    k: Tensor,
    v: Tensor,
    lengths: Tensor,
    key_lengths: Tensor,
    bias: Tensor | None,
    keys: Tensor | None,
    queries: Tensor | None,
    values: Tensor | None,
    sinks: Tensor | None,
    seed: Tensor,
    lowest: int,
    scale: float,
    soft_cap: float | None,
    dropout: float,
    mask: str,
) -> tuple[Tensor, Tensor]:
    """The output, `t h d`, and the log-sum-exp of each row, `t h`."""
    check_sum(lengths, len(q), name="lengths", of="q")
    check_sum(key_lengths, len(k), name="key_lengths", of="k")
    scoring = _scoring((bias, keys, queries, values, sinks), seed, lowest, scale, soft_cap, dropout, mask)
    out, lse = _forward(q, k, v, scoring, lengths, key_lengths, want_lse=True)
    return out, lse


def _forward(
    q: Tensor, k: Tensor, v: Tensor, scoring: Scoring, lengths: Tensor, key_lengths: Tensor, *, want_lse: bool
) -> tuple[Tensor, Tensor]:
    """The output, `t h d`, and, where it is wanted, the log-sum-exp of each row, `t h`."""
    if _is_padded(q, scoring, lengths, key_lengths):
        # The backward pass of the padded batch computes it again, and needs no log-sum-exp.
        out = attend_padded(q, k, v, scoring, lengths=lengths, key_lengths=key_lengths).contiguous()
        return out, q.new_zeros(q.shape[:2], dtype=torch.promote_types(q.dtype, torch.float32))
    every = list(runs(lengths, key_lengths))
    if not want_lse and len(every) == 1:
        result, lse = _forward_run(every[0], q, k, v, scoring)
        return result.transpose(1, 2).flatten(0, 1), lse
    out = torch.empty_like(q, memory_format=torch.contiguous_format)
    lse = q.new_empty((*q.shape[:2], 1), dtype=torch.promote_types(q.dtype, torch.float32))
    for run in every:
        result, own_lse = _forward_run(run, q, k, v, scoring)
        run.queries(out).copy_(result)
        if want_lse:
            run.queries(lse).copy_(own_lse[..., None])
    return out, lse.squeeze(-1)


def _forward_run(run: Run, q: Tensor, k: Tensor, v: Tensor, scoring: Scoring) -> tuple[Tensor, Tensor]:
    """The output of a run, `b h q d`, and its log-sum-exp, `b h q`."""
    own, own_q, own_k, own_v = run.scoring(scoring), run.queries(q), run.keys(k), run.keys(v)
    if _is_flash(q, own, run):
        return _flash(own_q, own_k, own_v, 0.0, own.mask is not None, scale=own.scale)
    return blockwise.forward(own_q, own_k, own_v, own)


def _is_recorded(tensors: Sequence[Tensor | None]) -> bool:
    """Whether a gradient may be asked for."""
    return torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in tensors)


@_operator.register_fake
def _(q: Tensor, *_others: Any) -> tuple[Tensor, Tensor]:
    out = torch.empty_like(q, memory_format=torch.contiguous_format)
    return out, q.new_empty(q.shape[:2], dtype=torch.promote_types(q.dtype, torch.float32))


@torch.library.custom_op("huiyan::attend_packed_backward", mutates_args=())
def _backward_operator(  # noqa: PLR0913, PLR0917 - as above
    d_out: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    lengths: Tensor,
    key_lengths: Tensor,
    bias: Tensor | None,
    keys: Tensor | None,
    queries: Tensor | None,
    values: Tensor | None,
    sinks: Tensor | None,
    seed: Tensor,
    lowest: int,
    scale: float,
    soft_cap: float | None,
    dropout: float,
    mask: str,
    wanted: list[bool],
) -> list[Tensor]:
    """Gradients of q, k and v, and of those of the five tables that are wanted."""
    tables = (bias, keys, queries, values, sinks)
    scoring = _scoring(tables, seed, lowest, scale, soft_cap, dropout, mask)
    if _is_padded(q, scoring, lengths, key_lengths):
        with torch.enable_grad(), _recording():
            own = [
                None if x is None else x.detach().requires_grad_(wish) for x, wish in zip(tables, wanted, strict=True)
            ]
            again = _scoring(own, seed, lowest, scale, soft_cap, dropout, mask)
            leaves = [x.detach().requires_grad_() for x in (q, k, v)]
            result = attend_padded(leaves[0], leaves[1], leaves[2], again, lengths=lengths, key_lengths=key_lengths)
        leaves += [x for x in own if x is not None and x.requires_grad]
        # Laid out as the fake operator says, whatever the layout of the tables.
        return [x.contiguous() for x in torch.autograd.grad(result, leaves, d_out, materialize_grads=True)]
    d_q, d_k, d_v = (torch.empty_like(x, memory_format=torch.contiguous_format) for x in (q, k, v))
    d_tables = [
        torch.zeros_like(x, dtype=lse.dtype, memory_format=torch.contiguous_format) if x is not None and wish else None
        for x, wish in zip(tables, wanted, strict=True)
    ]
    for run in runs(lengths, key_lengths):
        own = run.scoring(scoring)
        own_q, own_k, own_v = run.queries(q), run.keys(k), run.keys(v)
        own_d_out, own_out, own_lse = (run.queries(x) for x in (d_out, out, lse[..., None]))
        if _is_flash(q, own, run):
            dtype = lse.dtype if run.n_keys <= SHORT else q.dtype
            qkv_out = (x.to(dtype) for x in (own_d_out, own_q, own_k, own_v, own_out))
            gradients = _flash_backward(*qkv_out, own_lse[..., 0], 0.0, own.mask is not None, scale=own.scale)
        else:
            *gradients, own_tables = blockwise.backward(
                own_d_out, (own_q, own_k, own_v), own_out, own_lse[..., 0], own, wanted=wanted
            )
            for d_table, own_table in zip(d_tables, own_tables, strict=True):
                if d_table is not None and own_table is not None:
                    d_table.add_(own_table)
        run.queries(d_q).copy_(gradients[0])
        run.keys(d_k).copy_(gradients[1])
        run.keys(d_v).copy_(gradients[2])
    return [
        d_q,
        d_k,
        d_v,
        *(d.to(x.dtype) for d, x in zip(d_tables, tables, strict=True) if d is not None and x is not None),
    ]


@_backward_operator.register_fake
def _(_d_out: Tensor, q: Tensor, k: Tensor, v: Tensor, *others: Any) -> list[Tensor]:
    tables = [x for x, wish in zip(others[4:9], others[-1], strict=True) if wish]
    return [torch.empty_like(x, memory_format=torch.contiguous_format) for x in (q, k, v, *tables)]


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, seed, lowest, scale, soft_cap, dropout, mask = inputs
    ctx.save_for_backward(*output, *tensors, seed)
    ctx.numbers = (lowest, scale, soft_cap, dropout, mask)


def _differentiate(ctx: Any, d_out: Tensor, _d_lse: Tensor) -> tuple[Tensor | None, ...]:
    out, lse, q, k, v, lengths, key_lengths, *tables, seed = ctx.saved_tensors
    wanted = [x is not None and wish for x, wish in zip(tables, ctx.needs_input_grad[5:10], strict=True)]
    saved = (q, k, v, out, lse, lengths, key_lengths, *tables, seed)
    d_q, d_k, d_v, *rest = _backward_operator(d_out, *saved, *ctx.numbers, wanted)
    given = iter(rest)
    d_tables = [next(given) if wish else None for wish in wanted]
    return d_q, d_k, d_v, None, None, *d_tables, None, None, None, None, None, None


_operator.register_autograd(_differentiate, setup_context=_save)


def _recording() -> AbstractContextManager[None]:
    """Inside an operator autograd is switched off beneath ``enable_grad``; this lets it record there too.

    torch has no public name for the guard.
    """
    return torch._C._SetExcludeDispatchKeyGuard(torch._C.DispatchKey.AutogradFunctionality, False)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]


_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu  # noqa: SLF001 - the one that gives the log-sum-exp
_flash_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward  # noqa: SLF001 - and takes it


def _scoring(
    tables: Sequence[Tensor | None],
    seed: Tensor,
    lowest: int,
    scale: float,
    soft_cap: float | None,
    dropout: float,
    mask: str,
) -> Scoring:
    bias, keys, queries, values, sinks = tables
    terms = RelativeTerms(lowest=lowest, bias=bias, keys=keys, queries=queries, values=values)
    return Scoring(
        scale=scale,
        mask=mask_from_text(mask),
        terms=terms if terms.has_tables else None,
        soft_cap=soft_cap,
        sinks=sinks,
        dropout=Dropout(dropout, int(seed)) if dropout else None,
    )


def _is_flash(q: Tensor, scoring: Scoring, run: Run) -> bool:
    """Whether torch's fused kernel takes a run: the one that gives the log-sum-exp is for the CPU."""
    return (
        q.device.type == "cpu" and run.n_queries > 0 and run.n_keys > 0 and scoring.is_fused(run.n_queries, run.n_keys)
    )


def _is_padded(q: Tensor, scoring: Scoring, lengths: Tensor, key_lengths: Tensor) -> bool:
    """Whether the batch is padded: on an accelerator, where that moves no position and most of it is no padding."""
    if q.device.type == "cpu" or len(lengths) == 0:
        return False
    moves = scoring.mask is not None or scoring.terms is not None
    full = all(len(x) * int(x.max()) <= MOST_PADDED * int(x.sum()) for x in (lengths, key_lengths))
    return full and (not moves or torch.equal(lengths, key_lengths))
