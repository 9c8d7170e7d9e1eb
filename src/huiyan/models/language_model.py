"""Language models: the probability of every next token, of a text alone or given a source."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from huiyan.core.errors import ShapeError
from huiyan.core.packed import Packed
from huiyan.models.config import LanguageModelConfig
from huiyan.models.decoder import Decoder, DecoderCache
from huiyan.models.encoder import Encoder
from huiyan.models.stack import Context


class LanguageModel(nn.Module):
    """A decoder and its output layer; and an encoder, where texts are written from a source (translation, summaries).

    Packed token ids in, one row of logits a token out: what comes after it.

    Source: Vaswani et al. 2017, section 3.1 and figure 1; without an encoder, Radford et al. 2018.
    """

    logits_bias: Tensor | None

    def __init__(self, config: LanguageModelConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = None if config.encoder is None else Encoder(config.encoder)
        self.decoder = Decoder(config.decoder)
        words = self.decoder.embeddings.words
        if config.shared_words and self.encoder is not None:
            self.decoder.embeddings.words = self.encoder.embeddings.words
        self.output = None if config.tied else nn.Linear(config.decoder.width, words.num_embeddings, bias=False)
        # Only some checkpoints hold one. It is a constant: `transformers` does not train it either.
        self.register_buffer(
            "logits_bias", words.weight.new_zeros(1, words.num_embeddings) if config.logits_bias else None
        )

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.decoder.embeddings.words.weight.device

    @property
    def vocab_size(self) -> int:
        """Tokens that it writes."""
        return self.config.decoder.vocab_size

    @property
    def source_vocab_size(self) -> int | None:
        """Tokens of the source; None without an encoder."""
        return None if self.config.encoder is None else self.config.encoder.vocab_size

    @property
    def start_id(self) -> int:
        """The token that a text begins with, where it is written from a source."""
        return self.config.start_id or 0

    @property
    def max_length(self) -> int:
        """The longest text, in tokens."""
        return self.decoder.embeddings.max_length

    @property
    def takes_any_lengths(self) -> bool:
        """Whether texts of different lengths may begin together: they may."""
        return True

    def forward(
        self,
        packed: Packed,
        *,
        source: Packed | None = None,
        cache: DecoderCache | None = None,
        only_last: bool = False,
    ) -> Float[Tensor, "t v"]:
        """The logits of the token after each.

        Args:
            packed: the texts so far; with a cache that holds tokens, what follows on each, as many tokens for each.
            source: of a model with an encoder, one for each text; None where the cache has seen it.
            cache: a fresh ``DecoderCache``, or one that holds the tokens before. These are added.
            only_last: whether the last token of each sequence alone is asked: `b v`.
        Raises:
            ShapeError: a sequence that is too long or empty, a source that is missing or not wanted, or other numbers
                of sources and texts.
        """
        context = None if source is None else self._look_at(source, packed)
        rows = self.decoder(packed, context=context, cache=cache)
        if only_last:
            rows = rows.index_select(0, packed.last_tokens())
        return self.logits(rows)

    def logits(self, rows: Float[Tensor, "t m"]) -> Float[Tensor, "t v"]:
        """Of the decoder's rows."""
        if self.config.output_scale != 1.0:
            rows = rows * self.config.output_scale
        output = self.decoder.embeddings.words if self.output is None else self.output
        logits = functional.linear(rows, output.weight)
        return logits if self.logits_bias is None else logits + self.logits_bias

    def fresh_cache(self) -> DecoderCache:
        """A cache for a batch of this model."""
        return DecoderCache(len(self.decoder.stack.depth_order))

    def _look_at(self, source: Packed, packed: Packed) -> Context:
        if self.encoder is None:
            raise ShapeError("This model has no encoder. Got a source.")
        if len(source) != len(packed):
            raise ShapeError(f"Every text has one source. Got {len(packed)} texts and {len(source)} sources.")
        return Context(self.encoder(source), source.lengths)
