"""The decoder of every family: a causal stack that remembers what it has seen."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from huiyan.attention.cache import KeyValueCache
from huiyan.core.errors import ShapeError
from huiyan.core.packed import Packed
from huiyan.models.assembly import relative_for, stack_for
from huiyan.models.config import TransformerConfig
from huiyan.models.embeddings import Embeddings
from huiyan.models.stack import Context, LayerCache


class DecoderCache:
    """What a decoder has seen: keys and values of every layer, of its own tokens and of the source.

    It begins with packed sequences of any lengths. Afterwards each call adds as many tokens to every sequence.

    Args:
        n_layers: passes through a layer.
        dtype: of what is held; None is that of the keys.
    """

    def __init__(self, n_layers: int, *, dtype: torch.dtype | None = None) -> None:
        self.layers = [LayerCache(KeyValueCache(dtype=dtype), KeyValueCache(dtype=dtype)) for _ in range(n_layers)]

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence."""
        return self.layers[0].own.next_position

    @property
    def lengths(self) -> Int[Tensor, " b"] | int:
        """Tokens of each sequence; a number where all have as many."""
        starts = self.layers[0].own.starts
        return self.longest if starts is None else self.longest - starts

    @property
    def memory_bytes(self) -> int:
        """Of all layers."""
        return sum(cache.memory_bytes for cache in self._caches())

    def select(self, indices: Int[Tensor, " n"]) -> None:
        """Go on with these sequences, in this order; one may come more than once."""
        for cache in self._caches():
            cache.select(indices)

    @contextmanager
    def kept_on_error(self) -> Iterator[None]:
        """A `with` block that fails leaves every layer as it was."""
        with ExitStack() as stack:
            for layer in self.layers:
                for cache in layer:
                    stack.enter_context(cache.kept_on_error())
            yield

    def _caches(self) -> Iterator[KeyValueCache]:
        yield from (cache for layer in self.layers for cache in layer if cache.length)


class Decoder(nn.Module):
    """A causal Transformer: every token sees those before it, and where there is an encoder, the whole of its source.

    Source: Vaswani et al. 2017, section 3.1; without an encoder, Radford et al. 2018.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.relative = relative_for(config)
        self.stack = stack_for(config, self.relative)
        self.output_dropout = nn.Dropout(config.output_dropout)

    def forward(
        self, packed: Packed, *, context: Context | None = None, cache: DecoderCache | None = None
    ) -> Float[Tensor, "t m"]:
        """The last hidden state of every token.

        Args:
            packed: the sequences; with a cache that holds tokens, what follows on each, as many tokens for every one.
            context: the encoder's rows; with a cache that has seen them, None.
            cache: of the tokens before; these are added.
        Raises:
            ShapeError: a sequence is longer than the positions the model has, sequences of a cache go on with different
                numbers of tokens, or the source is missing. A cache then holds what it held.
        """
        self._check_source(context, cache)
        if cache is None:
            return self.output_dropout(self.stack(self.embeddings(packed), packed.lengths, context=context))
        with cache.kept_on_error():
            if not cache.longest:
                rows = self.stack(self.embeddings(packed), packed.lengths, context=context, caches=cache.layers)
            else:
                x = self._following(packed, cache)
                rows = self.stack(x, None, context=context, caches=cache.layers).flatten(0, 1)
        return self.output_dropout(rows)

    def _following(self, packed: Packed, cache: DecoderCache) -> Float[Tensor, "b n m"]:
        n = len(packed.tokens) // max(len(packed), 1)
        if bool((packed.lengths != n).any()):
            raise ShapeError(
                f"Every sequence of a cache goes on with as many tokens. Got lengths {packed.lengths.tolist()}."
            )
        if cache.longest + n > self.embeddings.max_length:
            raise ShapeError(
                f"A sequence of {cache.longest + n} tokens is longer than the {self.embeddings.max_length} positions "
                "of this model.",
                hint="Ask for fewer tokens, or cut the prompt.",
            )
        held = cache.lengths
        positions = torch.arange(n, device=packed.tokens.device)
        positions = positions + (held if isinstance(held, int) else held[:, None])
        tokens = packed.tokens.unflatten(0, (len(packed), n))
        return self.embeddings.at(tokens, positions.expand(tokens.shape))

    def _check_source(self, context: Context | None, cache: DecoderCache | None) -> None:
        wanted = self.config.context_width is not None
        known = cache is not None and cache.longest > 0
        if wanted and context is None and not known:
            raise ShapeError("This decoder looks at the output of an encoder.", hint="Pass the source.")
        if context is not None and not wanted:
            raise ShapeError("This decoder has no encoder to look at. Got a source.")
