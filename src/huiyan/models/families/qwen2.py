"""Qwen2 and Qwen2.5: Llama with biases on queries, keys and values. Source: Yang et al. 2024."""

from dataclasses import replace

from huiyan.models.config import LanguageModelConfig
from huiyan.models.families import llama
from huiyan.models.families.family import CheckpointConfig
from huiyan.models.families.language import LanguageFamily


def _read(values: CheckpointConfig) -> LanguageModelConfig:
    return llama.read(values, replace(llama.BLOCK, attention_bias="qkv"))


FAMILY = LanguageFamily(
    name="qwen2",
    architecture="Qwen2ForCausalLM",
    read=_read,
    write=llama.write,
    modules=llama.modules,
    prefix="model.",
)
