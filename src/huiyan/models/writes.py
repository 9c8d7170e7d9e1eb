"""What a model must have for texts to be written with it."""

from typing import Any, Protocol

import torch
from torch import Tensor

from huiyan.core.packed import Packed


class Remembers(Protocol):
    """What a model has read of a batch of texts."""

    @property
    def longest(self) -> int:
        """Tokens of the longest."""
        ...

    def select(self, indices: Tensor) -> None:
        """Go on with these texts, in this order; one may come more than once."""
        ...


class Writes(Protocol):
    """A model that texts are written with.

    Of packed tokens it gives the logits of what follows on the last of each text, `b v`.
    """

    training: bool

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        ...

    @property
    def vocab_size(self) -> int:
        """Tokens that it writes."""
        ...

    @property
    def source_vocab_size(self) -> int | None:
        """Tokens of the source that it writes from; None where it goes on with a text."""
        ...

    @property
    def start_id(self) -> int:
        """The token that a text begins with, where it is written from a source."""
        ...

    @property
    def max_length(self) -> int:
        """The longest text."""
        ...

    @property
    def takes_any_lengths(self) -> bool:
        """Whether texts of different lengths may begin together."""
        ...

    def fresh_cache(self) -> Any:
        """A ``Remembers`` for a batch."""
        ...

    def __call__(self, packed: Packed, *, source: Packed | None = None, cache: Any, only_last: bool) -> Tensor:
        """The logits; the tokens are added to the cache."""
        ...
