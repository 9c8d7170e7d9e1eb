"""The two ways to attend within packed sequences agree; both run on the CPU here."""

import pytest
import torch

from huiyan.attention.kernels.packed import _attend_by_padding, _attend_by_runs, _runs
from huiyan.attention.masks import Causal, Mask


@pytest.mark.parametrize("mask", [None, Causal()], ids=["no mask", "causal"])
@pytest.mark.parametrize(
    ("lengths", "key_lengths"),
    [([3, 3, 7, 1], [3, 3, 7, 1]), ([2, 0, 4], [2, 0, 4]), ([2, 3, 1], [5, 1, 0]), ([0, 0], [0, 2]), ([2], [0])],
    ids=str,
)
def test_padding_gives_what_runs_give(lengths: list[int], key_lengths: list[int], mask: Mask | None) -> None:
    torch.manual_seed(0)
    leaves = [
        torch.randn(sum(lengths), 4, 8, dtype=torch.float64, requires_grad=True),
        *(torch.randn(sum(key_lengths), 2, 8, dtype=torch.float64, requires_grad=True) for _ in "kv"),
    ]
    results = []
    for way in (_attend_by_runs, _attend_by_padding):
        out = way(*leaves, lengths=torch.tensor(lengths), key_lengths=torch.tensor(key_lengths), mask=mask, scale=0.3)
        results.append((out, *torch.autograd.grad(out.sin().sum(), leaves)))
    for runs, padding in zip(*results, strict=True):
        torch.testing.assert_close(padding, runs, atol=1e-12, rtol=1e-12)


def test_neighbours_of_equal_length_form_one_run() -> None:
    runs = _runs(torch.tensor([4, 4, 2, 2, 2, 4]), torch.tensor([4, 4, 2, 2, 1, 4]))
    assert [tuple(run) for run in runs] == [(4, 4, 2), (2, 2, 2), (2, 1, 1), (4, 4, 1)]


def test_runs_are_views_of_what_came_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """No copy is made on the way into the fused kernel."""
    seen = []

    def spy(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, **_: object) -> torch.Tensor:
        seen.append(q.untyped_storage().data_ptr())
        return q

    monkeypatch.setattr("huiyan.attention.kernels.packed.attend_dense", spy)
    q = torch.randn(8, 2, 4)
    lengths = torch.tensor([2, 2, 4])
    out = _attend_by_runs(q, q, q, lengths=lengths, key_lengths=lengths, mask=None, scale=1.0)
    assert seen == [q.untyped_storage().data_ptr()] * 2
    torch.testing.assert_close(out, q)
