"""The same classifier, made to answer: fewer and larger operations, weights laid out beforehand, fewer bits on request.

``for_inference(model, "bf16")`` gives a classifier that stands wherever the trained one does and computes the same:

- query, key and value are one product; bias, activation and residual ride along with the product they follow
  (``prepacked.py``: oneDNN on a CPU);
- rows stay in the precision asked for from the embeddings to the head, which is float32 as ever; in int8, products
  that were calibrated multiply 8-bit integers, and rows between them are bfloat16 where the processor knows it.

A layer of a kind that is not known here stays as it is, in float32: slower, and right.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from huiyan.core.devices import multiplies_bf16
from huiyan.core.errors import ConfigError
from huiyan.core.packed import Packed
from huiyan.core.weightless import weightless
from huiyan.models.classifier import SequenceClassifier
from huiyan.models.decoder import DecoderCache
from huiyan.models.inference_layer import fast_stack
from huiyan.models.int8 import Calibration
from huiyan.models.language_model import LanguageModel
from huiyan.models.prepacked import PrepackedLinear

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
    dtype = _dtype_of_rows(precision, device)
    stack = fast_stack(model.encoder.stack, dtype, calibration, first_only=model.head.reads_first_rows)
    with weightless():
        fast = InferenceClassifier(model.config)
    fast.encoder.embeddings = model.encoder.embeddings
    fast.encoder.stack = stack
    fast.head = model.head
    return fast.eval()


def language_model_for_inference(model: LanguageModel, precision: str = "fp32") -> LanguageModel:
    """A language model that writes what ``model`` writes, faster; it can neither be trained nor saved.

    It shares the embeddings with ``model``, which is put into eval mode, and copies the other matrices. In fewer bits
    a GPU holds keys and values in that precision too; logits come out in float32.

    Args:
        model: in float32, on the device that will write.
        precision: of the layers and the output: "fp32", "bf16" or "fp16".
    Raises:
        ConfigError: a precision that is none of these.
    """
    if precision not in DTYPES:
        raise ConfigError(f"A language model writes in {', '.join(DTYPES)}. Got {precision!r}.")
    model.eval()
    with weightless():
        fast = InferenceLanguageModel(model.config)
    dtype = DTYPES[precision]
    for own, whole in ((fast.decoder, model.decoder), (fast.encoder, model.encoder)):
        if own is not None and whole is not None:
            own.embeddings, own.relative = whole.embeddings, whole.relative
            own.stack = fast_stack(whole.stack, dtype)
    fast.take_output(model, dtype)
    return fast.eval()


class InferenceLanguageModel(LanguageModel):
    """What ``language_model_for_inference`` gives."""

    def take_output(self, model: LanguageModel, dtype: torch.dtype) -> None:
        """The output layer of ``model``, in this precision."""
        output = model.decoder.embeddings.words if model.output is None else model.output
        with weightless():
            linear = nn.Linear(output.weight.shape[1], output.weight.shape[0], bias=False)
        linear.weight = output.weight
        self._words, self._dtype = PrepackedLinear([linear], dtype=dtype), dtype
        self.output, self.logits_bias = None, model.logits_bias

    def fresh_cache(self) -> DecoderCache:
        """A cache for a batch; float32 on a CPU, which meets single queries in float32: nothing is converted again."""
        on_cpu = self.decoder.embeddings.words.weight.device.type == "cpu"
        return DecoderCache(len(self.decoder.stack.depth_order), dtype=torch.float32 if on_cpu else None)

    def logits(self, rows: Float[Tensor, "t m"]) -> Float[Tensor, "t v"]:
        """Of the decoder's rows."""
        scaled = rows if self.config.output_scale == 1.0 else rows * self.config.output_scale
        logits = self._words(scaled.to(self._dtype)).float()
        return logits if self.logits_bias is None else logits + self.logits_bias


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
