"""Masks: which keys a query may attend to. True means *may attend*, everywhere."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor

from huiyan.core.errors import ShapeError


class Mask(ABC):
    """A rule for pairs of query and key. Combine rules with ``&``: a pair must be allowed by both."""

    def __and__(self, other: "Mask") -> "Mask":
        """The pairs that both masks allow."""
        return _Both(self, other)

    @abstractmethod
    def allowed(self, n_queries: int, n_keys: int, device: torch.device) -> Bool[Tensor, "#b 1 #q k"]:
        """The rule as a tensor that broadcasts to `b h q k`."""

    def parts(self) -> "tuple[Mask, ...]":
        """The simple masks this one is the conjunction of."""
        return (self,)


@dataclass(frozen=True)
class Causal(Mask):
    """A query sees its own position and what came before.

    With fewer queries than keys the corner is at the bottom right: the last query sees every key, which is what
    decoding with a cache needs (`torch`'s own ``is_causal`` has its corner at the top left). With more queries than
    keys the first ones see nothing, and give 0.
    """

    def allowed(self, n_queries: int, n_keys: int, device: torch.device) -> Bool[Tensor, "1 1 q k"]:
        """Row i sees column j when j ≤ i + (k − q)."""
        everything = torch.ones(1, 1, n_queries, n_keys, dtype=torch.bool, device=device)
        return everything.tril(diagonal=n_keys - n_queries)


@dataclass(frozen=True, eq=False)
class Keys(Mask):
    """Every query of a sequence sees the same keys: the mask of a padded batch.

    Args:
        keys: `b k`, bool; False hides the key (padding).
    """

    keys: Bool[Tensor, "b k"]

    def __post_init__(self) -> None:
        if self.keys.dtype != torch.bool or self.keys.dim() != 2:
            raise ShapeError(
                "Keys takes a boolean tensor `b k` in which True lets attend. "
                f"Got {self.keys.dtype} of shape {tuple(self.keys.shape)} instead."
            )

    def allowed(self, n_queries: int, n_keys: int, device: torch.device) -> Bool[Tensor, "b 1 1 k"]:
        """The same row for every query."""
        return self.keys.to(device)[:, None, None, :]


@dataclass(frozen=True, eq=False)
class _Both(Mask):
    left: Mask
    right: Mask

    def allowed(self, n_queries: int, n_keys: int, device: torch.device) -> Bool[Tensor, "#b 1 #q k"]:
        return self.left.allowed(n_queries, n_keys, device) & self.right.allowed(n_queries, n_keys, device)

    def parts(self) -> tuple[Mask, ...]:
        return (*self.left.parts(), *self.right.parts())
