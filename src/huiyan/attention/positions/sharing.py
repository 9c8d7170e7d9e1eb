"""Parts that a scheme may share: with the other layers' schemes, or with the attention it serves."""

from collections.abc import Callable

from torch import nn


def own_or_borrow(module: nn.Module, name: str, given: nn.Module | None, make: Callable[[], nn.Module]) -> None:
    """Set ``module.name``: to a part of its own, or to one that was handed in and stays with its owner.

    A borrowed part is not registered: it appears once in a model's ``state_dict``, under its owner's name, and is
    moved, cast and trained with its owner. Parts are modules and not bare parameters, because loading with
    ``assign=True`` replaces a parameter, but not the module that holds it.
    """
    if given is None:
        setattr(module, name, make())
    else:
        object.__setattr__(module, name, given)
