"""Writing with a model that reads streams: what it remembers of a text is as much at the end as at the beginning."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from huiyan.attention.cache import KeyValueCache
from huiyan.core.errors import ConfigError, ShapeError
from huiyan.core.packed import Packed
from huiyan.models.lstm import LSTMLanguageModel, LSTMMemory
from huiyan.models.segments import SegmentModel
from huiyan.models.transformer_xl import TransformerXL

_NO_END = 1 << 40
_AT_ONCE = 512  # tokens of a prompt


class RecurrentMemory:
    """What a model has read of a batch of texts that are equally long.

    Args:
        caches: of a Transformer-XL, one a layer; none of an LSTM.
    """

    def __init__(self, caches: Sequence[KeyValueCache] = ()) -> None:
        self.caches = list(caches)
        self.states: LSTMMemory | None = None
        self.longest = 0

    def select(self, indices: Tensor) -> None:
        """Go on with these texts, in this order; one may come more than once."""
        for cache in self.caches:
            cache.select(indices)
        if self.states is not None:
            self.states = LSTMMemory(tuple(state[indices.to(state.device)] for state in self.states.states))

    @property
    def memory_bytes(self) -> int:
        """Of all that is held: bounded, however long the text."""
        held = () if self.states is None else self.states.states
        return sum(cache.memory_bytes for cache in self.caches) + sum(state.nbytes for state in held)


class RecurrentWriter:
    """A Transformer-XL or an LSTM, for ``generate_tokens``: texts without an end, in bounded memory.

    A Transformer-XL sees ``memory_length`` tokens from each, as the paper evaluates it (``same_length``).

    Args:
        model: is put into evaluation mode.
    Raises:
        ConfigError: a model that reads each segment by itself, or one that keeps no memory.
    """

    def __init__(self, model: SegmentModel) -> None:
        if isinstance(model, TransformerXL):
            if not model.config.memory_length:
                raise ConfigError(
                    "This Transformer-XL keeps no memory, so it cannot go on with a text.",
                    hint="model.with_other(memory_length=…) gives it one.",
                )
            model = model if model.config.same_length else model.with_other(same_length=True)
        elif not isinstance(model, LSTMLanguageModel):
            raise ConfigError("Only models that carry a memory write like this.", hint="Load it as a LanguageModel.")
        self.model = model.eval()
        self.training = False
        self.vocab_size, self.source_vocab_size, self.start_id = model.vocab_size, None, 0
        self.max_length, self.takes_any_lengths = _NO_END, False

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return next(self.model.parameters()).device

    def fresh_cache(self) -> RecurrentMemory:
        """For a batch of texts."""
        caches = self.model.fresh_caches() if isinstance(self.model, TransformerXL) else ()
        return RecurrentMemory(caches)

    def __call__(
        self, packed: Packed, *, source: Any = None, cache: RecurrentMemory, only_last: bool
    ) -> Float[Tensor, "b v"]:
        """log p of what follows on the last token of each text.

        Raises:
            ShapeError: texts of different lengths.
        """
        del source
        if not only_last or bool((packed.lengths != packed.lengths[0]).any()):
            raise ShapeError("Texts of one length are gone on with together, and their last tokens are asked alone.")
        tokens = packed.tokens.unflatten(0, (len(packed), -1))
        rows = tokens.new_zeros(0)
        for part in tokens.split(_AT_ONCE, dim=1):
            if isinstance(self.model, TransformerXL):
                rows = self.model.go_on(part, cache.caches)
            else:
                rows, cache.states = self.model(part, cache.states)
        cache.longest += tokens.shape[1]
        return self.model.output.log_probabilities(rows[:, -1])
