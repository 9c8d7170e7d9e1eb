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


@pytest.mark.parametrize("mask", [None, Causal()], ids=["no mask", "causal"])
def test_one_call_whatever_the_lengths(mask: Mask | None, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[tuple[int, ...], list[list[bool]]]] = []

    def spy(q: Tensor, k: Tensor, v: Tensor, scoring: Scoring) -> Tensor:
        (hidden,) = (part for part in scoring.mask.parts() if isinstance(part, Keys))  # pyright: ignore[reportOptionalMemberAccess]
        calls.append((tuple(q.shape), hidden.keys.tolist()))
        return q

    monkeypatch.setattr(padded, "attend_dense", spy)
    leaves = draw(6, 6)
    sizes = {"lengths": torch.tensor([1, 3, 2]), "key_lengths": torch.tensor([1, 3, 2])}
    out = attend_padded(*leaves, Scoring(scale=1.0, mask=mask), **sizes)
    assert calls == [((3, 4, 3, 6), [[True, False, False], [True, True, True], [True, True, False]])]
    assert torch.equal(out, leaves[0])
