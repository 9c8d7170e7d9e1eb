"""Transformer-XL: a segment sees the states of those before it, and positions are distances.

Source: Dai et al. 2019, and its published PyTorch code, whose results these are.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from huiyan.attention.cache import KeyValueCache
from huiyan.attention.masks import Causal, Keys, Mask, Window
from huiyan.attention.multihead import MultiHeadAttention
from huiyan.attention.positions.xl import XLBiases, XLRelative
from huiyan.core.errors import ConfigError, ShapeError
from huiyan.models.adaptive import AdaptiveEmbedding, AdaptiveSoftmax
from huiyan.models.low_rank import bias_of
from huiyan.models.segment_config import TransformerXLConfig
from huiyan.models.segments import SegmentModel, depths_of
from huiyan.models.stack import (
    Context,
    FeedForward,
    LayerCache,
    Rows,
    Stack,
    TransformerLayer,
    post_norm,
    pre_norm,
    seen_by,
)


class XLMemory(NamedTuple):
    """What a model keeps of the tokens it has read.

    ``states`` are what entered each layer, `b n m` each. Streams that have fewer than `n` have them at the end, and
    ``lengths``, `b`, says how many; None is `n` for all.
    """

    states: tuple[Tensor, ...]
    lengths: Tensor | None = None

    @property
    def length(self) -> int:
        """Tokens kept of the stream that has most."""
        return self.states[0].shape[1] if self.states else 0

    def then(self, entered: Sequence[Tensor], longest: int, lengths: Tensor | None = None) -> "XLMemory":
        """With the next segment's, the last ``longest`` of both; no gradient passes into them.

        Args:
            entered: what entered each layer, `b l m`.
            longest: tokens to keep at most.
            lengths: how many of the `l` are tokens of each stream; None is all.
        """
        joined = (torch.cat((old, new.detach()), dim=1) for old, new in zip(self.states, entered, strict=True))
        if self.lengths is None and lengths is None:
            return XLMemory(tuple(rows[:, max(0, rows.shape[1] - longest) :] for rows in joined))
        like = entered[0]
        read = torch.full((len(like),), like.shape[1], device=like.device) if lengths is None else lengths
        held = torch.full_like(read, self.length) if self.lengths is None else self.lengths
        kept = (held + read).clamp(max=longest)
        size = int(kept.max())
        places = (self.length + read)[:, None] + torch.arange(-size, 0, device=like.device)
        places = places.clamp(min=0)[..., None]
        return XLMemory(tuple(rows.take_along_dim(places, dim=1) for rows in joined), kept)

    def seen(self, n_tokens: int, lengths: Tensor | None) -> Keys | None:
        """Which of the states kept and of `n_tokens` behind them are tokens of each stream; None where all are."""
        if self.lengths is None and lengths is None:
            return None
        one = self.states[0]
        read = torch.full((len(one),), n_tokens, device=one.device) if lengths is None else lengths
        held = torch.full_like(read, self.length) if self.lengths is None else self.lengths
        places = torch.arange(-self.length, n_tokens, device=one.device)
        return Keys((places >= -held[:, None]) & (places < read[:, None]))


class RecurrentLayer(TransformerLayer):
    """A layer that also sees the states that entered it before. Source: Dai et al. 2019, section 3.2."""

    def forward(
        self,
        x: Rows,
        lengths: Int[Tensor, " b"] | None,
        mask: Mask | None = None,
        *,
        context: Context | None = None,
        cache: LayerCache | None = None,
        memory: Float[Tensor, "b n m"] | None = None,
    ) -> Rows:
        """As ``TransformerLayer.forward``; ``memory`` are states in front of ``x``, `b l m` then."""
        if memory is None:
            return super().forward(x, lengths, mask, context=context, cache=cache)
        before = self.attention_norm(memory) if self.residual is pre_norm else memory

        def attend_to_both(rows: Tensor) -> Tensor:
            both = torch.cat((before.to(rows.dtype), rows), dim=1)
            return self.attention(rows, context=both, mask=seen_by(self.mask, mask))

        x = self.residual(x, attend_to_both, self.attention_norm, self.attention_dropout)
        return self.residual(x, self.feed_forward, self.feed_forward_norm, self.feed_forward_dropout)


class TransformerXL(SegmentModel):
    """Transformer-XL: embeddings, recurrent layers, adaptive softmax.

    Dense, since streams go on in step: `b` streams of text, a segment of `l` tokens of each at a time.

    Source: Dai et al. 2019. Differs: dropout on the sinusoids is drawn for each layer by itself.

    Args:
        config: its numbers.
    """

    def __init__(self, config: TransformerXLConfig) -> None:
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
        self.biases = None if config.untied_biases else XLBiases(config.n_heads, config.head_width)
        self.stack = Stack([self._layer() for _ in range(config.n_layers)])
        self.output = AdaptiveSoftmax(
            self.embeddings, tied_words=config.tied_words, tied_projections=config.tied_projections
        )
        self.checkpointed = False

    def forward(
        self,
        tokens: Int[Tensor, "b l"],
        memory: XLMemory | None = None,
        *,
        lengths: Int[Tensor, " b"] | None = None,
    ) -> tuple[Float[Tensor, "b l m"], XLMemory]:
        """The last states of a segment, and the memory for the next.

        Args:
            tokens: what follows in each stream.
            memory: of what came before; None at the beginning.
            lengths: how many tokens of each stream there are, from 0 to `l`; the others are passed over, and their rows
                mean nothing. None is `l` for all.
        Raises:
            ShapeError: another number of streams than the memory has, no tokens, or lengths that cannot be.
        """
        memory = self._memory_for(tokens, memory)
        lengths = _checked(lengths, tokens)
        x, mask, seen = self.dropout(self.embeddings(tokens)), self.mask(), memory.seen(tokens.shape[1], lengths)
        mask = mask if seen is None else mask & seen
        entered: list[Tensor] = []
        for layer, states in zip(self.layers(), memory.states, strict=True):
            entered.append(x)
            if self.checkpointed and torch.is_grad_enabled():
                x = checkpoint(_run, layer, x, mask, states, use_reentrant=False)
            else:
                x = layer(x, None, mask, memory=states)
        return self.dropout(x), memory.then(entered, self.config.memory_length, lengths)

    def loss(
        self,
        tokens: Int[Tensor, "b l"],
        targets: Int[Tensor, "b l"],
        memory: XLMemory | None = None,
        *,
        lengths: Int[Tensor, " b"] | None = None,
    ) -> tuple[Float[Tensor, "b l"], XLMemory]:
        """−log p of every target, in nats, and the memory for the next segment.

        Args:
            tokens: as of ``forward``.
            targets: what comes after each.
            memory: as of ``forward``.
            lengths: as of ``forward``; the loss of what is passed over is 0.
        Raises:
            ShapeError: as ``forward``.
        """
        rows, next_memory = self(tokens, memory, lengths=lengths)
        if lengths is None:
            return self.output(rows.flatten(0, 1), targets.flatten()).unflatten(0, targets.shape), next_memory
        places = torch.arange(tokens.shape[1], device=tokens.device) < lengths.to(tokens.device)[:, None]
        found = self.output(rows[places], targets[places])
        return found.new_zeros(targets.shape).masked_scatter(places, found), next_memory

    def go_on(self, tokens: Int[Tensor, "b l"], caches: Sequence[KeyValueCache]) -> Float[Tensor, "b l m"]:
        """The last states of what follows, from keys and values that were projected once; for evaluation.

        Args:
            tokens: what follows in each stream.
            caches: of ``fresh_caches``; these tokens are added.
        Raises:
            ConfigError: the model is in training mode.
        """
        if self.training:
            raise ConfigError("Keys and values are kept in evaluation mode alone.", hint="Call model.eval().")
        x = self.embeddings(tokens)
        for layer, cache in zip(self.layers(), caches, strict=True):
            x = layer(x, None, Causal(), cache=LayerCache(cache, KeyValueCache()))
        return x

    def fresh_caches(self) -> list[KeyValueCache]:
        """Empty caches, one a layer, that hold as many tokens as a token sees.

        Raises:
            ConfigError: without ``same_length`` what a token sees depends on where its segment begins.
        """
        if not self.config.same_length:
            raise ConfigError(
                "Keys and values can be kept where every token sees equally many.",
                hint="Build the model with same_length=True, as the paper evaluates.",
            )
        return [KeyValueCache(max_length=self.config.memory_length) for _ in range(self.config.n_layers)]

    def memory_of(self, states: Sequence[Tensor]) -> XLMemory | None:
        """The memory of what entered each layer."""
        return XLMemory(tuple(states)) if states else None

    def by_depth(self) -> list[list[nn.Parameter]]:
        """Embeddings, each layer, and the output with the biases that layers share."""
        return depths_of(self, [self.embeddings, *self.stack.layers])

    def layers(self) -> list[RecurrentLayer]:
        """In order."""
        return [layer for layer in self.stack.layers if isinstance(layer, RecurrentLayer)]

    def mask(self) -> Mask:
        """What a token sees of the segment and of the memory in front of it."""
        return Window(self.config.memory_length - 1, 0) if self.config.same_length else Causal()

    def with_other(
        self, *, memory_length: int | None = None, same_length: bool | None = None, clamp_length: int | None = None
    ) -> "TransformerXL":
        """The same weights, evaluated otherwise than trained; None leaves a number as it is."""
        changes = {"memory_length": memory_length, "same_length": same_length, "clamp_length": clamp_length}
        config = replace(self.config, **{name: value for name, value in changes.items() if value is not None})
        with torch.device("meta"):
            other = TransformerXL(config)
        other.load_state_dict(self.state_dict(keep_vars=True), assign=True)
        return other.train(self.training)

    def _layer(self) -> RecurrentLayer:
        config = self.config
        position = XLRelative(
            config.width,
            config.n_heads,
            head_width=config.head_width,
            clamp_length=config.clamp_length,
            biases=self.biases,
            dropout=config.dropout,
        )
        attention = MultiHeadAttention(
            config.width,
            config.n_heads,
            head_width=config.head_width,
            bias=False,
            position=position,
            dropout=config.attention_dropout,
        )
        network = FeedForward(config.width, config.feed_forward_width, functional.relu, dropout=config.dropout)
        layer = RecurrentLayer(
            attention,
            network,
            norms=(nn.LayerNorm(config.width), nn.LayerNorm(config.width)),
            residual=pre_norm if config.residual == "pre" else post_norm,
            dropouts=(config.dropout, config.dropout),
        )
        # As the published code: every matrix from N(0, 0.02²), gains around 1.
        for module in layer.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.02)
                bias = bias_of(module)
                if bias is not None:
                    nn.init.zeros_(bias)
            elif isinstance(module, nn.LayerNorm):
                nn.init.normal_(module.weight, mean=1.0, std=0.02)
        return layer

    def _memory_for(self, tokens: Tensor, memory: XLMemory | None) -> XLMemory:
        if tokens.dim() != 2 or not tokens.shape[1]:
            raise ShapeError(f"Transformer-XL reads segments `b l` of at least one token. Got {tuple(tokens.shape)}.")
        if memory is None:
            dtype = self.embeddings.dtype
            empty = torch.empty(len(tokens), 0, self.config.width, dtype=dtype, device=tokens.device)
            return XLMemory((empty,) * self.config.n_layers)
        if len(memory.states) != self.config.n_layers or len(memory.states[0]) != len(tokens):
            raise ShapeError(
                f"This memory is of {len(memory.states[0])} streams and {len(memory.states)} layers. "
                f"Got {len(tokens)} streams for {self.config.n_layers} layers."
            )
        return memory


def _checked(lengths: Tensor | None, tokens: Tensor) -> Tensor | None:
    if lengths is None:
        return None
    if lengths.shape != tokens.shape[:1] or bool(((lengths < 0) | (lengths > tokens.shape[1])).any()):
        raise ShapeError(
            f"lengths are a number from 0 to {tokens.shape[1]} for each of {len(tokens)} streams. "
            f"Got {lengths.tolist()}."
        )
    return lengths.to(tokens.device)


def _run(layer: RecurrentLayer, x: Tensor, mask: Mask, states: Tensor) -> Tensor:
    return layer(x, None, mask, memory=states)
