"""Blocks of an attention map: some rows, some columns, and how much of them may attend."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor


class Sees(Enum):
    """How many of a block's pairs may attend. MIXED is also the answer of a mask that would have to look."""

    ALL = "all"
    NONE = "none"
    MIXED = "mixed"


class Span(NamedTuple):
    """The whole numbers from ``start`` to before ``stop``, symbols of a traced program perhaps: `range` refuses."""

    start: int
    stop: int

    @property
    def size(self) -> int:
        """How many there are."""
        return self.stop - self.start

    def moved(self, by: int) -> "Span":
        """Each ``by`` greater."""
        return Span(self.start + by, self.stop + by)

    def of(self, x: Tensor, dim: int) -> Tensor:
        """These indices of a dimension."""
        return x.narrow(dim, self.start, self.size)

    def numbers(self, device: torch.device) -> Int[Tensor, " n"]:
        """All of them."""
        return torch.arange(self.start, self.stop, device=device)

    def blocks(self, size: int) -> "Iterator[Span]":
        """The span in pieces of ``size``; the last may be smaller."""
        return (Span(start, min(self.stop, start + size)) for start in range(self.start, self.stop, size))


@dataclass(frozen=True)
class Block:
    """Some rows and columns of an attention map of ``n_queries`` × ``n_keys``.

    Args:
        rows: indices of queries.
        columns: indices of keys, which are their positions.
    """

    rows: Span
    columns: Span
    n_queries: int
    n_keys: int

    @classmethod
    def whole(cls, n_queries: int, n_keys: int) -> "Block":
        """The whole map."""
        return cls(Span(0, n_queries), Span(0, n_keys), n_queries, n_keys)

    @property
    def positions(self) -> Span:
        """Positions of the queries: their indices, moved so that the last one stands at the last key."""
        return self.rows.moved(self.n_keys - self.n_queries)

    @property
    def is_empty(self) -> bool:
        """Whether it holds no pair."""
        return self.rows.size == 0 or self.columns.size == 0

    def grid(self, device: torch.device) -> tuple[Int[Tensor, "q 1"], Int[Tensor, " k"]]:
        """Positions of the queries as a column, and of the keys as a row."""
        return self.positions.numbers(device)[:, None], self.columns.numbers(device)
