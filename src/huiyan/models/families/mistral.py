"""Mistral: Llama whose layers all see the same window. Source: Jiang et al. 2023.

docs/add-a-family.md tells how this file came about.
"""

from typing import Any

from huiyan.models.config import LanguageModelConfig
from huiyan.models.families import llama
from huiyan.models.families.family import CheckpointConfig
from huiyan.models.families.language import LanguageFamily


def _read(values: CheckpointConfig) -> LanguageModelConfig:
    window = values.get("sliding_window", 4096)  # null is none; the token itself is counted there, and not here
    return llama.read(values, windows=[window and window - 1] * values.get("num_hidden_layers", 32))


def _write(config: LanguageModelConfig) -> dict[str, Any]:
    written = {"sliding_window": None, **llama.write(config)}
    return {key: value for key, value in written.items() if key not in ("layer_types", "use_sliding_window")}


FAMILY = LanguageFamily(
    name="mistral",
    architecture="MistralForCausalLM",
    read=_read,
    write=_write,
    modules=llama.modules,
    prefix="model.",
)
