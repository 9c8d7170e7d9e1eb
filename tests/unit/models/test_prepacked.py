"""The contract with torch's private operators: what the public functions give, or the layer would not use them."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from huiyan.models import prepacked
from huiyan.models.activations import ACTIVATIONS
from huiyan.models.prepacked import PrepackedLinear, can_prepack

CPU = torch.device("cpu")
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2}


@pytest.fixture(params=[True, False], ids=["prepacked", "public"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Both ways; this torch has the operators, which is the point of the contract."""
    if request.param:
        assert can_prepack(CPU)
    else:
        monkeypatch.setattr(prepacked, "can_prepack", lambda _device: False)
    return request.param


def layer(width: int = 24, out: int = 40, *, bias: bool = True) -> nn.Linear:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Linear(width, out, bias=bias)


def rows(n: int, width: int, seed: int = 1) -> Tensor:
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("activation", [None, *dict.fromkeys(ACTIVATIONS.values()), torch.sigmoid])
@pytest.mark.parametrize("with_residual", [False, True])
@pytest.mark.parametrize("bias", [True, False])
@torch.inference_mode()
def test_it_is_product_activation_residual(
    dtype: torch.dtype, activation: Callable[[Tensor], Tensor] | None, with_residual: bool, bias: bool
) -> None:
    linear, x, residual = layer(bias=bias), rows(7, 24), rows(7, 40, seed=2)
    fast = PrepackedLinear([linear], dtype=dtype, activation=activation)
    y = F.linear(x, linear.weight, linear.bias)
    y = (y if activation is None else activation(y)) + (residual if with_residual else 0)
    found = fast(x.to(dtype), residual.to(dtype) if with_residual else None)
    assert found.dtype == dtype
    torch.testing.assert_close(found.float(), y, atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype])


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("n", [0, 1, 3, 65])
@torch.inference_mode()
def test_any_number_of_rows_and_any_layout(n: int) -> None:
    linear = layer()
    fast, x, residual = PrepackedLinear([linear], dtype=torch.float32), rows(n, 48)[:, ::2], rows(n, 80)[:, ::2]
    torch.testing.assert_close(fast(x, residual), linear(x) + residual, atol=1e-5, rtol=1e-5)


@pytest.mark.usefixtures("way")
@torch.inference_mode()
def test_a_residual_is_left_as_it_was() -> None:
    fast, residual = PrepackedLinear([layer()], dtype=torch.float32), rows(5, 40)
    before = residual.clone()
    fast(rows(5, 24), residual)
    assert torch.equal(residual, before)


@pytest.mark.usefixtures("way")
@torch.inference_mode()
def test_several_layers_lie_side_by_side() -> None:
    linears, x = [layer(out=8), layer(out=16, bias=False)], rows(5, 24)
    together = PrepackedLinear(linears, dtype=torch.float32)(x)
    torch.testing.assert_close(together, torch.cat([linear(x) for linear in linears], dim=1), atol=1e-5, rtol=1e-5)
