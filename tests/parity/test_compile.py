"""Packed attention under torch.compile: one graph, few compilations whatever the lengths, and the same numbers.

Ten batches of other lengths and totals, one of them of a single sequence: `torch` always compiles sizes of 1 by
themselves, which is the second recompilation.
"""

from collections import defaultdict
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.utils._python_dispatch import TorchDispatchMode

from huiyan.attention.functional import attend
from huiyan.attention.kernels import packed
from huiyan.attention.masks import Causal, Global, Mask, Prefix, Window
from huiyan.attention.multihead import MultiHeadAttention
from huiyan.attention.positions.alibi import Alibi
from huiyan.attention.positions.disentangled import Disentangled
from huiyan.attention.positions.rotary import Rotary
from huiyan.attention.positions.shaw import ShawRelative
from huiyan.attention.positions.t5 import T5Bias
from huiyan.attention.positions.xl import XLRelative
from huiyan.models.stack import FeedForward, Stack, TransformerLayer, pre_norm

BATCHES = [[3, 1, 4], [5, 2], [7, 7, 7, 1], [12, 3, 0, 2], [2, 2], [9, 9, 1, 5, 4], [6], [8, 1, 1], [4, 4, 5], [1] * 9]


@pytest.fixture(autouse=True)
def nothing_compiled_before() -> None:
    torch._dynamo.reset()
    torch.manual_seed(0)


def variant(name: str) -> tuple[dict[str, Any], Mask | None]:
    """Options of MultiHeadAttention(16, 4), and a mask."""
    return {
        "plain": ({}, None),
        "rotary": ({"n_kv_heads": 2, "position": Rotary(4), "qk_norm": True, "dropout": 0.1}, Causal()),
        "t5": (
            {"n_kv_heads": 1, "position": T5Bias(4, 8, 16), "sinks": True, "soft_cap": 3.0, "dropout": 0.2},
            Window(3, 3) | Global([0]),
        ),
        "alibi": ({"position": Alibi(4)}, Causal()),
        "xl": ({"position": XLRelative(16, 4)}, Causal() | Prefix(2)),
        "shaw": ({"position": ShawRelative(4, 3), "dropout": 0.1}, None),
        "disentangled": ({"position": Disentangled(16, 4, max_relative_positions=5)}, None),
    }[name]


def compiled(function: Any) -> tuple[Any, CompileCounterWithBackend]:
    counter = CompileCounterWithBackend("aot_eager")
    return torch.compile(function, backend=counter, fullgraph=True), counter


def recompilations(counter: CompileCounterWithBackend) -> int:
    assert counter.frame_count > 0
    return counter.frame_count - 1


def test_the_function_recompiles_at_most_twice() -> None:
    function, counter = compiled(lambda q, k, v, lengths: attend(q, k, v, lengths=lengths, mask=Causal()))
    for lengths in BATCHES:
        q, k, v = (torch.randn(sum(lengths), heads, 8, requires_grad=True) for heads in (4, 2, 2))
        given = torch.tensor(lengths)
        out = function(q, k, v, given)
        expected = attend(q, k, v, lengths=given, mask=Causal())
        torch.testing.assert_close(out, expected, atol=0, rtol=0)
        gradients = torch.autograd.grad(out.sin().sum(), (q, k, v))
        for ours, theirs in zip(gradients, torch.autograd.grad(expected.sin().sum(), (q, k, v)), strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)
    assert recompilations(counter) <= 2


def test_keys_of_other_lengths_recompile_at_most_twice() -> None:
    function, counter = compiled(lambda q, k, n, m: attend(q, k, k, lengths=n, key_lengths=m, dropout=0.2))
    for lengths, key_lengths in zip(BATCHES, BATCHES[::-1], strict=True):
        n = min(len(lengths), len(key_lengths))
        q, k = torch.randn(sum(lengths[:n]), 4, 8), torch.randn(sum(key_lengths[:n]), 4, 8)
        assert function(q, k, torch.tensor(lengths[:n]), torch.tensor(key_lengths[:n])).shape == q.shape
    assert recompilations(counter) <= 2


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("name", ["plain", "rotary", "t5", "alibi", "xl", "shaw", "disentangled"])
def test_a_module_recompiles_at_most_twice(name: str, training: bool) -> None:
    options, mask = variant(name)
    module = MultiHeadAttention(16, 4, **options).train(training)
    function, counter = compiled(module)
    for number, lengths in enumerate(BATCHES):
        x, given = torch.randn(sum(lengths), 16), torch.tensor(lengths)
        with torch.set_grad_enabled(training):
            torch.manual_seed(number)  # of dropout
            out = function(x, lengths=given, mask=mask)
            torch.manual_seed(number)
            expected = module(x, lengths=given, mask=mask)
        torch.testing.assert_close(out, expected, atol=1e-6, rtol=1e-5)
        if training:
            ours, theirs = (gradients(module, rows) for rows in (out, expected))
            for own, other in zip(ours, theirs, strict=True):
                torch.testing.assert_close(own, other, atol=1e-5, rtol=1e-4)
    assert recompilations(counter) <= 2


def gradients(module: nn.Module, out: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(out.sin().sum(), tuple(module.parameters()))


def test_dropout_is_drawn_anew_in_each_run_of_a_compiled_module() -> None:
    function, _ = compiled(MultiHeadAttention(16, 4, dropout=0.5).train())
    x, lengths = torch.randn(9, 16), torch.tensor([5, 4])
    assert not torch.equal(function(x, lengths=lengths), function(x, lengths=lengths))


def test_the_stack_recompiles_at_most_twice() -> None:
    def layer() -> TransformerLayer:
        return TransformerLayer(
            MultiHeadAttention(16, 4, dropout=0.1),
            FeedForward(16, 24, nn.functional.gelu),
            norms=(nn.LayerNorm(16), nn.LayerNorm(16)),
            residual=pre_norm,
            dropouts=(0.1, 0.1),
        )

    stack = Stack([layer(), layer()], depth_order=(0, 1, 0), final_norm=nn.LayerNorm(16)).train()
    function, counter = compiled(stack)
    for lengths in BATCHES:
        function(torch.randn(sum(lengths), 16), torch.tensor(lengths), Causal()).sum().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in stack.parameters())
    assert recompilations(counter) <= 2

    counter.frame_count = 1
    stack.eval()
    for lengths in BATCHES:
        x, given = torch.randn(sum(lengths), 16), torch.tensor(lengths)
        torch.testing.assert_close(function(x, given, Causal()), stack(x, given, Causal()), atol=1e-5, rtol=1e-5)
    assert recompilations(counter) <= 3  # from training to evaluation is one


TABLES: dict[str, Any] = {
    "plain": (None,) * 5,
    "all": ((4, 9), (1, 9, 8), (4, 9, 8), (1, 9, 8), (4,)),
}


@pytest.mark.parametrize("mask", ["null", '["Window",2,1]'])
@pytest.mark.parametrize("tables", TABLES)
def test_the_operators_keep_the_rules_of_operators(tables: str, mask: str) -> None:
    """The checks of torch itself: schema, nothing changed in place, shapes as foretold, autograd, dynamic tracing."""
    q, k, v = (torch.randn(n, heads, 8, requires_grad=True) for n, heads in ((8, 4), (9, 2), (9, 2)))
    given = [None if shape is None else torch.randn(shape, requires_grad=True) for shape in TABLES[tables]]
    numbers = (torch.tensor(5), -4, 0.3, 5.0 if tables == "all" else None, 0.1, mask)
    arguments = (q, k, v, torch.tensor([3, 0, 5]), torch.tensor([4, 1, 4]), *given, *numbers)
    torch.library.opcheck(packed._operator, arguments)

    with Calls() as calls:
        out, _ = packed._operator(*arguments)
        out.sin().sum().backward()
    (backward,) = calls.arguments["huiyan::attend_packed_backward"]
    still = tuple(x.detach() if isinstance(x, Tensor) else x for x in backward)  # a second derivative is not offered
    torch.library.opcheck(packed._backward_operator, still)


class Calls(TorchDispatchMode):
    """What every operator is given while it is entered, by the operator's name."""

    def __init__(self) -> None:
        super().__init__()
        self.arguments: defaultdict[str, list[tuple[Any, ...]]] = defaultdict(list)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.arguments[func.name()].append(args)
        return func(*args, **(kwargs or {}))
