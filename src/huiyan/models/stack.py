"""The one Transformer stack, on packed tokens.

A stack is a list of layers; a layer is two sublayers (attention, feed-forward), each with a norm and a residual.
What distinguishes architectures is handed in: the norm, the feed-forward network, the order of norm and residual,
and the order in which layers follow each other (a layer may come more than once: shared weights).
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from huiyan.attention.cache import KeyValueCache
from huiyan.attention.masks import Mask
from huiyan.attention.multihead import MultiHeadAttention
from huiyan.core.config import require
from huiyan.core.packed import check_none_is_empty, first_tokens

Rows = Float[Tensor, "t m"]


class Context(NamedTuple):
    """What a decoder looks at: the last hidden states of its encoder, `s m` with lengths `b`, or `b k m` without."""

    rows: Tensor
    lengths: Int[Tensor, " b"] | None = None


class LayerCache(NamedTuple):
    """Keys and values that a decoder's layer has seen: of its own tokens, and of the encoder's where there is one."""

    own: KeyValueCache
    context: KeyValueCache


class ResidualOrder(Protocol):
    """How a sublayer, its norm and its dropout join the residual stream ``x``."""

    def __call__(self, x: Tensor, sublayer: Callable[[Tensor], Tensor], norm: nn.Module, dropout: nn.Module) -> Tensor:
        """The residual stream after the sublayer."""
        ...


def post_norm(x: Tensor, sublayer: Callable[[Tensor], Tensor], norm: nn.Module, dropout: nn.Module) -> Tensor:
    """Norm outside: x ← norm(x + sublayer(x)). Source: Vaswani et al. 2017, section 3.1."""
    return norm(x + dropout(sublayer(x)))


def pre_norm(x: Tensor, sublayer: Callable[[Tensor], Tensor], norm: nn.Module, dropout: nn.Module) -> Tensor:
    """Norm inside: x ← x + sublayer(norm(x)), and a norm closes the stack. Source: Xiong et al. 2020, section 3.2."""
    return x + dropout(sublayer(norm(x)))


def seen_by(own: Mask | None, mask: Mask | None) -> Mask | None:
    """What a layer lets attend that has a mask of its own and is called with one."""
    if own is None or mask is None:
        return own if mask is None else mask
    return mask & own


class Layer(Protocol):
    """What a stack is made of: ``TransformerLayer``, or what stands in for one."""

    def __call__(
        self,
        x: Rows,
        lengths: Int[Tensor, " b"] | None,
        mask: Mask | None = None,
        *,
        context: Context | None = None,
        cache: LayerCache | None = None,
    ) -> Rows:
        """One layer deeper, `t m`."""
        ...

    def first_rows(self, x: Rows, lengths: Int[Tensor, " b"]) -> Float[Tensor, "b m"]:
        """What calling it gives for the first token of each sequence."""
        ...


class FeedForward(nn.Module):
    """The position-wise network: activation(x W₁ + b₁) W₂ + b₂. Source: Vaswani et al. 2017, eq. 2."""

    def __init__(
        self,
        width: int,
        feed_forward_width: int,
        activation: Callable[[Tensor], Tensor],
        *,
        bias: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.inner = nn.Linear(width, feed_forward_width, bias=bias)
        self.activation = activation
        self.dropout = nn.Dropout(dropout)
        self.outer = nn.Linear(feed_forward_width, width, bias=bias)

    def forward(self, x: Rows) -> Rows:
        """`t m` → `t f` → `t m`."""
        return self.outer(self.dropout(self.activation(self.inner(x))))


class GatedFeedForward(nn.Module):
    """The gated network: (activation(x W₁) ∘ x W₂) W₃. Source: Shazeer 2020, eq. 5 and 6 (GEGLU, SwiGLU)."""

    def __init__(
        self,
        width: int,
        feed_forward_width: int,
        activation: Callable[[Tensor], Tensor],
        *,
        bias: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.inner = nn.Linear(width, feed_forward_width, bias=bias)
        self.gate = nn.Linear(width, feed_forward_width, bias=bias)
        self.activation = activation
        self.dropout = nn.Dropout(dropout)
        self.outer = nn.Linear(feed_forward_width, width, bias=bias)

    def forward(self, x: Rows) -> Rows:
        """`t m` → `t f` → `t m`."""
        return self.outer(self.dropout(self.activation(self.inner(x)) * self.gate(x)))


class CrossAttention(nn.Module):
    """The sublayer in which a decoder looks at the source. Source: Vaswani et al. 2017, section 3.2.3.

    Args:
        attention: its queries come from the decoder, its keys and values from the encoder.
        norm: of the sublayer.
        dropout: probability, on what it adds to the residual stream.
    """

    def __init__(self, attention: MultiHeadAttention, norm: nn.Module, dropout: float) -> None:
        super().__init__()
        self.attention, self.norm, self.dropout = attention, norm, nn.Dropout(dropout)

    def forward(
        self,
        x: Rows,
        lengths: Int[Tensor, " b"] | None,
        context: Context | None,
        cache: KeyValueCache | None,
        residual: ResidualOrder,
    ) -> Rows:
        """The residual stream after it.

        Args:
            x: `t m`.
            lengths: of the decoder's sequences.
            context: what is looked at; None where ``cache`` holds its keys and values.
            cache: takes them in the first call.
            residual: how it joins the stream.
        """

        def look(rows: Tensor) -> Tensor:
            if context is None:
                return self.attention.attend_held(rows, cache)
            return self.attention(
                rows, context=context.rows, lengths=lengths, context_lengths=context.lengths, cache=cache
            )

        return residual(x, look, self.norm, self.dropout)


class TransformerLayer(nn.Module):
    """Attention, then the feed-forward network; in a decoder with an encoder, a look at the source between the two.

    Args:
        attention: where tokens of one sequence meet.
        feed_forward: `t m` → `t m`, each token by itself.
        norms: of the attention sublayer and of the feed-forward sublayer.
        residual: ``post_norm`` or ``pre_norm``.
        dropouts: probabilities, on what each sublayer adds to the residual stream.
        mask: what this layer lets attend, beside the mask it is called with.
        cross: the sublayer between the two.
    """

    def __init__(
        self,
        attention: MultiHeadAttention,
        feed_forward: nn.Module,
        *,
        norms: tuple[nn.Module, nn.Module],
        residual: ResidualOrder = post_norm,
        dropouts: tuple[float, float] = (0.0, 0.0),
        mask: Mask | None = None,
        cross: CrossAttention | None = None,
    ) -> None:
        super().__init__()
        self.attention = attention
        self.cross = cross
        self.attention_norm, self.feed_forward_norm = norms
        self.feed_forward = feed_forward
        self.residual = residual
        self.attention_dropout, self.feed_forward_dropout = (nn.Dropout(p) for p in dropouts)
        self.mask = mask

    def forward(
        self,
        x: Rows,
        lengths: Int[Tensor, " b"] | None,
        mask: Mask | None = None,
        *,
        context: Context | None = None,
        cache: LayerCache | None = None,
    ) -> Rows:
        """One layer deeper, `t m`; or `b l m`, without lengths.

        Args:
            x: the residual stream.
            lengths: of the packed sequences.
            mask: what may attend to what, beside the layer's own.
            context: of a layer with ``cross``; None where its cache holds it.
            cache: what the tokens before these have left.
        """
        seen = seen_by(self.mask, mask)

        def attend_to_own_sequence(rows: Tensor) -> Tensor:
            if cache is None:
                return self.attention(rows, lengths=lengths, mask=seen)
            return self.attention(rows, lengths=lengths, mask=seen, cache=cache.own)

        x = self.residual(x, attend_to_own_sequence, self.attention_norm, self.attention_dropout)
        if self.cross is not None:
            x = self.cross(x, lengths, context, None if cache is None else cache.context, self.residual)
        return self.residual(x, self.feed_forward, self.feed_forward_norm, self.feed_forward_dropout)

    @property
    def can_be_asked_for_rows(self) -> bool:
        """Whether some rows can be computed without the others.

        A position or a norm in front would have to know which row of the sequence asks.
        """
        attention = self.attention
        if type(attention) is not MultiHeadAttention or self.mask is not None:
            return False
        return attention.position is None and self.residual is post_norm

    def first_rows(self, x: Rows, lengths: Int[Tensor, " b"]) -> Float[Tensor, "b m"]:
        """What ``forward`` gives for the first token of each sequence; nothing else is computed, where that can be.

        Raises:
            ShapeError: a sequence is empty.
        """
        check_none_is_empty(lengths)
        first, attention = first_tokens(lengths, x.device), self.attention
        if not self.can_be_asked_for_rows:
            return self(x, lengths).index_select(0, first)
        one_each = torch.ones_like(lengths)

        def attend_to_own_sequence(rows: Tensor) -> Tensor:
            return attention(rows, context=x, lengths=one_each, context_lengths=lengths)

        rows = x.index_select(0, first)
        rows = self.residual(rows, attend_to_own_sequence, self.attention_norm, self.attention_dropout)
        return self.residual(rows, self.feed_forward, self.feed_forward_norm, self.feed_forward_dropout)


class Stack(nn.Module):
    """Layers in the order of ``depth_order``, then ``final_norm``.

    Args:
        layers: the distinct layers.
        depth_order: which layer stands at each depth; None is each once. A layer named twice shares its weights.
        final_norm: the closing norm that a ``pre_norm`` stack needs.
    Raises:
        ConfigError: ``depth_order`` names a layer that is not there.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        *,
        depth_order: Sequence[int] | None = None,
        final_norm: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(cast("Sequence[nn.Module]", layers))
        self.depth_order = tuple(range(len(layers)) if depth_order is None else depth_order)
        known = all(0 <= layer < len(layers) for layer in self.depth_order)
        require(known, "depth_order", f"indices of the {len(layers)} layers", self.depth_order)
        self.final_norm = nn.Identity() if final_norm is None else final_norm

    def distinct_layers(self) -> list[Layer]:
        """Every layer once."""
        return [cast("Layer", layer) for layer in self.layers]

    def in_order(self) -> list[Layer]:
        """The layer at every depth, the one next to the embeddings first."""
        distinct = self.distinct_layers()
        return [distinct[layer] for layer in self.depth_order]

    def forward(
        self,
        x: Rows,
        lengths: Int[Tensor, " b"] | None,
        mask: Mask | None = None,
        *,
        context: Context | None = None,
        caches: Sequence[LayerCache] | None = None,
    ) -> Rows:
        """`t m` through every depth; a token meets the tokens of its own sequence only, and those of its source."""
        if context is None and caches is None:
            for layer in self.in_order():
                x = layer(x, lengths, mask)
        else:
            each = [None] * len(self.depth_order) if caches is None else caches
            for layer, cache in zip(self.in_order(), each, strict=True):
                x = layer(x, lengths, mask, context=context, cache=cache)
        return self.final_norm(x)

    def first_rows(self, x: Rows, lengths: Int[Tensor, " b"]) -> Float[Tensor, "b m"]:
        """What ``forward`` gives for the first token of each sequence: all that some heads read.

        The last layer computes these rows alone, which saves most of that layer.

        Raises:
            ShapeError: a sequence is empty.
        """
        *below, last = self.in_order()
        for layer in below:
            x = layer(x, lengths)
        return self.final_norm(last.first_rows(x, lengths))
