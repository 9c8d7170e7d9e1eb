"""The contract with torch's private operators: what the public functions give, or the layer would not use them."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from huiyan.core.devices import multiplies_int8
from huiyan.models import prepacked
from huiyan.models.activations import ACTIVATIONS
from huiyan.models.prepacked import InputRanges, Int8Linear, PrepackedLinear, can_multiply_int8, can_prepack

CPU = torch.device("cpu")
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2}


@pytest.fixture(params=[True, False], ids=["prepacked", "public"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Both ways; this torch has the operators, which is the point of the contract."""
    if request.param:
        assert can_prepack(CPU, torch.float32)
        assert can_multiply_int8(CPU)
        if "int8" in request.node.name and not multiplies_int8(CPU):
            pytest.skip("this processor adds up products of 8-bit integers in 16 bits")
    else:
        for name in ("can_prepack", "can_multiply_int8"):
            monkeypatch.setattr(prepacked, name, lambda *_: False)
    return request.param


def layer(width: int = 24, out: int = 40, *, bias: bool = True) -> nn.Linear:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Linear(width, out, bias=bias)


def rows(n: int, width: int, seed: int = 1) -> Tensor:
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed))


@torch.inference_mode()
def test_a_processor_that_onednn_does_not_serve_in_bfloat16_computes_with_public_functions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(prepacked, "_takes_bf16", lambda: False)
    assert can_prepack(CPU, torch.float32) and not can_prepack(CPU, torch.bfloat16)
    linear, x = layer(), rows(7, 24)
    found = PrepackedLinear([linear], dtype=torch.bfloat16)(x.bfloat16())
    torch.testing.assert_close(found.float(), linear(x), atol=2e-2, rtol=2e-2)


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


def seen(x: Tensor) -> InputRanges:
    return InputRanges(x.amin(0), x.amax(0), x.mean(0))


def uneven(n: int) -> Tensor:
    """Rows as layers have them: one column thirty times the others, another far from zero."""
    x = rows(n, 24)
    x[:, 3] *= 30
    x[:, 5] += 8
    return x


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("activation", [None, *dict.fromkeys(ACTIVATIONS.values()), torch.sigmoid])
@pytest.mark.parametrize("with_residual", [False, True])
@torch.inference_mode()
def test_int8_is_near_to_it(
    dtype: torch.dtype, activation: Callable[[Tensor], Tensor] | None, with_residual: bool
) -> None:
    linears, x, residual = [layer(out=24), layer(out=16, bias=False)], uneven(200), rows(200, 40, seed=2)
    fast = Int8Linear(linears, seen(x), dtype=dtype, activation=activation)
    y = torch.cat([linear(x) for linear in linears], dim=1)
    deviation = y.std()
    y = (y if activation is None else activation(y)) + (residual if with_residual else 0)
    found = fast(x.to(dtype), residual.to(dtype) if with_residual else None)
    assert found.dtype == dtype
    # 8 bits over a range of some six deviations: half a hundredth each.
    assert float((found.float() - y).std()) < 0.015 * float(deviation)


@pytest.mark.skipif(not multiplies_int8(CPU), reason="this processor adds up products of 8-bit integers in 16 bits")
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@torch.inference_mode()
def test_int8_gives_what_public_functions_give(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    x = uneven(65).to(dtype)
    linear, columns = layer(), seen(x.float())
    ours = Int8Linear([linear], columns, dtype=dtype, activation=F.gelu)(x)
    monkeypatch.setattr(prepacked, "can_multiply_int8", lambda _device: False)
    public = Int8Linear([linear], columns, dtype=dtype, activation=F.gelu)(x)
    torch.testing.assert_close(ours, public, atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype])


@pytest.mark.usefixtures("way")
@torch.inference_mode()
def test_int8_cuts_off_what_was_never_seen() -> None:
    linear, x = layer(), rows(50, 24)
    fast = Int8Linear([linear], seen(x), dtype=torch.float32)
    far = torch.full((1, 24), 1e6)
    torch.testing.assert_close(fast(far), linear(x.amax(0, keepdim=True)), atol=0.1, rtol=0.1)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("n", [0, 1, 3])
@torch.inference_mode()
def test_int8_of_any_number_of_rows(n: int) -> None:
    x = rows(9, 24)
    fast = Int8Linear([layer()], seen(x), dtype=torch.float32)
    torch.testing.assert_close(fast(x[:n]), fast(x)[:n], atol=1e-5, rtol=1e-5)


@pytest.mark.usefixtures("way")
@torch.inference_mode()
def test_int8_of_columns_that_never_change() -> None:
    constant = torch.zeros(24)
    fast = Int8Linear([linear := layer()], InputRanges(constant, constant, constant), dtype=torch.float32)
    torch.testing.assert_close(fast(constant[None]), linear(constant[None]), atol=1e-4, rtol=1e-4)
