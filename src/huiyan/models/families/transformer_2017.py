"""The Transformer as its paper draws it. Source: Vaswani et al. 2017. Its folders are ours alone."""

from typing import Any

from huiyan.models.config import LanguageModelConfig, LayerConfig, TransformerConfig
from huiyan.models.families.family import OWN_PREFIX, CheckpointConfig
from huiyan.models.families.language import LanguageFamily

NAME = "transformer-2017"
_KEYS = (
    "vocab_size",
    "width",
    "n_layers",
    "n_heads",
    "feed_forward_width",
    "n_positions",
    "dropout",
    "start_id",
    "pad_id",
)


def transformer_2017(
    vocab_size: int,
    *,
    start_id: int,
    pad_id: int | None = None,
    width: int = 512,
    n_layers: int = 6,
    n_heads: int = 8,
    feed_forward_width: int = 2048,
    n_positions: int = 10_000,
    dropout: float = 0.1,
) -> LanguageModelConfig:
    """The base model of the paper's table 3, or one of other sizes.

    Sinusoidal positions on word vectors times √m, norms behind, one matrix for both word tables and the output layer
    (section 3.4). Differs: fresh weights are drawn with the deviation m^(−1/2), of which the paper says nothing.

    Args:
        vocab_size: tokens of both languages together (section 5.1).
        start_id: the token that a text begins with.
        pad_id: a token without a vector, if there is one.
        width: `m`, d_model in the paper.
        n_layers: N, of the encoder and of the decoder.
        n_heads: `h`.
        feed_forward_width: `f`, d_ff in the paper.
        n_positions: the longest text; the waves have no end.
        dropout: P_drop, on embeddings and on what each sublayer adds (section 5.4).
    """

    def stack(**options: Any) -> TransformerConfig:
        return TransformerConfig(
            family=NAME,
            vocab_size=vocab_size,
            width=width,
            embedding_width=width,
            embedding_scale=width**0.5,
            embedding_norm=False,
            positions="sinusoidal",
            n_layers=n_layers,
            n_layer_groups=n_layers,
            n_heads=n_heads,
            feed_forward_width=feed_forward_width,
            n_positions=n_positions,
            pad_id=pad_id,
            activation="relu",
            norm_epsilon=1e-5,
            embedding_dropout=dropout,
            attention_output_dropout=dropout,
            feed_forward_dropout=dropout,
            initializer_range=width**-0.5,
            layers=(LayerConfig(residual="post"),) * n_layers,
            **options,
        )

    return LanguageModelConfig(
        encoder=stack(),
        decoder=stack(causal=True, context_width=width),
        shared_words=True,
        tied=True,
        start_id=start_id,
    )


def _read(values: CheckpointConfig) -> LanguageModelConfig:
    return transformer_2017(**{key: values[key] for key in _KEYS if key in values})


def _write(config: LanguageModelConfig) -> dict[str, Any]:
    decoder = config.decoder
    found = {key: getattr(decoder, key) for key in _KEYS if key not in ("dropout", "start_id")}
    return {"model_type": OWN_PREFIX + NAME, "dropout": decoder.embedding_dropout, "start_id": config.start_id, **found}


def _modules(config: LanguageModelConfig) -> dict[str, str]:
    """Our own names."""
    names: dict[str, str] = {"encoder.embeddings.words": "encoder.embeddings.words", "output": "output"}
    # The decoder's word table is the encoder's.
    names["decoder.embeddings.words"] = "encoder.embeddings.words"
    attention = [
        f"{kind}.{part}" for kind in ("attention", "cross.attention") for part in ("query", "key", "value", "out")
    ]
    parts = [
        *attention,
        "attention_norm",
        "cross.norm",
        "feed_forward.inner",
        "feed_forward.outer",
        "feed_forward_norm",
    ]
    for side in ("encoder", "decoder"):
        for layer in range(config.decoder.n_layers):
            names |= {name: name for part in parts for name in [f"{side}.stack.layers.{layer}.{part}"]}
    return names


FAMILY = LanguageFamily(name=NAME, architecture="", read=_read, write=_write, modules=_modules)
