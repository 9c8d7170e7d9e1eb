"""One layer made to answer: query, key and value are one product, and what follows a product rides along with it.

Bias, activation and residual are fused into the product they follow (``prepacked.py``: oneDNN on a CPU). A layer of a
kind that is not known here stays as it is, in float32: slower, and right.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any, TypeGuard, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from huiyan.attention.cache import KeyValueCache
from huiyan.attention.masks import Mask
from huiyan.attention.multihead import MultiHeadAttention
from huiyan.core.errors import ShapeError
from huiyan.core.packed import check_none_is_empty, first_tokens
from huiyan.models.int8 import ATTENTION_IN, ATTENTION_OUT, FEED_FORWARD_IN, Calibration
from huiyan.models.low_rank import LowRankLinear
from huiyan.models.prepacked import InputRanges, Int8Linear, PrepackedLinear
from huiyan.models.stack import (
    Context,
    CrossAttention,
    FeedForward,
    GatedFeedForward,
    Layer,
    LayerCache,
    Rows,
    Stack,
    TransformerLayer,
    post_norm,
    pre_norm,
    seen_by,
)

Product = Callable[..., Any]
"""Rows, and perhaps a residual, to rows."""
Seen = Callable[[str], InputRanges | None]


def fast_stack(
    stack: Stack, dtype: torch.dtype, calibration: Calibration | None = None, *, first_only: bool = False
) -> Stack:
    """The same stack, of layers that answer faster; rows come out in float32.

    Args:
        stack: in eval mode.
        dtype: of the rows inside.
        calibration: of products that multiply 8-bit integers.
        first_only: whether of the last layer nothing but ``first_rows`` will be asked for.
    """
    last = stack.depth_order[-1] if stack.depth_order else None
    layers = [
        _fast(layer, dtype, first_only=first_only and number == last, seen=_seen(calibration, number))
        for number, layer in enumerate(stack.distinct_layers())
    ]
    final = nn.Sequential(InDtype(torch.float32), stack.final_norm)
    return Stack(layers, depth_order=stack.depth_order, final_norm=final)


def _seen(calibration: Calibration | None, layer: int) -> Seen:
    return lambda product: None if calibration is None else calibration.of(layer, product)


def _fast(layer: Layer, dtype: torch.dtype, *, first_only: bool, seen: Seen) -> Layer:
    if can_be_fused(layer):
        return InferenceLayer(layer, dtype, first_only=first_only, seen=seen)
    return _Unchanged(layer)


def can_be_fused(layer: object) -> TypeGuard[TransformerLayer]:
    """Whether ``InferenceLayer`` knows all that the layer is made of."""
    if type(layer) is not TransformerLayer or layer.residual not in (post_norm, pre_norm):
        return False
    attentions = [layer.attention, *([] if layer.cross is None else [layer.cross.attention])]
    if any(type(attention) is not MultiHeadAttention for attention in attentions):
        return False
    if type(layer.feed_forward) not in (FeedForward, GatedFeedForward):
        return False
    return all(type(product) in (nn.Linear, LowRankLinear) for product in _products(layer))


def _products(layer: TransformerLayer) -> list[nn.Module]:
    """All matrices of a layer, those of relative positions aside."""
    attentions = [layer.attention, *([] if layer.cross is None else [layer.cross.attention])]
    products = [part for own in attentions for part in (own.query, own.key, own.value, own.out)]
    network = cast("FeedForward | GatedFeedForward", layer.feed_forward)
    gate = [network.gate] if isinstance(network, GatedFeedForward) else []
    return [*products, network.inner, *gate, network.outer]


class InferenceLayer(nn.Module):
    """One layer of a stack, as few operations; gives what the layer it is made from gives in eval mode.

    Args:
        layer: one that ``can_be_fused``.
        dtype: of the rows and the weights; on a CPU norms keep their own parameters in float32.
        first_only: whether ``first_rows`` will be asked for: queries then need a weight of their own.
        seen: gives what enters a product that is to multiply in int8, by its name in the layer; None for any other.
    """

    def __init__(self, layer: TransformerLayer, dtype: torch.dtype, *, first_only: bool, seen: Seen) -> None:
        super().__init__()
        attention = layer.attention
        self.dtype = dtype
        self.is_pre_norm = layer.residual is pre_norm
        self.attention_norm, self.feed_forward_norm = (
            _norm(norm, dtype) for norm in (layer.attention_norm, layer.feed_forward_norm)
        )
        entering = seen(ATTENTION_IN)
        self.projection = _Projections([attention.query, attention.key, attention.value], dtype, entering)
        split = first_only and layer.can_be_asked_for_rows
        self.query = _Projections([attention.query], dtype, entering) if split else None
        self.key_value = _Projections([attention.key, attention.value], dtype, entering) if split else None
        self.attention, self.mask = attention, layer.mask
        self.out = _prepacked([attention.out], dtype, seen(ATTENTION_OUT))
        self.cross = None if layer.cross is None else _FastCross(layer.cross, dtype)
        network = cast("FeedForward | GatedFeedForward", layer.feed_forward)
        self.network = _FastNetwork(network, dtype, seen(FEED_FORWARD_IN))

    def forward(
        self,
        x: Rows,
        lengths: Int[Tensor, " b"] | None,
        mask: Mask | None = None,
        *,
        context: Context | None = None,
        cache: LayerCache | None = None,
    ) -> Rows:
        """As ``TransformerLayer.forward``."""
        x = x.to(self.dtype)
        q, k, v = self.projection(self.attention_norm(x) if self.is_pre_norm else x)
        own = None if cache is None else cache.own
        heads = self.attention.meet(q, k, v, lengths=lengths, mask=seen_by(self.mask, mask), cache=own)
        rows = self.out(heads, x)
        if not self.is_pre_norm:
            rows = self.attention_norm(rows)
        if self.cross is not None:
            rows = self.cross(rows, lengths, context, None if cache is None else cache.context, self.is_pre_norm)
        return self._after_attention(rows)

    def first_rows(self, x: Rows, lengths: Int[Tensor, " b"]) -> Float[Tensor, "b m"]:
        """As ``TransformerLayer.first_rows``."""
        check_none_is_empty(lengths)
        x, first = x.to(self.dtype), first_tokens(lengths, x.device)
        if self.query is None or self.key_value is None:
            return self(x, lengths).index_select(0, first)
        rows = x.index_select(0, first)
        (q,), (k, v) = self.query(rows), self.key_value(x)
        one_each = torch.ones_like(lengths)
        heads = self.attention.meet(q, k, v, lengths=one_each, context_lengths=lengths, crosses=True)
        return self._after_attention(self.attention_norm(self.out(heads, rows)))

    def _after_attention(self, rows: Tensor) -> Tensor:
        """The feed-forward sublayer."""
        if self.is_pre_norm:
            return self.network(self.feed_forward_norm(rows), rows)
        return self.feed_forward_norm(self.network(rows, rows))


class _FastCross:
    """The sublayer in which a decoder looks at the source."""

    def __init__(self, cross: CrossAttention, dtype: torch.dtype) -> None:
        own = self.attention = cross.attention
        self.dtype, self.norm = dtype, _norm(cross.norm, dtype)
        self.query, self.out = _prepacked([own.query], dtype, None), _prepacked([own.out], dtype, None)
        self.key_value = _Projections([own.key, own.value], dtype, None)

    def __call__(
        self,
        x: Rows,
        lengths: Int[Tensor, " b"] | None,
        context: Context | None,
        cache: KeyValueCache | None,
        is_pre_norm: bool,
    ) -> Rows:
        q = self.query(self.norm(x) if is_pre_norm else x)
        if context is None:
            if cache is None or not cache.length:
                raise ShapeError(
                    "A context that no cache holds has to be given.",
                    hint="Pass context= in the first call with a cache.",
                )
            heads = self.attention.meet_held(q, cache)
        else:
            k, v = self.key_value(context.rows.to(self.dtype))
            heads = self.attention.meet(
                q, k, v, lengths=lengths, context_lengths=context.lengths, cache=cache, crosses=True
            )
        rows = self.out(heads, x)
        return rows if is_pre_norm else self.norm(rows)


class _FastNetwork:
    """The feed-forward network; its activation is fused into a product, unless a gate stands between."""

    def __init__(
        self, network: FeedForward | GatedFeedForward, dtype: torch.dtype, entering: InputRanges | None
    ) -> None:
        self.outer = _prepacked([network.outer], dtype, None)
        if isinstance(network, GatedFeedForward):
            self.activation = network.activation
            self.inner: Product = _Projections([network.inner, network.gate], dtype, entering)
        else:
            self.activation = None
            self.inner = _prepacked([network.inner], dtype, entering, network.activation)

    def __call__(self, x: Rows, residual: Rows) -> Rows:
        if self.activation is None:
            return self.outer(self.inner(x), residual)
        inner, gate = self.inner(x)
        return self.outer(self.activation(inner) * gate, residual)


class _Projections:
    """Several projections of the same rows: one product where all are whole, else one each."""

    def __init__(self, projections: Sequence[nn.Module], dtype: torch.dtype, entering: InputRanges | None) -> None:
        self.widths: list[int] = []
        if all(isinstance(projection, nn.Linear) for projection in projections):
            self.widths = [cast("nn.Linear", projection).out_features for projection in projections]
            self.products: list[Product] = [_prepacked(projections, dtype, entering)]
        else:
            self.products = [_prepacked([projection], dtype, entering) for projection in projections]

    def __call__(self, x: Tensor) -> Sequence[Tensor]:
        rows = [product(x) for product in self.products]
        return rows[0].split(self.widths, dim=-1) if self.widths else rows


class _TwoSteps:
    """A product of low rank."""

    def __init__(
        self, product: LowRankLinear, dtype: torch.dtype, activation: Callable[[Tensor], Tensor] | None
    ) -> None:
        self.down = PrepackedLinear([product.down], dtype=dtype)
        self.up = PrepackedLinear([product.up], dtype=dtype, activation=activation)

    def __call__(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        return self.up(self.down(x), residual)


def _prepacked(
    products: Sequence[nn.Module],
    dtype: torch.dtype,
    entering: InputRanges | None,
    activation: Callable[[Tensor], Tensor] | None = None,
) -> Product:
    """One product of low rank, or whole ones side by side; in int8 where it is known what enters them."""
    if isinstance(products[0], LowRankLinear):
        return _TwoSteps(products[0], dtype, activation)
    whole = cast("Sequence[nn.Linear]", products)
    if entering is not None:
        return Int8Linear(whole, entering, dtype=dtype, activation=activation)
    return PrepackedLinear(whole, dtype=dtype, activation=activation)


def _norm(norm: nn.Module, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    # Only a CPU's kernels take rows of one precision and gains of another.
    if any(parameter.device.type != "cpu" for parameter in norm.parameters()):
        norm = copy.deepcopy(norm).to(dtype)
    if type(norm) is nn.RMSNorm:
        return lambda x: norm(x.float()).to(x.dtype)  # its kernel takes no gain of another precision
    if type(norm) is not nn.LayerNorm:
        return lambda x: norm(x).to(x.dtype)
    shape, weight, bias, epsilon = norm.normalized_shape, norm.weight, norm.bias, norm.eps
    return lambda x: F.layer_norm(x, shape, weight, bias, epsilon)


class _Unchanged(nn.Module):
    """A layer as it was, among others in fewer bits."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.layer = layer

    def forward(
        self,
        x: Tensor,
        lengths: Tensor | None,
        mask: Mask | None = None,
        *,
        context: Context | None = None,
        cache: LayerCache | None = None,
    ) -> Tensor:
        if context is None and cache is None:
            return self.layer(x.float(), lengths, mask)
        return self.layer(x.float(), lengths, mask, context=context, cache=cache)

    def first_rows(self, x: Tensor, lengths: Tensor) -> Tensor:
        return self.layer.first_rows(x.float(), lengths)


class InDtype(nn.Module):
    """Rows in another precision."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def forward(self, x: Tensor) -> Tensor:
        """`… m`, as they are but for the precision."""
        return x.to(self.dtype)
