"""A recurrent language model, the peer of those that attend: what was read is in one state of fixed size."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from huiyan.core.errors import ShapeError
from huiyan.models.adaptive import AdaptiveEmbedding, AdaptiveSoftmax
from huiyan.models.segment_config import LSTMConfig
from huiyan.models.segments import SegmentModel, depths_of


class LSTMMemory(NamedTuple):
    """The states after what was read: hidden and cell, `b n m` each for `n` layers."""

    states: tuple[Tensor, ...]


class LSTMLanguageModel(SegmentModel):
    """Embeddings, layers of LSTM, adaptive softmax.

    What enters the first layer has variance 1: there is no norm, and of the small rows that a Transformer-XL begins
    with the gates see nothing for thousands of steps when the vocabulary is large.

    Source: Hochreiter and Schmidhuber 1997; Zaremba et al. 2014 (dropout between layers).

    Args:
        config: its numbers.
    """

    def __init__(self, config: LSTMConfig) -> None:
        super().__init__()
        self.config, self.vocab_size = config, config.vocab_size
        self.embeddings = AdaptiveEmbedding(
            config.vocab_size,
            config.width,
            embedding_width=config.embedding_width,
            cutoffs=config.cutoffs,
            div_value=config.div_value,
        )
        self.dropout = nn.Dropout(config.dropout)
        between = config.dropout if config.n_layers > 1 else 0.0
        self.layers = nn.LSTM(config.width, config.width, config.n_layers, batch_first=True, dropout=between)
        self.output = AdaptiveSoftmax(self.embeddings, tied_words=config.tied_words)
        self.embeddings.reset_to_unit()

    def forward(
        self, tokens: Int[Tensor, "b l"], memory: LSTMMemory | None = None
    ) -> tuple[Float[Tensor, "b l m"], LSTMMemory]:
        """The last states of a segment, and the memory for the next; no gradient passes into it.

        Raises:
            ShapeError: another number of streams than the memory has, or no tokens.
        """
        if tokens.dim() != 2 or not tokens.shape[1]:
            raise ShapeError(f"An LSTM reads segments `b l` of at least one token. Got {tuple(tokens.shape)}.")
        if memory is not None and len(memory.states[0]) != len(tokens):
            raise ShapeError(f"This memory is of {len(memory.states[0])} streams. Got {len(tokens)}.")
        x = self.dropout(self.embeddings(tokens))
        before = None if memory is None else tuple(state.transpose(0, 1).contiguous() for state in memory.states)
        rows, after = self.layers(x, before)
        return self.dropout(rows), LSTMMemory(tuple(state.detach().transpose(0, 1) for state in after))

    def loss(
        self, tokens: Int[Tensor, "b l"], targets: Int[Tensor, "b l"], memory: LSTMMemory | None = None
    ) -> tuple[Float[Tensor, "b l"], LSTMMemory]:
        """−log p of every target, in nats, and the memory for the next segment.

        Raises:
            ShapeError: as ``forward``.
        """
        rows, after = self(tokens, memory)
        return self.output(rows.flatten(0, 1), targets.flatten()).unflatten(0, targets.shape), after

    def memory_of(self, states: Sequence[Tensor]) -> LSTMMemory | None:
        """The memory of a hidden and a cell state."""
        return LSTMMemory(tuple(states)) if states else None

    def by_depth(self) -> list[list[nn.Parameter]]:
        """Embeddings, each layer, output."""
        names = [f"_l{number}" for number in range(self.config.n_layers)]
        layers = [[own for name, own in self.layers.named_parameters() if name.endswith(end)] for end in names]
        ends = depths_of(self, [self.embeddings, self.layers])
        return [ends[0], *layers, *ends[2:]]

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return next(self.parameters()).device
