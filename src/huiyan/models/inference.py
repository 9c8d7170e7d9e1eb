"""The same classifier, made to answer: fewer and larger operations, weights laid out beforehand, fewer bits on request.

``for_inference(model, "bf16")`` gives a classifier that stands wherever the trained one does and computes the same:

- query, key and value are one product; bias, activation and residual ride along with the product they follow
  (``prepacked.py``: oneDNN on a CPU);
- rows stay in the precision asked for from the embeddings to the head, which is float32 as ever; in int8, products
  that were calibrated multiply 8-bit integers, and rows between them are bfloat16 where the processor knows it.

A layer of a kind that is not known here stays as it is, in float32: slower, and right.
"""

import copy
from collections.abc import Callable, Sequence
from typing import TypeGuard, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from huiyan.attention.masks import Mask
from huiyan.attention.multihead import MultiHeadAttention
from huiyan.core.devices import multiplies_bf16
from huiyan.core.errors import ConfigError
from huiyan.core.packed import Packed, check_none_is_empty, first_tokens
from huiyan.core.weightless import weightless
from huiyan.models.classifier import SequenceClassifier
from huiyan.models.int8 import ATTENTION_IN, ATTENTION_OUT, FEED_FORWARD_IN, Calibration
from huiyan.models.low_rank import LowRankLinear
from huiyan.models.prepacked import InputRanges, Int8Linear, PrepackedLinear
from huiyan.models.stack import FeedForward, Layer, Rows, Stack, TransformerLayer, post_norm, pre_norm

Product = Callable[..., Tensor]
"""Rows, and perhaps a residual, to rows."""
Seen = Callable[[str], InputRanges | None]
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def for_inference(
    model: SequenceClassifier, precision: str = "fp32", calibration: Calibration | None = None
) -> SequenceClassifier:
    """A classifier that gives the logits of ``model`` faster; it can neither be trained nor saved.

    It shares the embeddings and the head with ``model``, which is put into eval mode, and copies the layers.

    Args:
        model: in float32, on the device that will answer.
        precision: of the layers: "fp32", "bf16", "fp16", or "int8" on a CPU.
        calibration: of the model, for "int8".
    Raises:
        ConfigError: int8 without a calibration, or not on a CPU.
    """
    model.eval()
    device = next(model.parameters()).device
    if precision != "int8":
        calibration = None
    elif calibration is None:
        raise ConfigError("The precision int8 needs a calibration.", hint="Make one: huiyan.models.int8.calibrate")
    elif device.type != "cpu":
        raise ConfigError(f"The precision int8 is for the CPU, and the model is on {device}.", hint="Use bf16.")
    stack, dtype = model.encoder.stack, _dtype_of_rows(precision, device)
    last = stack.depth_order[-1] if stack.depth_order else None
    layers = [
        _fast(layer, dtype, first_only=model.head.reads_first_rows and number == last, seen=_seen(calibration, number))
        for number, layer in enumerate(stack.distinct_layers())
    ]
    with weightless():
        fast = InferenceClassifier(model.config)
    fast.encoder.embeddings = model.encoder.embeddings
    final = nn.Sequential(_InDtype(torch.float32), stack.final_norm)
    fast.encoder.stack = Stack(layers, depth_order=stack.depth_order, final_norm=final)
    fast.head = model.head
    return fast.eval()


class InferenceClassifier(SequenceClassifier):
    """What ``for_inference`` gives.

    On a CPU batches are filled up to round numbers of tokens and of texts. For every number of rows that it has not met
    oneDNN makes its products anew, which takes longer than most batches and keeps memory: over a large table, most of
    both.
    """

    def forward(self, packed: Packed) -> Float[Tensor, "b c"]:
        """Raw logits.

        Raises:
            ShapeError: a sequence is empty, or longer than the positions the model has.
        """
        on_cpu = packed.tokens.device.type == "cpu"
        filling = _filling(len(packed.tokens), len(packed), int(packed.lengths.max())) if on_cpu and len(packed) else []
        if not filling:
            return super().forward(packed)
        # Nobody reads them: copies of the first token, whatever it is, since that is one that exists.
        tokens = torch.cat([packed.tokens, packed.tokens[:1].expand(sum(filling))])
        lengths = torch.cat([packed.lengths, torch.tensor(filling, dtype=torch.int64)])
        types = None if packed.types is None else torch.cat([packed.types, packed.types.new_zeros(sum(filling))])
        return super().forward(Packed(tokens, lengths, types))[: len(packed)]


def _filling(n_tokens: int, n_texts: int, longest: int) -> list[int]:
    """Lengths of the texts that fill a batch up to round numbers, none longer than the longest it has.

    They are a few in a hundred of its tokens.
    """
    if n_tokens < 256:
        return []
    grain = 64 if n_tokens >= 1024 else 16
    tokens, texts = -n_tokens % grain, -n_texts % 16
    while not texts <= tokens <= texts * longest:
        if tokens < texts:
            tokens += grain
        else:
            texts += 16
    each = divmod(tokens, texts) if texts else (0, 0)
    return [each[0] + (number < each[1]) for number in range(texts)]


def _dtype_of_rows(precision: str, device: torch.device) -> torch.dtype:
    if precision == "int8":
        precision = "bf16" if multiplies_bf16(device) else "fp32"
    return DTYPES[precision]


def _seen(calibration: Calibration | None, layer: int) -> Seen:
    return lambda product: None if calibration is None else calibration.of(layer, product)


def _fast(layer: Layer, dtype: torch.dtype, *, first_only: bool, seen: Seen) -> Layer:
    if can_be_fused(layer):
        return InferenceLayer(layer, dtype, first_only=first_only, seen=seen)
    return _Unchanged(layer)


def can_be_fused(layer: object) -> TypeGuard[TransformerLayer]:
    """Whether ``InferenceLayer`` knows all that the layer is made of."""
    if type(layer) is not TransformerLayer or layer.residual not in (post_norm, pre_norm) or layer.mask is not None:
        return False
    attention, feed_forward = layer.attention, layer.feed_forward
    if type(attention) is not MultiHeadAttention or type(feed_forward) is not FeedForward:
        return False
    if attention.query_norm is not None or attention.key_norm is not None:
        return False
    products = (attention.query, attention.key, attention.value, attention.out, feed_forward.inner, feed_forward.outer)
    return all(type(product) in (nn.Linear, LowRankLinear) for product in products)


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
        attention, feed_forward = layer.attention, cast("FeedForward", layer.feed_forward)
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
        self.attention = attention
        self.out = _prepacked([attention.out], dtype, seen(ATTENTION_OUT))
        self.inner = _prepacked([feed_forward.inner], dtype, seen(FEED_FORWARD_IN), feed_forward.activation)
        self.outer = _prepacked([feed_forward.outer], dtype, None)

    def forward(self, x: Rows, lengths: Int[Tensor, " b"] | None, mask: Mask | None = None) -> Rows:
        """As ``TransformerLayer.forward``."""
        x = x.to(self.dtype)
        q, k, v = self.projection(self.attention_norm(x) if self.is_pre_norm else x)
        return self._after_attention(self._attend(q, k, v, lengths, lengths, mask), x)

    def first_rows(self, x: Rows, lengths: Int[Tensor, " b"]) -> Float[Tensor, "b m"]:
        """As ``TransformerLayer.first_rows``."""
        check_none_is_empty(lengths)
        x, first = x.to(self.dtype), first_tokens(lengths, x.device)
        if self.query is None or self.key_value is None:
            return self(x, lengths).index_select(0, first)
        rows = x.index_select(0, first)
        (q,), (k, v) = self.query(rows), self.key_value(x)
        return self._after_attention(self._attend(q, k, v, torch.ones_like(lengths), lengths, None), rows)

    def _attend(
        self, q: Tensor, k: Tensor, v: Tensor, lengths: Tensor | None, key_lengths: Tensor | None, mask: Mask | None
    ) -> Tensor:
        own = self.attention
        q, k, v = (x.unflatten(-1, (-1, own.head_width)) for x in (q, k, v))
        return own.attend(q, k, v, mask, own.position, lengths=lengths, key_lengths=key_lengths).flatten(-2)

    def _after_attention(self, heads: Tensor, x: Tensor) -> Tensor:
        """The rest of the layer, for the rows ``x`` that the heads belong to."""
        rows = self.out(heads, x)
        if self.is_pre_norm:
            return self.outer(self.inner(self.feed_forward_norm(rows)), rows)
        rows = self.attention_norm(rows)
        return self.feed_forward_norm(self.outer(self.inner(rows), rows))


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
    if type(norm) is not nn.LayerNorm:
        return lambda x: norm(x).to(x.dtype)
    shape, weight, bias, epsilon = norm.normalized_shape, norm.weight, norm.bias, norm.eps
    return lambda x: F.layer_norm(x, shape, weight, bias, epsilon)


class _Unchanged(nn.Module):
    """A layer as it was, among others in fewer bits."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor, lengths: Tensor | None, mask: Mask | None = None) -> Tensor:
        return self.layer(x.float(), lengths, mask)

    def first_rows(self, x: Tensor, lengths: Tensor) -> Tensor:
        return self.layer.first_rows(x.float(), lengths)


class _InDtype(nn.Module):
    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def forward(self, x: Tensor) -> Tensor:
        return x.to(self.dtype)
