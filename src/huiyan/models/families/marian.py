"""Marian, the translators of OPUS-MT: the Transformer of 2017, nearly. Source: Junczys-Dowmunt et al. 2018."""

from typing import Any

from huiyan.models.config import LanguageModelConfig
from huiyan.models.families import bart
from huiyan.models.families.family import CheckpointConfig
from huiyan.models.families.language import LanguageFamily


def _read(values: CheckpointConfig) -> LanguageModelConfig:
    size, shared = values.get("vocab_size", 58101), values.get("share_encoder_decoder_embeddings", True)
    sizes = (size, size if shared else values.get("decoder_vocab_size") or size)
    return bart.read_model(
        values,
        shared=shared,
        sizes=sizes,
        positions="split sinusoidal",
        n_positions=values.get("max_position_embeddings", 1024),
        embedding_norm=False,
        pad_id=values.get("pad_token_id", 58100),
    )


def _write(config: LanguageModelConfig) -> dict[str, Any]:
    return {
        **bart.write(config),
        "decoder_vocab_size": config.decoder.vocab_size,
        "share_encoder_decoder_embeddings": config.shared_words,
    }


FAMILY = LanguageFamily(
    name="marian",
    architecture="MarianMTModel",
    read=_read,
    write=_write,
    modules=bart.modules,
    prefix="model.",
    aliases=bart.ALIASES,
    constants=("embed_positions.weight",),
)
