"""Activation functions under the names that checkpoints use for them."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from huiyan.core.errors import ConfigError, closest

gelu_by_tanh = partial(functional.gelu, approximate="tanh")

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": functional.gelu,
    "gelu_python": functional.gelu,
    "gelu_new": gelu_by_tanh,
    "gelu_fast": gelu_by_tanh,
    "gelu_pytorch_tanh": gelu_by_tanh,
    "relu": functional.relu,
    "silu": functional.silu,
    "swish": functional.silu,
    "tanh": torch.tanh,
}


def activation_named(name: str) -> Callable[[Tensor], Tensor]:
    """The function a checkpoint means by ``name``.

    Raises:
        ConfigError: the name is not one we know.
    """
    if name not in ACTIVATIONS:
        raise ConfigError(f"There is no activation {name!r}.", hint=closest(name, ACTIVATIONS))
    return ACTIVATIONS[name]
