"""Packed sequences as one padded batch: the way an accelerator takes, run here on the CPU."""

import pytest
import torch
from torch import Tensor

from huiyan.attention.dropout import Dropout
from huiyan.attention.kernels import padded
from huiyan.attention.kernels.padded import attend_padded
from huiyan.attention.masks import Causal, Keys, Mask, Window
from huiyan.attention.oracle import attend_each_by_formula
from huiyan.attention.positions.relative import RelativeTerms
from huiyan.attention.scoring import Scoring


def derived(way: object, leaves: list[Tensor], scoring: Scoring, sizes: dict[str, Tensor]) -> list[Tensor]:
    out = way(*leaves, scoring, **sizes)  # pyright: ignore[reportCallIssue]
    return [out, *torch.autograd.grad(out.sin().sum(), leaves, materialize_grads=True)]


def draw(n: int, n_keys: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = (n, 4, 6), (n_keys, 2, 6), (n_keys, 2, 6)
    return [torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_() for shape in shapes]


@pytest.mark.parametrize(
    "scoring",
    [
        Scoring(scale=0.4),
        Scoring(scale=0.4, mask=Causal()),
        Scoring(scale=0.4, mask=~Window(1, 1)),
        Scoring(scale=0.4, mask=Causal(), soft_cap=2.0, sinks=torch.ones(4).double(), dropout=Dropout(0.4, 2)),
        Scoring(scale=0.4, terms=RelativeTerms(lowest=-3, bias=torch.arange(28.0).double().view(4, 7))),
    ],
    ids=["plain", "causal", "blind rows", "causal with variants", "bias"],
)
@pytest.mark.parametrize("lengths", [[3, 1, 0, 70, 3], [1], [0, 0], [5, 5]], ids=str)
def test_padding_shows_nowhere(lengths: list[int], scoring: Scoring) -> None:
    leaves = draw(sum(lengths), sum(lengths))
    sizes = {"lengths": torch.tensor(lengths), "key_lengths": torch.tensor(lengths)}
    expected = derived(attend_each_by_formula, leaves, scoring, sizes)
    torch.testing.assert_close(derived(attend_padded, leaves, scoring, sizes), expected, atol=1e-11, rtol=1e-11)


def test_without_mask_and_position_keys_may_be_others_in_number() -> None:
    leaves = draw(9, 11)
    sizes = {"lengths": torch.tensor([2, 3, 3, 0, 1]), "key_lengths": torch.tensor([5, 1, 0, 2, 3])}
    for scoring in (Scoring(scale=0.4), Scoring(scale=0.4, soft_cap=2.0, dropout=Dropout(0.4, 2))):
        expected = derived(attend_each_by_formula, leaves, scoring, sizes)
        torch.testing.assert_close(derived(attend_padded, leaves, scoring, sizes), expected, atol=1e-11, rtol=1e-11)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, tuple[int, ...], Mask | None]]:
    """Which dense kernel is called, with queries of what shape and which mask."""
    seen: list[tuple[str, tuple[int, ...], Mask | None]] = []
    for name in ("attend_dense", "attend_blockwise"):

        def spy(q: Tensor, k: Tensor, v: Tensor, scoring: Scoring, name: str = name) -> Tensor:
            seen.append((name, tuple(q.shape), scoring.mask))
            return q

        monkeypatch.setattr(padded, name, spy)
    return seen


Calls = list[tuple[str, tuple[int, ...], Mask | None]]


def attend_lengths(lengths: list[int], mask: Mask | None = None) -> None:
    leaves = draw(sum(lengths), sum(lengths))
    sizes = {"lengths": torch.tensor(lengths), "key_lengths": torch.tensor(lengths)}
    assert torch.equal(attend_padded(*leaves, Scoring(scale=1.0, mask=mask), **sizes), leaves[0])


def test_one_call_whatever_the_lengths(calls: Calls) -> None:
    attend_lengths([1, 3, 2])
    ((name, shape, mask),) = calls
    assert (name, shape) == ("attend_dense", (3, 4, 3, 6)) and isinstance(mask, Keys)
    assert mask.keys.tolist() == [[True, False, False], [True, True, True], [True, True, False]]


@pytest.mark.parametrize("mask", [None, Causal(), Window(1, 1)], ids=str)
def test_equal_lengths_need_no_hiding(mask: Mask | None, calls: Calls) -> None:
    attend_lengths([3, 3], mask)
    assert calls == [("attend_dense", (2, 4, 3, 6), mask)]


def test_a_causal_mask_hides_the_padding(calls: Calls) -> None:
    """It comes after every token: no mask of pairs is written out."""
    attend_lengths([1, 3, 2], Causal())
    assert calls == [("attend_dense", (3, 4, 3, 6), Causal())]


@pytest.mark.parametrize(
    ("lengths", "mask", "kernel"),
    [
        ([5, 4], None, "attend_dense"),  # one row of keys for each sequence
        ([5, 4], Causal(), "attend_dense"),
        ([5, 5], Window(1, 1), "attend_dense"),  # 25 pairs, the same for both
        ([5, 4], Window(1, 1), "attend_blockwise"),  # 50
        ([6, 6], Window(1, 1), "attend_blockwise"),  # 36
    ],
    ids=str,
)
def test_a_large_mask_is_not_written_out(
    lengths: list[int], mask: Mask | None, kernel: str, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(padded, "LARGEST_MASK", 30)
    attend_lengths(lengths, mask)
    assert calls[0][0] == kernel


def test_lengths_are_counted_on_the_cpu_whatever_the_default_device() -> None:
    leaves, lengths = draw(4, 4), torch.tensor([3, 1])
    expected = attend_padded(*leaves, Scoring(scale=1.0), lengths=lengths, key_lengths=lengths)
    with torch.device("meta"):
        out = attend_padded(*leaves, Scoring(scale=1.0), lengths=lengths, key_lengths=lengths)
    torch.testing.assert_close(out, expected)
