"""Language modelling: every token from those before it, of a text alone or given a source."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from huiyan.core.config import require
from huiyan.core.errors import ConfigError, ShapeError
from huiyan.core.packed import Packed
from huiyan.models.language_model import LanguageModel
from huiyan.models.segments import Memory, SegmentModel


def next_token_loss(
    model: LanguageModel,
    texts: Sequence[Sequence[int]],
    sources: Sequence[Sequence[int]] | None = None,
    *,
    label_smoothing: float = 0.0,
) -> Float[Tensor, ""]:
    """The mean cross-entropy of every token but the first of each text, all texts at once and none padded.

    Source: Vaswani et al. 2017, section 5.4; label smoothing: Szegedy et al. 2016, section 7.

    Args:
        model: in training mode, or in evaluation mode for the loss alone.
        texts: token ids, at least two each: of a model with an encoder, first the token that a text begins with.
        sources: one a text, for a model with an encoder.
        label_smoothing: the share of the target that is spread evenly over all tokens.
    Raises:
        ShapeError: a text of fewer than two tokens.
    """
    short = next((number for number, text in enumerate(texts) if len(text) < 2), None)
    if short is not None:
        raise ShapeError(f"A text of fewer than two tokens has no next one. Number {short} has {len(texts[short])}.")
    device = model.decoder.embeddings.words.weight.device
    given = Packed.from_lists([list(text[:-1]) for text in texts], device)
    source = None if sources is None else Packed.from_lists([list(source) for source in sources], device)
    targets = torch.tensor([token for text in texts for token in text[1:]]).to(device, non_blocking=True)
    return functional.cross_entropy(model(given, source=source), targets, label_smoothing=label_smoothing)


class Streams:
    """A text cut into streams of equal length, which are read side by side, a segment of each at a time.

    Args:
        ids: of the tokens, in order; a memory map is read where it lies.
        n_streams: of this process.
        segment_length: tokens of a stream in a segment; the last one may be shorter.
        number: of this process; the streams of each follow on those of the one before.
        count: processes.
    Raises:
        ConfigError: numbers below 1, or fewer tokens than streams.
    """

    def __init__(
        self, ids: np.ndarray[Any, Any], *, n_streams: int, segment_length: int, number: int = 0, count: int = 1
    ) -> None:
        require(n_streams > 0, "n_streams", "at least 1", n_streams)
        require(segment_length > 0, "segment_length", "at least 1", segment_length)
        self.length = (len(ids) - 1) // (n_streams * count)
        if self.length < 1:
            raise ConfigError(
                f"A text of {len(ids):,} tokens is too short for {n_streams * count} streams.",
                hint="Give it more text, or fewer tokens a batch (--batch-tokens).",
            )
        self.ids, self.n_streams, self.segment_length = ids, n_streams, segment_length
        self._first = number * n_streams

    def __len__(self) -> int:
        """Segments."""
        return math.ceil(self.length / self.segment_length)

    def tokens_in(self, segment: int) -> int:
        """Of all streams together."""
        return self.n_streams * min(self.segment_length, self.length - segment * self.segment_length)

    def segment(self, number: int) -> tuple[Int[Tensor, "b l"], Int[Tensor, "b l"]]:
        """Tokens and, of each, what comes after it."""
        start = number * self.segment_length
        n = min(self.segment_length, self.length - start)
        begins = (self._first + np.arange(self.n_streams)) * self.length + start
        rows = torch.from_numpy(np.stack([self.ids[at : at + n + 1] for at in begins]).astype(np.int64))
        return rows[:, :-1], rows[:, 1:]


class StreamObjective:
    """A language model, and streams of text that it reads in order: a batch is a segment of every stream.

    What the model carries from segment to segment goes on through an epoch, and is kept with a checkpoint.

    Args:
        model: on the device that trains.
        streams: the text.
    """

    def __init__(self, model: SegmentModel, streams: Streams) -> None:
        self.model, self.streams = model, streams
        self.lengths = [streams.tokens_in(segment) for segment in range(len(streams))]
        self._memory: Memory | None = None
        self._device = next(model.parameters()).device

    def batches(self, epoch: int, *, batch_tokens: int, seed: int) -> list[list[int]]:
        """The segments, in order; the same in every epoch."""
        del epoch, batch_tokens, seed
        return [[segment] for segment in range(len(self.streams))]

    def carried(self) -> dict[str, Tensor]:
        """The memory of the streams."""
        return {} if self._memory is None else {str(n): state for n, state in enumerate(self._memory.states)}

    def set_carried(self, tensors: dict[str, Tensor]) -> None:
        """Go on with that memory."""
        self._memory = self.model.memory_of([tensors[str(n)].to(self._device) for n in range(len(tensors))])

    def layer_groups(self) -> list[list[nn.Parameter]]:
        """The model's parameters by depth."""
        return self.model.by_depth()

    def loss_sum(self, rows: Sequence[int]) -> Tensor:
        """−log p of every token of the segments, in nats, added up."""
        total = torch.zeros((), device=self._device)
        for segment in rows:
            tokens, targets = (x.to(self._device, non_blocking=True) for x in self.streams.segment(segment))
            losses, self._memory = self.model.loss(tokens, targets, self._memory if segment else None)
            total = total + losses.float().sum()
        return total

    def loss_weight(self, rows: Sequence[int]) -> float:
        """Their tokens."""
        return float(sum(self.lengths[segment] for segment in rows))

    def describe(self, rows: Sequence[int]) -> list[str]:
        """Where segments stand."""
        size, length = self.streams.segment_length, self.streams.length
        return [f"tokens {row * size:,} to {min((row + 1) * size, length):,} of each stream" for row in rows]


def total_loss(model: SegmentModel, streams: Streams) -> tuple[float, int]:
    """−log p of all tokens of the streams, in nats, and how many there are; the memory is carried through.

    Args:
        model: in evaluation mode.
        streams: of the text.
    """
    device = next(model.parameters()).device
    memory, nats, n = None, 0.0, 0
    with torch.inference_mode():
        for segment in range(len(streams)):
            tokens, targets = (x.to(device, non_blocking=True) for x in streams.segment(segment))
            losses, memory = model.loss(tokens, targets, memory)
            nats, n = nats + float(losses.double().sum()), n + losses.numel()
    return nats, n
