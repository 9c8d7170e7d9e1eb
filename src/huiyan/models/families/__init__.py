"""Checkpoint families: one small file each, its config and its weight names."""

from typing import TYPE_CHECKING

from huiyan.core.lazy import lazy_exports

if TYPE_CHECKING:
    from huiyan.models.families.family import Family
    from huiyan.models.families.registry import FAMILIES, family_named, family_of

__all__ = ["FAMILIES", "Family", "family_named", "family_of"]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "FAMILIES": "huiyan.models.families.registry",
        "Family": "huiyan.models.families.family",
        "family_named": "huiyan.models.families.registry",
        "family_of": "huiyan.models.families.registry",
    },
)
