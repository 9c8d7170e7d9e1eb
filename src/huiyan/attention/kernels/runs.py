"""Packed sequences as runs: neighbours of equal length are a dense batch, by a mere view."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import groupby
from typing import NamedTuple, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor

from huiyan.attention.blocks import Block, Sees
from huiyan.attention.kernels.blockwise import attend_blockwise
from huiyan.attention.scoring import Scoring


class Run(NamedTuple):
    """Neighbours that have as many queries and as many keys."""

    first_sequence: int
    n_sequences: int
    first_query: int
    n_queries: int
    first_key: int
    n_keys: int

    def queries(self, x: Float[Tensor, "t h d"]) -> Float[Tensor, "b h q d"]:
        """The view of this run's queries as a dense batch."""
        own = x.narrow(0, self.first_query, self.n_sequences * self.n_queries)
        return own.unflatten(0, (self.n_sequences, self.n_queries)).transpose(1, 2)

    def keys(self, x: Float[Tensor, "s g d"]) -> Float[Tensor, "b g k d"]:
        """The view of this run's keys or values as a dense batch."""
        own = x.narrow(0, self.first_key, self.n_sequences * self.n_keys)
        return own.unflatten(0, (self.n_sequences, self.n_keys)).transpose(1, 2)

    def scoring(self, scoring: Scoring) -> Scoring:
        """The variants as they apply to this run: no mask where all is seen."""
        mask = scoring.mask
        if mask is None and scoring.dropout is None:
            return scoring  # nothing asks which sequence it is
        if mask is not None and not (self.n_queries and self.n_keys):
            mask = None
        if mask is not None and mask.sees(Block.whole(self.n_queries, self.n_keys)) is Sees.ALL:
            mask = None
        return replace(scoring, mask=mask, first_sequence=self.first_sequence)


def runs(lengths: Int[Tensor, " b"], key_lengths: Int[Tensor, " b"]) -> Iterator[Run]:
    """The runs of a packed batch, in order."""
    numbers: list[int] = lengths.tolist()
    pairs = zip(numbers, numbers if key_lengths is lengths else cast("list[int]", key_lengths.tolist()), strict=True)
    sequence = query = key = 0
    for (n_queries, n_keys), members in groupby(pairs):
        n_sequences = len(list(members))
        yield Run(sequence, n_sequences, query, n_queries, key, n_keys)
        sequence, query, key = sequence + n_sequences, query + n_sequences * n_queries, key + n_sequences * n_keys


def attend_by_runs(
    q: Float[Tensor, "t h d"],
    k: Float[Tensor, "s g d"],
    v: Float[Tensor, "s g d"],
    scoring: Scoring,
    *,
    lengths: Int[Tensor, " b"],
    key_lengths: Int[Tensor, " b"],
    dense: Callable[[Tensor, Tensor, Tensor, Scoring], Tensor] = attend_blockwise,
) -> Float[Tensor, "t h d"]:
    """Each run through a dense kernel, for what the operator does not take."""
    all_runs = list(runs(lengths, key_lengths))
    # `split` and not slices: the gradient of a split is one concatenation, that of each slice a full row of zeros.
    q_runs = torch.split(q, [run.n_sequences * run.n_queries for run in all_runs])
    k_runs, v_runs = (torch.split(x, [run.n_sequences * run.n_keys for run in all_runs]) for x in (k, v))
    outputs: list[Tensor] = []
    for run, *qkv in zip(all_runs, q_runs, k_runs, v_runs, strict=True):
        own_q, own_k, own_v = (x.unflatten(0, (run.n_sequences, -1 if len(x) else 0)).transpose(1, 2) for x in qkv)
        outputs.append(dense(own_q, own_k, own_v, run.scoring(scoring)).transpose(1, 2).flatten(0, 1))
    return torch.cat(outputs) if outputs else q
