"""Packed sequences as one padded batch: few launches, which is what counts on an accelerator."""

from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from huiyan.attention.choosing import LARGEST_MASK
from huiyan.attention.kernels.blockwise import attend_blockwise
from huiyan.attention.kernels.sdpa import attend_dense
from huiyan.attention.masks import Causal, Keys, Mask
from huiyan.attention.scoring import Scoring

MOST_PADDED = 4  # places of a padded batch for each token: beyond, padding costs more than many small launches


def attend_padded(
    q: Float[Tensor, "t h d"],
    k: Float[Tensor, "s g d"],
    v: Float[Tensor, "s g d"],
    scoring: Scoring,
    *,
    lengths: Int[Tensor, " b"],
    key_lengths: Int[Tensor, " b"],
) -> Float[Tensor, "t h d"]:
    """The sequences as one dense batch, padded on the right.

    Right where padding moves no position: the keys are as many as the queries in every sequence, or nothing depends on
    where they stand.
    """
    queries, keys = _Padding(lengths, q.device), _Padding(key_lengths, q.device)
    # Under a causal mask no token sees the padding, which comes after all of them.
    if not isinstance(scoring.mask, Causal) and keys.hidden:
        hide = Keys(keys.visible)
        scoring = replace(scoring, mask=hide if scoring.mask is None else scoring.mask & hide)
    dense = attend_dense if scoring.is_plain and _is_small(scoring.mask, queries, keys) else attend_blockwise
    out = dense(queries.pad(q), keys.pad(k), keys.pad(v), scoring)
    return out.transpose(1, 2).flatten(0, 1).index_select(0, queries.rows)


def _is_small(mask: Mask | None, queries: "_Padding", keys: "_Padding") -> bool:
    """Whether little or nothing of a mask is written out for torch's fused kernel: a causal one is square here."""
    if mask is None or isinstance(mask, Causal | Keys):
        return True
    n_maps = keys.n_sequences if mask.has(Keys) else 1
    return n_maps * queries.longest * keys.longest <= LARGEST_MASK


class _Padding:
    """Where packed tokens stand in a padded batch."""

    def __init__(self, lengths: Tensor, device: torch.device) -> None:
        self.n_sequences, self.longest, n = len(lengths), int(lengths.max()), int(lengths.sum())
        self.hidden = self.n_sequences * self.longest - n  # places of padding
        starts = torch.arange(self.n_sequences, device="cpu") * self.longest - (lengths.cumsum(0) - lengths)
        rows = torch.arange(n, device="cpu") + starts.repeat_interleave(lengths)
        visible = torch.arange(self.longest, device="cpu") < lengths[:, None]
        self.rows = rows.to(device, non_blocking=True)  # t, of the flattened batch
        self.visible = visible.to(device, non_blocking=True)  # b l

    def pad(self, x: Tensor) -> Tensor:
        """`t h d` → `b h l d`, with zeros."""
        padded = x.new_zeros(self.n_sequences * self.longest, *x.shape[1:]).index_copy(0, self.rows, x)
        return padded.unflatten(0, (self.n_sequences, self.longest)).transpose(1, 2)
