"""What an attention will take, before it runs: the kernel, the block, the arithmetic and the memory, and why.

The kernel is what ``attend`` takes, by the one decision in ``choosing.py``. Whether it fits is judged by the memory
that the device has in all, not by what is free: a plan that is repeated says the same.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TypedDict, Unpack, get_args

import torch
from torch import nn

from huiyan.attention.arithmetic import Flops, flops
from huiyan.attention.choosing import decide
from huiyan.attention.dropout import Dropout
from huiyan.attention.footprint import Call, footprint, is_fused, seen_block
from huiyan.attention.kernels.sdpa import SHORT
from huiyan.attention.masks import Mask
from huiyan.attention.positions.relative import TABLES, RelativeTerms, ScorePosition
from huiyan.attention.positions.rotary import Rotary
from huiyan.attention.scoring import Scoring
from huiyan.attention.shapes import check_is_mask
from huiyan.core.config import require
from huiyan.core.devices import Precision, device_named, resolve_precision
from huiyan.core.errors import ConfigError, closest
from huiyan.core.memory import total_memory_bytes

_SLOW = 8192  # tokens from which arithmetic is worth a word


class Variants(TypedDict, total=False):
    """What ``attend`` can vary, under its names."""

    mask: Mask | None
    position: ScorePosition | Rotary | None
    soft_cap: float | None
    sinks: bool
    dropout: float


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What one call of ``attend`` will take.

    Args:
        kernel: the kernel that ``attend(kernel="auto")`` takes.
        block: queries and keys that are computed together; None where torch's own kernel sees to it.
        precision: of queries, keys and values.
        flops: additions and multiplications, forward and backward (0 without training).
        moved_bytes: that must be moved at least: inputs read and outputs written once in each pass.
        inputs_bytes: of q, k and v.
        peak_memory_bytes: what the call allocates at its peak beyond q, k and v. The output counts, and in training
            what is saved for the backward pass and the gradients of q, k, v and position tables; the gradient of the
            output, which comes from outside, does not.
        map_bytes: one n² map of weights in the computed precision: the plain formula holds two or more, and here none.
        memory_bytes: what the device has in all.
        fits: whether inputs and peak together are at most that.
        reasons: why it is so, in sentences.
        advice: what would make it fit, or cheaper.
    """

    kernel: str
    block: tuple[int, int] | None
    precision: Precision
    flops: Flops
    moved_bytes: int
    inputs_bytes: int
    peak_memory_bytes: int
    map_bytes: int
    memory_bytes: int
    fits: bool
    reasons: tuple[str, ...]
    advice: tuple[str, ...]


def plan(
    lengths: int | Sequence[int],
    n_heads: int,
    head_width: int,
    *,
    n_kv_heads: int | None = None,
    device: torch.device | str = "cpu",
    memory_bytes: int | None = None,
    precision: str = "fp32",
    training: bool = False,
    packed: bool | None = None,
    **variants: Unpack[Variants],
) -> Plan:
    """What ``attend`` will do with such self-attention, and what it will cost. Nothing is computed or allocated.

    Args:
        lengths: tokens of each sequence, or of the only one.
        n_heads: `h`, query heads.
        head_width: `d`.
        n_kv_heads: `g`, key and value heads; None is as many as query heads.
        device: where; it need not be on this machine if ``memory_bytes`` and ``precision`` are given.
        memory_bytes: of the device; None is what it has in all, or what a container may use of it.
        precision: of q, k and v: fp32, bf16, fp16, or auto for what training would take on the device.
        training: whether a backward pass follows.
        packed: whether the sequences are laid end to end, `t h d`, or are a dense batch, `b h q d`, of equal lengths.
            None is packed for a list and dense for a number.
        variants: ``mask``, ``position``, ``soft_cap`` and ``dropout`` as in ``attend``; ``sinks``: whether there are
            any.
    Raises:
        ConfigError: a number out of range, sequences of unequal lengths in a dense batch, an unknown precision or
            variant, or a device that is not here and whose memory is not given.
    """
    packed = not isinstance(lengths, int) if packed is None else packed
    each = [lengths] if isinstance(lengths, int) else list(lengths)
    n_kv_heads = n_heads if n_kv_heads is None else n_kv_heads
    _check(each, n_heads, n_kv_heads, head_width, variants, packed=packed)
    where = device_named(device)
    found = _precision(precision, where)
    memory = total_memory_bytes(where) if memory_bytes is None else memory_bytes
    require(memory > 0, "memory_bytes", "above 0", memory)
    longest = max(each)
    scoring, terms = _scoring(longest, n_heads, head_width, variants)
    kernel, reason = decide(scoring, longest, longest, device=where.type, packed=packed)
    call = Call(
        runs=tuple((len(list(run)), length) for length, run in groupby(each)),
        n_heads=n_heads,
        n_kv_heads=n_kv_heads,
        head_width=head_width,
        scoring=scoring,
        kernel=kernel,
        number_bytes=4 if found == "fp32" else 2,
        training=training,
        device=where.type,
        rotates=isinstance(variants.get("position"), Rotary),
        moves_queries=terms is not None and terms.content_bias is not None,
        table_bytes=_table_bytes(scoring.terms),
    )
    return _told(call, reason, found, memory)


def _told(call: Call, reason: str, precision: Precision, memory: int) -> Plan:
    sizes, number = call.whole, call.number_bytes
    inputs, peak = sizes.inputs * number, footprint(call).peak
    longest = max(length for _, length in call.runs)
    in_blocks = call.kernel == "blockwise" or (call.kernel == "packed" and not is_fused(call.scoring))
    n_pairs = sum(n * length**2 for n, length in call.runs)
    moved = inputs + sizes.q * number
    if call.training:  # q, k, v, the output and its gradient are read, three gradients written
        moved += 2 * inputs + 2 * sizes.q * number
    fits = inputs + peak <= memory
    return Plan(
        kernel=call.kernel,
        block=seen_block(call, longest) if in_blocks else None,
        precision=precision,
        flops=flops(call),
        moved_bytes=moved,
        inputs_bytes=inputs,
        peak_memory_bytes=peak,
        map_bytes=n_pairs * call.n_heads * call.computed_bytes,
        memory_bytes=memory,
        fits=fits,
        reasons=_reasons(call, reason, in_blocks=in_blocks),
        advice=() if fits else _advice(call, memory),
    )


def _reasons(call: Call, reason: str, *, in_blocks: bool) -> tuple[str, ...]:
    found = [f"{call.kernel}: {reason}."]
    if call.kernel == "packed" and call.device == "cpu":
        inner = "the blockwise kernel" if in_blocks else "torch's fused kernel"
        found.append(f"Neighbours of equal length are computed together, by {inner}.")
    if in_blocks:
        found.append("No map is held: a block of it is computed, used, and computed again in the backward pass.")
    shortest = min(length for _, length in call.runs)
    if call.is_half and call.device == "cpu" and (in_blocks or (call.training and shortest <= SHORT)):
        found.append("Half precision is computed in float32 here, with copies: it saves memory only before and after.")
    if call.device != "cpu":
        found.append(f"What is foreseen of memory has been measured on CPUs only, not on {call.device!r}.")
    return tuple(found)


def _advice(call: Call, memory: int) -> tuple[str, ...]:
    """What would lessen the memory, with what would then be taken."""
    n_sequences = sum(n for n, _ in call.runs)
    found: list[str] = []
    if n_sequences > 1:
        halved = call
        while sum(n for n, _ in halved.runs) > 1 and _taken(halved) > memory:
            halved = replace(halved, runs=_first_half(halved.runs))
        n = sum(n for n, _ in halved.runs)
        found.append(f"Take fewer sequences at a time: {n} of these {n_sequences} take {_gb(_taken(halved))}.")
    lesser = replace(call, number_bytes=2)
    if _taken(lesser) < _taken(call):
        found.append(f"In bf16 it takes {_gb(_taken(lesser))}.")
    if call.training:
        found.append(f"Without a backward pass it takes {_gb(_taken(replace(call, training=False)))}.")
    longest = max(length for _, length in call.runs)
    shorter = longest
    while shorter > 1 and _taken(replace(call, runs=((1, shorter),))) > memory:
        shorter //= 2
    if shorter < longest:
        found.append(f"Cut the sequences: one of {shorter:,} tokens fits.")
    if call.scoring.mask is None and longest >= _SLOW:
        found.append("A window mask lessens the arithmetic, not the memory: that grows with n already, not with n².")
    return tuple(found)


def _taken(call: Call) -> int:
    return call.whole.inputs * call.number_bytes + footprint(call).peak


def _first_half(runs: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
    each = [length for n, length in runs for _ in range(n)]
    half = each[: -(-len(each) // 2)] if len(each) > 1 else each
    return tuple((len(list(run)), length) for length, run in groupby(half))


def _gb(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:,.2f} GB"


def _scoring(longest: int, n_heads: int, head_width: int, variants: Variants) -> tuple[Scoring, RelativeTerms | None]:
    """As ``attend`` builds it, with tensors that have a shape and no numbers; and the terms before biases join them."""
    position, dropout = variants.get("position"), variants.get("dropout", 0.0)
    scoring = Scoring(
        scale=1.0,
        mask=variants.get("mask"),
        soft_cap=variants.get("soft_cap"),
        sinks=torch.empty(n_heads, device="meta") if variants.get("sinks") else None,
        dropout=Dropout(dropout, 0) if dropout else None,
    )
    if not isinstance(position, ScorePosition):
        return scoring, None
    terms = _without_numbers(position).terms(min(0, 1 - longest), max(0, longest - 1))
    _, bare = terms.without_biases(torch.empty(1, longest, n_heads, head_width, device="meta"), 1.0)
    return replace(scoring, terms=bare), terms


def _without_numbers(position: ScorePosition) -> ScorePosition:
    """A copy with tensors on the meta device, in the parts that it borrows too; no number is copied."""
    parts = list(position.modules())
    for part in parts:  # which grow: what is borrowed is an attribute, and no child
        borrowed = [x for x in vars(part).values() if isinstance(x, nn.Module)]
        parts += [x for module in borrowed for x in module.modules() if x not in parts]
    tensors = [x for part in parts for x in (*part.parameters(recurse=False), *part.buffers(recurse=False))]
    # What `deepcopy` finds here it takes for copied.
    return copy.deepcopy(position, {id(x): x.detach().to("meta") for x in tensors})


def _table_bytes(terms: RelativeTerms | None) -> int:
    tables = [] if terms is None else [getattr(terms, name) for name in TABLES]
    return sum(table.numel() * table.element_size() for table in tables if table is not None)


def _precision(precision: str, device: torch.device) -> Precision:
    if precision in get_args(Precision):
        return precision  # pyright: ignore[reportReturnType] - one of its words, as the line above found
    if precision == "auto" and device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError("What auto means hangs on the GPU, and there is none here.", hint="Give fp32, bf16 or fp16.")
    return resolve_precision(precision, device)


def _check(
    lengths: Sequence[int],
    n_heads: int,
    n_kv_heads: int,
    head_width: int,
    variants: Mapping[str, object],
    *,
    packed: bool,
) -> None:
    known = tuple(Variants.__annotations__)
    for name in variants:
        if name not in known:
            raise ConfigError(f"plan has no option {name!r}.", hint=closest(name, known))
    require(len(lengths) > 0 and min(lengths) > 0, "lengths", "one or more, each at least 1", lengths)
    require(n_heads > 0, "n_heads", "at least 1", n_heads)
    fits = n_kv_heads > 0 and n_heads % n_kv_heads == 0
    require(fits, "n_kv_heads", f"a divisor of n_heads, {n_heads}", n_kv_heads)
    require(head_width > 0, "head_width", "at least 1", head_width)
    check_is_mask(variants.get("mask"))
    position = variants.get("position")
    right = position is None or isinstance(position, ScorePosition | Rotary)
    require(right, "position", "Rotary, a position that acts on scores, or None", type(position).__name__)
    equal = packed or min(lengths) == max(lengths)
    require(equal, "lengths", "equal in a dense batch: pad them to one, or plan with packed=True", lengths)
