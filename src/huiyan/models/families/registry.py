"""The checkpoint families we read."""

from collections.abc import Mapping
from typing import Any

from huiyan.core.errors import UnknownFamilyError, closest
from huiyan.models.families import albert, bert, deberta_v2, distilbert, electra, modernbert, roberta, xlm_roberta
from huiyan.models.families.family import OWN_PREFIX, Family

FAMILIES: dict[str, Family] = {
    module.FAMILY.name: module.FAMILY
    for module in (bert, roberta, xlm_roberta, distilbert, electra, albert, modernbert, deberta_v2)
}


def family_named(name: str) -> Family:
    """The family of that name.

    Raises:
        UnknownFamilyError: we do not read it; the message names those we do.
    """
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
