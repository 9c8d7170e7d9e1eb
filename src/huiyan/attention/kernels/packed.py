"""Attention over sequences laid end to end: on the CPU no padding is ever computed.

A query sees the keys of its own sequence only. On the CPU, neighbours of equal length form a *run*, which is a dense
batch by a mere view, so that a batch sorted by length costs a handful of fused calls (one block-diagonal mask over
the whole row would be some 20 times slower). On an accelerator, where many small launches are what costs, the batch
is padded for this one call.
"""

from itertools import groupby
from typing import NamedTuple, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor

from huiyan.attention.kernels.sdpa import attend_dense
from huiyan.attention.masks import Keys, Mask


def attend_packed(
    q: Float[Tensor, "t h d"],
    k: Float[Tensor, "s g d"],
    v: Float[Tensor, "s g d"],
    *,
    lengths: Int[Tensor, " b"],
    key_lengths: Int[Tensor, " b"],
    mask: Mask | None,
    scale: float,
) -> Float[Tensor, "t h d"]:
    """Attention inside each of `b` sequences; ``lengths`` and ``key_lengths`` are on the CPU and add up to t and s."""
    attend_sequences = _attend_by_runs if q.device.type == "cpu" else _attend_by_padding
    return attend_sequences(q, k, v, lengths=lengths, key_lengths=key_lengths, mask=mask, scale=scale)


class _Run(NamedTuple):
    n_queries: int
    n_keys: int
    n_sequences: int


def _attend_by_runs(
    q: Tensor, k: Tensor, v: Tensor, *, lengths: Tensor, key_lengths: Tensor, mask: Mask | None, scale: float
) -> Tensor:
    runs = _runs(lengths, key_lengths)
    query_tokens = [run.n_queries * run.n_sequences for run in runs]
    key_tokens = [run.n_keys * run.n_sequences for run in runs]
    outputs: list[Tensor] = []
    # `split` and not slices: the gradient of a split is one concatenation, that of each slice a full row of zeros.
    pieces = zip(torch.split(q, query_tokens), *(torch.split(x, key_tokens) for x in (k, v)), strict=True)
    for run, (q_run, k_run, v_run) in zip(runs, pieces, strict=True):
        out = attend_dense(
            _heads_first(q_run, run.n_sequences),
            _heads_first(k_run, run.n_sequences),
            _heads_first(v_run, run.n_sequences),
            mask=mask,
            scale=scale,
        )
        outputs.append(out.transpose(1, 2).flatten(0, 1))
    return torch.cat(outputs) if outputs else q


def _runs(lengths: Tensor, key_lengths: Tensor) -> list[_Run]:
    both = torch.stack([lengths, key_lengths], dim=1)
    pairs = cast("list[list[int]]", both.tolist())  # pyright: ignore[reportUnknownMemberType] - torch leaves it open
    return [_Run(n_queries, n_keys, len(list(run))) for (n_queries, n_keys), run in groupby(pairs)]


def _heads_first(x: Tensor, n_sequences: int) -> Tensor:
    # (b l) h d → b h l d
    return x.view(n_sequences, len(x) // n_sequences, *x.shape[1:]).transpose(1, 2)


def _attend_by_padding(
    q: Tensor, k: Tensor, v: Tensor, *, lengths: Tensor, key_lengths: Tensor, mask: Mask | None, scale: float
) -> Tensor:
    if not len(lengths):
        return q
    queries, keys = _Padding(lengths, q.device), _Padding(key_lengths, q.device)
    hide = Keys(keys.visible)
    out = attend_dense(
        queries.pad(q), keys.pad(k), keys.pad(v), mask=hide if mask is None else mask & hide, scale=scale
    )
    return out.transpose(1, 2).flatten(0, 1).index_select(0, queries.rows)


class _Padding:
    """Where packed tokens stand in a padded batch.

    Padding is on the left: a causal mask is aligned at the bottom right, so that the last query of a sequence meets
    its last key in the same corner, however long the two are.
    """

    def __init__(self, lengths: Tensor, device: torch.device) -> None:
        self.n_sequences, self.longest = len(lengths), int(lengths.max())
        starts = torch.arange(1, self.n_sequences + 1) * self.longest - lengths.cumsum(0)
        rows = torch.arange(int(lengths.sum())) + starts.repeat_interleave(lengths)
        visible = torch.arange(self.longest, 0, -1) <= lengths[:, None]
        self.rows = rows.to(device, non_blocking=True)  # t, of the flattened batch
        self.visible = visible.to(device, non_blocking=True)  # b l

    def pad(self, x: Tensor) -> Tensor:
        """`t h d` → `b h l d`, with zeros."""
        padded = x.new_zeros(self.n_sequences * self.longest, *x.shape[1:]).index_copy(0, self.rows, x)
        return _heads_first(padded, self.n_sequences)
