"""The operator for packed sequences: what `torch` asks of an operator, and the way an accelerator takes."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from huiyan.attention.dropout import Dropout
from huiyan.attention.kernels import packed
from huiyan.attention.kernels.packed import attend_packed
from huiyan.attention.kernels.runs import runs
from huiyan.attention.masks import Causal, Global, Mask, Where, Window
from huiyan.attention.oracle import attend_each_by_formula
from huiyan.attention.positions.relative import RelativeTerms
from huiyan.attention.scoring import Scoring

H, G, D = 4, 2, 8


def draw(*shapes: tuple[int, ...], dtype: torch.dtype = torch.float64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes]


def tokens(lengths: list[int], key_lengths: list[int]) -> tuple[list[Tensor], dict[str, Tensor]]:
    n, n_keys = sum(lengths), sum(key_lengths)
    leaves = [x.requires_grad_() for x in draw((n, H, D), (n_keys, G, D), (n_keys, G, D))]
    return leaves, {"lengths": torch.tensor(lengths), "key_lengths": torch.tensor(key_lengths)}


def everything(mask: Mask | None = None) -> Scoring:
    bias, keys, queries, values, sinks = draw((H, 9), (1, 9, D), (H, 9, D), (1, 9, D), (H,))
    terms = RelativeTerms(lowest=-4, bias=bias, keys=keys, queries=queries, values=values)
    return Scoring(scale=0.3, mask=mask, terms=terms, soft_cap=4.0, sinks=sinks, dropout=Dropout(0.3, 9))


@pytest.mark.parametrize("mask", [None, Causal(), Window(2, 1) | Global([0])], ids=str)
@pytest.mark.parametrize("variants", [False, True], ids=["plain", "everything"])
@pytest.mark.parametrize(
    ("lengths", "key_lengths"),
    [
        ([3, 3, 7, 1], [3, 3, 7, 1]),
        ([2, 0, 4], [2, 0, 4]),
        ([0, 0], [0, 0]),
        ([70, 2, 70], [70, 2, 70]),
        ([2, 3, 3, 4, 0, 1], [5, 1, 1, 0, 2, 1]),
        ([0, 0], [0, 2]),
        ([2], [0]),
    ],
    ids=str,
)
def test_runs_and_padding_give_what_the_formula_gives(
    lengths: list[int], key_lengths: list[int], variants: bool, mask: Mask | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Outputs and all gradients; padding only where the operator would choose it on an accelerator."""
    leaves, sizes = tokens(lengths, key_lengths)
    scoring = everything(mask) if variants else Scoring(scale=0.3, mask=mask)
    tensors = [None if x is None else x.requires_grad_() for x in scoring.tensors()]
    scoring = scoring.with_tensors(tensors)
    wanted = [*leaves, *(x for x in tensors if x is not None)]

    def derived(out: Tensor) -> list[Tensor]:
        return [out, *torch.autograd.grad(out.sin().sum(), wanted, materialize_grads=True)]

    expected = derived(attend_each_by_formula(*leaves, scoring, **sizes))
    torch.testing.assert_close(derived(attend_packed(*leaves, scoring, **sizes)), expected, atol=1e-11, rtol=1e-11)

    moves = mask is not None or variants
    meta = torch.zeros(0, device="meta")
    assert packed._is_padded(meta, scoring, *sizes.values()) is (not moves or lengths == key_lengths)
    assert not packed._is_padded(leaves[0], scoring, *sizes.values())
    if packed._is_padded(meta, scoring, *sizes.values()):
        monkeypatch.setattr(packed, "_is_padded", lambda *_: True)
        padded = derived(attend_packed(*leaves, scoring, **sizes))
        torch.testing.assert_close(padded, expected, atol=1e-11, rtol=1e-11)


@pytest.mark.parametrize("variants", [False, True], ids=["plain", "everything"])
@pytest.mark.parametrize("way", ["runs", "padded"])
def test_it_is_an_operator_as_torch_wants_one(way: str, variants: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Schema, fake tensors, autograd and dynamic shapes, by `torch`'s own examination."""
    if way == "padded":
        monkeypatch.setattr(packed, "_is_padded", lambda *_: True)
    leaves, sizes = tokens([4, 4, 1], [4, 4, 1])
    tables = (
        [x.requires_grad_() for x in draw((H, 9), (1, 9, D), (H, 9, D), (1, 9, D), (H,))] if variants else [None] * 5
    )
    numbers = (-4, 0.3, 5.0, 0.2) if variants else (0, 0.3, None, 0.0)
    args = (*leaves, *sizes.values(), *tables, torch.tensor(3), *numbers, '["Causal"]')
    passed = torch.library.opcheck(packed._operator, args)
    assert set(passed.values()) == {"SUCCESS"} and len(passed) >= 4


def test_a_rule_in_python_takes_another_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """A function cannot enter an operator: the runs are computed outside it."""
    leaves, sizes = tokens([3, 3, 2], [3, 3, 2])
    scoring = Scoring(scale=0.3, mask=Where(lambda row, column: row >= column) & Window(2, 2))
    monkeypatch.setattr(packed, "_operator", lambda *_: pytest.fail("the operator was called"))
    expected = attend_each_by_formula(*leaves, scoring, **sizes)
    torch.testing.assert_close(attend_packed(*leaves, scoring, **sizes), expected)


@pytest.mark.parametrize(
    ("variant", "fused"),
    [
        ({}, 2),
        ({"mask": Causal()}, 2),
        ({"mask": Window(9, 9)}, 2),  # sees everything in sequences this short
        ({"mask": Window(1, 0)}, 0),
        ({"soft_cap": 2.0}, 0),
        ({"dropout": Dropout(0.1, 0)}, 0),
    ],
    ids=str,
)
def test_plain_runs_go_to_the_fused_kernel(
    variant: dict[str, Any], fused: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One call a run, with no copy on the way in: the views point into the packed tensors."""
    seen: list[int] = []
    inner = packed._flash

    def spy(q: Tensor, *rest: Any, **options: Any) -> Any:
        seen.append(q.untyped_storage().data_ptr())
        return inner(q, *rest, **options)

    monkeypatch.setattr(packed, "_flash", spy)
    (q, k, v), sizes = tokens([3, 3, 2], [3, 3, 2])
    with torch.no_grad():
        attend_packed(q, k, v, Scoring(scale=0.3, **variant), **sizes)
    assert seen == [q.untyped_storage().data_ptr()] * fused


def test_lengths_are_read_by_the_operator_too() -> None:
    """A traced program cannot look at them before."""
    (q, k, v), _ = tokens([3, 3], [3, 3])
    wrong = {"lengths": torch.tensor([3, 4]), "key_lengths": torch.tensor([3, 3])}
    with pytest.raises(ValueError, match="lengths must be at least 0 and add up to the 6 tokens of q"):
        attend_packed(q, k, v, Scoring(scale=1.0), **wrong)


def test_only_a_cpu_has_the_fused_kernel_that_runs_take() -> None:
    (run,) = runs(torch.tensor([3]), torch.tensor([3]))
    plain = Scoring(scale=1.0, mask=Causal())
    assert packed._is_flash(torch.zeros(0), plain, run)
    assert not packed._is_flash(torch.zeros(0, device="meta"), plain, run)


@pytest.mark.parametrize("way", ["runs", "padded"])
def test_gradients_of_tables_lie_as_the_fake_operator_says(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if way == "padded":
        monkeypatch.setattr(packed, "_is_padded", lambda *_: True)
    leaves, sizes = tokens([4, 1], [4, 1])
    *tables, sinks = (x.mT if x.dim() > 1 else x for x in draw((9, H), (1, D, 9), (H, D, 9), (1, D, 9), (H,)))
    assert not any(x.is_contiguous() for x in tables)
    numbers = (torch.tensor(3), -4, 0.3, None, 0.0, "null")
    with torch.no_grad():
        out, lse = packed._operator(*leaves, *sizes.values(), *tables, sinks, *numbers)
        args = (torch.ones_like(out), *leaves, out, lse, *sizes.values(), *tables, sinks, *numbers, [True] * 5)
        given = packed._backward_operator(*args)
        with FakeTensorMode() as mode:
            faked = [mode.from_tensor(x) if isinstance(x, Tensor) else x for x in args]
            foreseen = packed._backward_operator(*faked)
    assert [x.shape for x in given] == [x.shape for x in foreseen]
    assert all(x.is_contiguous() for x in (*given, *foreseen)) and len(given) == 8


def test_a_batch_that_would_be_nearly_all_padding_is_not_padded() -> None:
    meta, plain = torch.zeros(0, device="meta"), Scoring(scale=1.0)

    def is_padded(lengths: list[int], key_lengths: list[int]) -> bool:
        return packed._is_padded(meta, plain, torch.tensor(lengths), torch.tensor(key_lengths))

    assert is_padded([8, 0, 0, 0], [8, 0, 0, 0])  # four places for each token
    assert not is_padded([8, 0, 0, 0, 0], [8, 0, 0, 0, 0])
    assert not is_padded([1, 1, 1, 1, 1], [8, 0, 0, 0, 0])
    assert not is_padded([1000, *[1] * 99], [1000, *[1] * 99])
