"""Language models that read streams of text a segment at a time, and what they carry from one to the next."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from huiyan.core.packed import Packed
from huiyan.models.language_model import LanguageModel


class Memory(Protocol):
    """What was read before, as tensors of `b` streams each."""

    @property
    def states(self) -> tuple[Tensor, ...]:
        """All there is of it."""
        ...


class SegmentModel(nn.Module, ABC):
    """A language model of streams: ``b`` of them, a segment of ``l`` tokens of each at a time."""

    vocab_size: int

    @abstractmethod
    def loss(
        self, tokens: Int[Tensor, "b l"], targets: Int[Tensor, "b l"], memory: Any = None
    ) -> tuple[Float[Tensor, "b l"], Any]:
        """−log p of every target, in nats, and the memory for the next segment."""

    @abstractmethod
    def memory_of(self, states: Sequence[Tensor]) -> Any:
        """The memory that has these ``states``; None where there are none."""

    @abstractmethod
    def by_depth(self) -> list[list[nn.Parameter]]:
        """The parameters by depth, embeddings first, output last, each once."""


class Nothing(NamedTuple):
    """The memory of a model that has none."""

    states: tuple[Tensor, ...] = ()


class SegmentedDecoder(SegmentModel):
    """A decoder that reads each segment by itself, knowing nothing of those before it.

    Args:
        model: without an encoder.
    """

    def __init__(self, model: LanguageModel) -> None:
        super().__init__()
        self.model = model
        self.vocab_size = model.vocab_size

    @property
    def max_length(self) -> int:
        """The longest segment, in tokens."""
        return self.model.max_length

    def loss(
        self, tokens: Int[Tensor, "b l"], targets: Int[Tensor, "b l"], memory: Nothing | None = None
    ) -> tuple[Float[Tensor, "b l"], Nothing]:
        """−log p of every target, in nats; the memory is nothing.

        Raises:
            ShapeError: a segment longer than the model's positions.
        """
        n, length = tokens.shape
        logits = self.model(Packed(tokens.flatten(), torch.full((n,), length)))
        found = functional.cross_entropy(logits.float(), targets.flatten(), reduction="none")
        return found.unflatten(0, targets.shape), Nothing()

    def memory_of(self, states: Sequence[Tensor]) -> Nothing:
        """Nothing."""
        return Nothing()

    def by_depth(self) -> list[list[nn.Parameter]]:
        """Embeddings, layers, and the rest."""
        decoder = self.model.decoder
        return depths_of(self.model, [decoder.embeddings, *decoder.stack.layers])


def depths_of(model: nn.Module, parts: Sequence[nn.Module]) -> list[list[nn.Parameter]]:
    """The parameters of parts from the bottom up, each once; what is in none of them comes last, with the topmost."""
    seen: set[int] = set()
    groups: list[list[nn.Parameter]] = []
    for part in (*parts, model):
        own = {id(parameter): parameter for parameter in part.parameters() if id(parameter) not in seen}
        seen |= own.keys()
        groups.append(list(own.values()))
    return [group for group in groups if group]
