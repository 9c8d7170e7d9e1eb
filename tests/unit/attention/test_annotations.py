"""The shapes in the signatures are true: beartype checks them through jaxtyping on real calls."""

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from typing import Any

import pytest
import torch
from beartype import beartype
from jaxtyping import TypeCheckError, jaxtyped

from huiyan import attention
from huiyan.attention.blocks import Block, Span
from huiyan.attention.dropout import Dropout
from huiyan.attention.functional import attend
from huiyan.attention.kernels.blockwise import attend_blockwise
from huiyan.attention.kernels.flex import attend_flex
from huiyan.attention.kernels.packed import attend_packed
from huiyan.attention.kernels.padded import attend_padded
from huiyan.attention.kernels.runs import attend_by_runs
from huiyan.attention.kernels.sdpa import attend_dense
from huiyan.attention.masks import Causal, Global, Keys, Mask, Prefix, Segments, Where, Window
from huiyan.attention.multihead import MultiHeadAttention
from huiyan.attention.oracle import attend_by_formula, attend_each_by_formula, compare, mix, project, weigh
from huiyan.attention.scoring import Scoring

checked = jaxtyped(typechecker=beartype)
Q, K = torch.randn(2, 4, 5, 8), torch.randn(2, 2, 3, 8)
PACKED_Q, PACKED_K = torch.randn(5, 4, 8), torch.randn(6, 2, 8)
LENGTHS = {"lengths": torch.tensor([2, 3]), "key_lengths": torch.tensor([1, 5])}
PLAIN: dict[str, Any] = {"scoring": Scoring(scale=1.0)}


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile:UserWarning")
@pytest.mark.parametrize(
    ("function", "inputs", "options"),
    [
        (attend, (Q, K, K), {}),
        (attend, (PACKED_Q, PACKED_K, PACKED_K), LENGTHS),
        (attend_dense, (Q, K, K), PLAIN),
        (attend_blockwise, (Q, K, K), PLAIN),
        (attend_flex, (Q, K, K), PLAIN | {"compiled": False}),
        (attend_by_formula, (Q, K, K), PLAIN),
        (attend_packed, (PACKED_Q, PACKED_K, PACKED_K), PLAIN | LENGTHS),
        (attend_padded, (PACKED_Q, PACKED_K, PACKED_K), PLAIN | LENGTHS),
        (attend_by_runs, (PACKED_Q, PACKED_K, PACKED_K), PLAIN | LENGTHS),
        (attend_each_by_formula, (PACKED_Q, PACKED_K, PACKED_K), PLAIN | LENGTHS),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_annotations_hold_and_bind(function: Callable[..., Any], inputs: Any, options: dict[str, Any]) -> None:
    """Right shapes pass; a head width that differs in one tensor does not reach the body."""
    assert checked(function)(*inputs, **options).shape == inputs[0].shape
    q, k, v = inputs
    with pytest.raises(TypeCheckError):
        checked(function)(q, k, v[..., :4], **options)
    with pytest.raises(TypeCheckError):
        checked(function)(q.long(), k, v, **options)


def test_the_steps_of_the_formula() -> None:
    """Their shapes hold, for one sequence and for a batch; and a width that differs is refused."""
    for x in (torch.randn(5, 6), torch.randn(2, 5, 6)):
        q, k, v = checked(project)(x, torch.randn(6, 4), torch.randn(5, 6, 4))
        sinks = torch.zeros(1, 1) if x.dim() == 2 else torch.zeros(2, 1, 1)
        weights = checked(weigh)(checked(compare)(q, k), torch.ones(5, 5, dtype=torch.bool), sinks)
        assert checked(mix)(weights, v).shape == v.shape
    with pytest.raises(TypeCheckError):
        checked(project)(torch.randn(5, 6), torch.randn(7, 4))
    with pytest.raises(TypeCheckError):
        checked(compare)(torch.randn(5, 4), torch.randn(5, 3))


@pytest.mark.parametrize(
    "mask",
    [
        Causal(),
        Window(1, 1),
        Prefix(2),
        Global([0]),
        Keys(torch.ones(2, 3).bool()),
        Segments(torch.zeros(2, 4).long(), torch.zeros(3).long()),
        Where(lambda row, column: row > column),
        Causal() & Keys(torch.ones(2, 3).bool()) | ~Prefix(1),
    ],
    ids=lambda mask: type(mask).__name__,
)
def test_masks_and_dropout_broadcast_to_a_map(mask: Mask) -> None:
    block = Block(Span(1, 3), Span(0, 2), 4, 3)
    allowed = checked(type(mask).allowed)(mask, block, torch.device("cpu"))
    assert allowed.expand(2, 4, 2, 2).shape == (2, 4, 2, 2)
    keeps = checked(Dropout.keeps)(Dropout(0.5, 1), Span(0, 2), Span(0, 4), Span(1, 3), Span(0, 2), torch.device("cpu"))
    assert keeps.shape == (2, 4, 2, 2)


def test_the_module_gives_back_what_it_took() -> None:
    module = MultiHeadAttention(8, 2)
    forward = checked(MultiHeadAttention.forward)
    assert forward(module, torch.randn(2, 3, 8)).shape == (2, 3, 8)
    assert forward(module, torch.randn(5, 8), lengths=torch.tensor([5])).shape == (5, 8)
    with pytest.raises(TypeCheckError):
        forward(module, torch.randn(8))


def test_no_constructor_takes_more_than_12_parameters() -> None:
    """Of no class in the room: what differs is handed in as a value, never as one more flag."""
    many: dict[str, int] = {}
    n_classes = 0
    for module in pkgutil.walk_packages(attention.__path__, "huiyan.attention."):
        for name, kind in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if kind.__module__ == module.name and "__init__" in vars(kind):
                n_classes += 1
                taken = len(inspect.signature(kind.__init__).parameters) - 1
                if taken > 12:
                    many[f"{module.name}.{name}"] = taken
    assert n_classes > 20
    assert not many
