"""Linear layers whose weights lie as the processor wants them: oneDNN's matrix products, with what follows fused in.

torch lays a weight out anew in every call, or takes a slower library; oneDNN can take it laid out once, and add the
bias, apply the activation and add the residual while a block of the result is still in the cache. torch has no public
function for that: **this is the only file that names its private operators**. Where they are missing, or the device is
no CPU, the same layer computes with public functions; ``tests/unit/models/test_prepacked.py`` holds both to each other.
"""

from collections.abc import Callable, Sequence
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


def can_prepack(device: torch.device) -> bool:
    """Whether this torch has the operators, for this device."""
    return device.type == "cpu" and torch.backends.mkldnn.is_available() and None not in (_reorder, _product, _add)


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
        weight = torch.cat([linear.weight.detach() for linear in linears]).to(dtype)
        biases = [bias_of(linear) for linear in linears]
        self._bias = None
        if any(bias is not None for bias in biases):
            zeros = (linear.weight.new_zeros(linear.out_features) for linear in linears)
            both = zip(biases, zeros, strict=True)
            self._bias = torch.cat([zero if bias is None else bias.detach() for bias, zero in both]).to(dtype)
        self._activation = activation
        self._prepacked = can_prepack(weight.device)
        self._weight = _reorder(weight, None) if self._prepacked else weight
        self._fused = _UNFUSED if activation is None else _FUSED.get(activation)

    def __call__(self, x: Float[Tensor, "*rows m"], residual: Tensor | None = None) -> Float[Tensor, "*rows n"]:
        """`… m` → `… n`; ``residual`` has the shape of what comes out."""
        if not self._prepacked:
            y = _followed(F.linear(x, self._weight, self._bias), self._activation)
            return y if residual is None else y + residual
        if residual is not None and self._activation is None:
            return _add(x, residual, self._weight, self._bias, "add")
        name, way = self._fused or _UNFUSED
        y = _product(x, self._weight, self._bias, name, (), way)
        if self._fused is None:
            y = _followed(y, self._activation)
        return y if residual is None else y + residual


def _followed(y: Tensor, activation: Callable[[Tensor], Tensor] | None) -> Tensor:
    return y if activation is None else activation(y)
