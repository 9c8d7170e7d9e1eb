"""Linear layers whose weights lie as the processor wants them: oneDNN's matrix products, with what follows fused in.

torch lays a weight out anew in every call, or takes a slower library; oneDNN can take it laid out once, and add the
bias, apply the activation and add the residual while a block of the result is still in the cache; and it multiplies
8-bit integers. torch has no public function for that: **this is the only file that names its private operators**. Where
they are missing, or the device is no CPU, the same layers compute with public functions;
``tests/unit/models/test_prepacked.py`` holds both to each other.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from huiyan.models.activations import gelu_by_tanh
from huiyan.models.low_rank import bias_of

_FUSED: dict[Callable[[Tensor], Tensor], tuple[str, str]] = {
    F.gelu: ("gelu", "none"),
    gelu_by_tanh: ("gelu", "tanh"),
    F.relu: ("relu", ""),
    F.silu: ("swish", ""),
    torch.tanh: ("tanh", ""),
}
"""Activations that oneDNN applies itself: the operator's names for them and for the way they are computed."""
_UNFUSED = ("none", "")
_reorder: Any = getattr(torch.ops.mkldnn, "_reorder_linear_weight", None)
_operator = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
_product: Any = getattr(_operator, "default", None)
_add: Any = getattr(_operator, "binary", None)
_reorder_int8: Any = getattr(torch.ops.onednn, "qlinear_prepack", None)
_takes_bf16: Any = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
_int8_product: Any = getattr(getattr(torch.ops.onednn, "qlinear_pointwise", None), "default", None)
_MIGRATION = 0.8
"""SmoothQuant's α: how much of the inputs' unevenness the weights take over; all of it (1) would be theirs."""


def can_prepack(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether this torch has the operators, for this device and rows of this precision."""
    if device.type != "cpu" or not torch.backends.mkldnn.is_available() or None in (_reorder, _product, _add):
        return False
    return dtype == torch.float32 or (dtype == torch.bfloat16 and _takes_bf16 is not None and _takes_bf16())


class PrepackedLinear:
    """x ↦ activation(x Wᵀ + b) + residual, for inference alone.

    No module: it has nothing to train, to save or to move, and a call of a module costs as much as a short product.

    Args:
        linears: one layer, or several that read the same rows; their outputs then lie side by side.
        dtype: what it computes in, float32 or bfloat16; what comes in must have it.
        activation: of the output; None is none.
    """

    def __init__(
        self,
        linears: Sequence[nn.Linear],
        *,
        dtype: torch.dtype,
        activation: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        weight, bias = _side_by_side(linears)
        weight, self._bias = weight.to(dtype), None if bias is None else bias.to(dtype)
        self._activation = activation
        self._prepacked = can_prepack(weight.device, dtype)
        self._weight = _reorder(weight, None) if self._prepacked else weight
        self._fused = _UNFUSED if activation is None else _FUSED.get(activation)

    def __call__(self, x: Float[Tensor, "*rows m"], residual: Tensor | None = None) -> Float[Tensor, "*rows n"]:
        """`… m` → `… n`; ``residual`` has the shape of what comes out."""
        if not self._prepacked:
            return _finished(F.linear(x, self._weight, self._bias), self._activation, residual)
        if residual is not None and self._activation is None:
            return _add(x, residual, self._weight, self._bias, "add")
        name, way = self._fused or _UNFUSED
        y = _product(x, self._weight, self._bias, name, (), way)
        return _finished(y, None if self._fused else self._activation, residual)


@dataclass(frozen=True)
class InputRanges:
    """What was seen in each column of what enters a product, `m` each, float32."""

    lowest: Tensor
    highest: Tensor
    mean: Tensor


class Int8Linear:
    """As ``PrepackedLinear``, and the product is of 8-bit integers: faster than those of bfloat16.

    The scales are fixed beforehand, so that an answer does not depend on what else is in the batch. Each column of x
    has its own centre zⱼ and scale; the weights take the inverse and are rounded to 8 bits, row by row. How uneven
    columns are shared between the two is SmoothQuant's (Xiao et al. 2023, eq. 4). What rounding the weights does to
    the mean of the output is made up for in the bias. A value beyond what was seen is cut off there.

    Args:
        linears: as there; float32.
        ranges: of what enters.
        dtype: of what comes in and goes out, float32 or bfloat16.
        activation: as there.
    """

    def __init__(
        self,
        linears: Sequence[nn.Linear],
        ranges: InputRanges,
        *,
        dtype: torch.dtype,
        activation: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        weight, bias = _side_by_side(linears)
        center = (ranges.lowest + ranges.highest) / 2
        reach = ((ranges.highest - ranges.lowest) / 2).clamp(min=1e-4)
        eased = reach**_MIGRATION / weight.abs().amax(0).clamp(min=1e-5) ** (1 - _MIGRATION)
        self._step = float((reach / eased).max()) / 127
        column_step = eased * self._step
        self._per_step = 1 / column_step
        self._offset = 128.5 - center * self._per_step  # the half rounds, where a float becomes an integer by cutting
        spread = weight * eased
        self._row_step = spread.abs().amax(1).clamp(min=1e-12) / 127
        rounded = (spread / self._row_step[:, None]).round()
        lost = weight - rounded * self._row_step[:, None] / eased
        self._bias = weight @ center + lost @ (ranges.mean - center)
        if bias is not None:
            self._bias += bias
        self._dtype, self._activation = dtype, activation
        self._prepacked = can_multiply_int8(weight.device)
        self._rounded = _reorder_int8(rounded.to(torch.int8), None) if self._prepacked else rounded
        self._zeros = torch.zeros(len(weight), dtype=torch.int64)
        self._fused = _UNFUSED if activation is None else _FUSED.get(activation)

    def __call__(self, x: Float[Tensor, "t m"], residual: Tensor | None = None) -> Float[Tensor, "t n"]:
        """`t m` → `t n`; ``residual`` has the shape of what comes out."""
        levels = torch.addcmul(self._offset, x.float(), self._per_step).clamp_(0, 255).to(torch.uint8)
        if not self._prepacked:
            product = F.linear(levels.float() - 128, self._rounded) * (self._row_step * self._step) + self._bias
            return _finished(product.to(self._dtype), self._activation, residual)
        name, way = self._fused or _UNFUSED
        scales = (self._step, 128, self._rounded, self._row_step, self._zeros, self._bias, 1.0, 0)
        y = _int8_product(levels, *scales, self._dtype, name, (), way)
        return _finished(y, None if self._fused else self._activation, residual)


def can_multiply_int8(device: torch.device) -> bool:
    """Whether this torch has the operators for 8-bit integers, for this device."""
    return device.type == "cpu" and torch.backends.mkldnn.is_available() and None not in (_reorder_int8, _int8_product)


def _side_by_side(linears: Sequence[nn.Linear]) -> tuple[Tensor, Tensor | None]:
    """Weights and biases of layers that read the same rows, one under the other; no bias if none has one."""
    weight, biases = torch.cat([linear.weight.detach() for linear in linears]), [bias_of(linear) for linear in linears]
    if all(bias is None for bias in biases):
        return weight, None
    zeros = (linear.weight.new_zeros(linear.out_features) for linear in linears)
    both = zip(biases, zeros, strict=True)
    return weight, torch.cat([zero if bias is None else bias.detach() for bias, zero in both])


def _finished(y: Tensor, activation: Callable[[Tensor], Tensor] | None, residual: Tensor | None) -> Tensor:
    """What the operator did not fuse."""
    y = y if activation is None else activation(y)
    return y if residual is None else y + residual
