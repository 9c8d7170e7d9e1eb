"""Modules without weights: their shape alone, before a checkpoint fills them."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


@contextlib.contextmanager
def weightless() -> Iterator[None]:
    """Modules made in the block have parameters on the meta device: nothing is allocated, and nothing drawn.

    Drawing what nobody reads is not only in vain: on the meta device torch takes its compiler to it, whose import lasts
    as long as that of torch.
    """
    with torch.device("meta"), _NothingDrawn():
        yield


class _NothingDrawn(TorchFunctionMode):
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        del types
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)
