"""The checkpoint families we read."""

from collections.abc import Mapping
from typing import Any

from huiyan.core.errors import UnknownFamilyError, closest
from huiyan.models.families import (
    albert,
    bart,
    bert,
    deberta_v2,
    distilbert,
    electra,
    gpt2,
    llama,
    marian,
    mistral,
    modernbert,
    mt5,
    qwen2,
    qwen3,
    roberta,
    t5,
    transformer_2017,
    xlm_roberta,
)
from huiyan.models.families.family import OWN_PREFIX, Family
from huiyan.models.families.language import LanguageFamily

FAMILIES: dict[str, Family] = {
    module.FAMILY.name: module.FAMILY
    for module in (bert, roberta, xlm_roberta, distilbert, electra, albert, modernbert, deberta_v2)
}
LANGUAGE_FAMILIES: dict[str, LanguageFamily] = {
    module.FAMILY.name: module.FAMILY
    for module in (gpt2, llama, mistral, qwen2, qwen3, bart, marian, t5, mt5, transformer_2017)
}


def language_family_of(values: Mapping[str, Any]) -> LanguageFamily:
    """The family of language models that a config.json is of.

    Raises:
        UnknownFamilyError: it has no ``model_type``, or one that is none of these.
    """
    name = str(values.get("model_type")).removeprefix(OWN_PREFIX)
    if name not in LANGUAGE_FAMILIES:
        raise UnknownFamilyError(
            f"Huiyan reads no language models of the family {name!r}. It reads those of: "
            f"{', '.join(sorted(LANGUAGE_FAMILIES))}, and Transformer-XL and LSTM as streams.",
            hint="It is an encoder: train it with `huiyan train`, or, once trained, ask it with `huiyan predict`."
            if name in FAMILIES
            else "Load it with transformers, and give it our attention and maps with huiyan.bridge.attach.",
        )
    return LANGUAGE_FAMILIES[name]


def family_named(name: str) -> Family:
    """The family of that name.

    Raises:
        UnknownFamilyError: we do not read it; the message names those we do.
    """
    if name in LANGUAGE_FAMILIES:
        raise UnknownFamilyError(
            f"{name} is a family of language models, which write texts. This needs an encoder of one of: "
            f"{', '.join(sorted(FAMILIES))}.",
            hint="Choose another model, or write with it: load_language_model.",
        )
    if name not in FAMILIES:
        raise UnknownFamilyError(
            f"Huiyan does not read checkpoints of the family {name!r}. It reads: {', '.join(sorted(FAMILIES))}.",
            hint=closest(name, FAMILIES) if closest(name, FAMILIES).startswith("Did") else "Choose another model.",
        )
    return FAMILIES[name]


def family_of(values: Mapping[str, Any]) -> Family:
    """The family that a config.json is of.

    Raises:
        UnknownFamilyError: it has no ``model_type``, or one we do not read.
    """
    name = values.get("model_type")
    if not isinstance(name, str):
        raise UnknownFamilyError(
            f"This config.json names no model_type, so its family is not known. It should be one of: "
            f"{', '.join(sorted(FAMILIES))}.",
            hint="Choose a checkpoint that says what it is.",
        )
    return family_named(name.removeprefix(OWN_PREFIX))
