"""The shapes in the signatures are true: beartype checks them through jaxtyping on real calls."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from beartype import beartype
from jaxtyping import TypeCheckError, jaxtyped

from huiyan.attention.functional import attend
from huiyan.attention.kernels.packed import attend_packed
from huiyan.attention.kernels.sdpa import attend_dense
from huiyan.attention.multihead import MultiHeadAttention
from huiyan.attention.oracle import attend_by_formula, attend_each_by_formula

checked = jaxtyped(typechecker=beartype)
Q, K = torch.randn(2, 4, 5, 8), torch.randn(2, 2, 3, 8)
PACKED_Q, PACKED_K = torch.randn(5, 4, 8), torch.randn(6, 2, 8)
LENGTHS = {"lengths": torch.tensor([2, 3]), "key_lengths": torch.tensor([1, 5])}
PLAIN: dict[str, Any] = {"mask": None, "scale": 1.0}


@pytest.mark.parametrize(
    ("function", "inputs", "options"),
    [
        (attend, (Q, K, K), {}),
        (attend, (PACKED_Q, PACKED_K, PACKED_K), LENGTHS),
        (attend_dense, (Q, K, K), PLAIN),
        (attend_by_formula, (Q, K, K), PLAIN),
        (attend_packed, (PACKED_Q, PACKED_K, PACKED_K), PLAIN | LENGTHS),
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


def test_the_module_gives_back_what_it_took() -> None:
    module = MultiHeadAttention(8, 2)
    forward = checked(MultiHeadAttention.forward)
    assert forward(module, torch.randn(2, 3, 8)).shape == (2, 3, 8)
    assert forward(module, torch.randn(5, 8), lengths=torch.tensor([5])).shape == (5, 8)
    with pytest.raises(TypeCheckError):
        forward(module, torch.randn(8))
