"""mT5: T5 1.1 in a hundred languages. Source: Xue et al. 2021."""

from huiyan.models.config import LanguageModelConfig
from huiyan.models.families import t5
from huiyan.models.families.family import CheckpointConfig
from huiyan.models.families.language import LanguageFamily


def _read(values: CheckpointConfig) -> LanguageModelConfig:
    return t5.read(values, scaled=False, feed_forward="gated-gelu")


FAMILY = LanguageFamily(
    name="mt5",
    architecture="MT5ForConditionalGeneration",
    read=_read,
    write=t5.write,
    modules=t5.modules,
    aliases=t5.ALIASES,
    constants=t5.CONSTANTS,
)
