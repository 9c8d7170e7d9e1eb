"""Runs: neighbours of equal length as dense batches, without a copy."""

import pytest
import torch
from torch import Tensor

from huiyan.attention.dropout import Dropout
from huiyan.attention.kernels.runs import Run, attend_by_runs, runs
from huiyan.attention.masks import Causal, Mask, Prefix, Window
from huiyan.attention.oracle import attend_by_formula, attend_each_by_formula
from huiyan.attention.scoring import Scoring


def test_neighbours_of_equal_length_form_one_run() -> None:
    lengths, key_lengths = torch.tensor([4, 4, 2, 2, 2, 4]), torch.tensor([4, 4, 2, 2, 1, 4])
    assert list(runs(lengths, key_lengths)) == [
        Run(first_sequence=0, n_sequences=2, first_query=0, n_queries=4, first_key=0, n_keys=4),
        Run(first_sequence=2, n_sequences=2, first_query=8, n_queries=2, first_key=8, n_keys=2),
        Run(first_sequence=4, n_sequences=1, first_query=12, n_queries=2, first_key=12, n_keys=1),
        Run(first_sequence=5, n_sequences=1, first_query=14, n_queries=4, first_key=13, n_keys=4),
    ]
    assert list(runs(torch.zeros(0).long(), torch.zeros(0).long())) == []


def test_a_run_is_a_view() -> None:
    x = torch.arange(7.0).view(7, 1, 1)
    run = Run(1, 2, first_query=1, n_queries=3, first_key=0, n_keys=2)
    assert run.queries(x).flatten(1).tolist() == [[1, 2, 3], [4, 5, 6]]
    assert run.keys(x).flatten(1).tolist() == [[0, 1], [2, 3]]
    assert run.queries(x).untyped_storage().data_ptr() == x.untyped_storage().data_ptr()


@pytest.mark.parametrize(
    ("mask", "kept"),
    [
        (Window(2, 2), None),
        (Prefix(3), None),
        (Window(1, 2), Window(1, 2)),
        (Causal(), Causal()),
        (~Causal(), ~Causal()),
    ],
    ids=str,
)
def test_a_mask_that_sees_the_whole_run_is_dropped(mask: Mask, kept: Mask | None) -> None:
    assert Run(5, 1, 0, 3, 0, 3).scoring(Scoring(scale=1.0, mask=mask)).mask == kept
    assert Run(5, 1, 0, 0, 0, 3).scoring(Scoring(scale=1.0, mask=mask)).mask is None


def test_runs_of_dropout_are_numbered_in_the_whole_batch() -> None:
    q, k, v = torch.randn(3, 8, 2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    sizes = {"lengths": torch.tensor([2, 2, 3, 0, 1]), "key_lengths": torch.tensor([2, 2, 3, 0, 1])}
    scoring = Scoring(scale=1.0, dropout=Dropout(0.5, 3))
    seen: list[int] = []

    def dense(q: Tensor, k: Tensor, v: Tensor, own: Scoring) -> Tensor:
        seen.append(own.first_sequence)
        return attend_by_formula(q, k, v, own)

    out = attend_by_runs(q, k, v, scoring, **sizes, dense=dense)
    assert seen == [0, 2, 3, 4]
    torch.testing.assert_close(out, attend_each_by_formula(q, k, v, scoring, **sizes))
