"""Qwen3: Llama with a norm on each head's queries and keys. Source: Yang et al. 2025."""

from dataclasses import replace
from typing import Any

from huiyan.models.config import LanguageModelConfig
from huiyan.models.families import llama
from huiyan.models.families.family import CheckpointConfig
from huiyan.models.families.language import LanguageFamily


def _read(values: CheckpointConfig) -> LanguageModelConfig:
    layer = replace(llama.BLOCK, attention_bias=values.get("attention_bias", False), qk_norm=True)
    return llama.read(values, layer, head_width=values.get("head_dim", 128))


def _write(config: LanguageModelConfig) -> dict[str, Any]:
    return {**llama.write(config), "attention_bias": config.decoder.layers[0].attention_bias}


FAMILY = LanguageFamily(
    name="qwen3",
    architecture="Qwen3ForCausalLM",
    read=_read,
    write=_write,
    modules=llama.modules,
    prefix="model.",
)
