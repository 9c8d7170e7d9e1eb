"""Attention: the one place where a query meets a key."""

from typing import TYPE_CHECKING

from huiyan.core.lazy import lazy_exports

if TYPE_CHECKING:
    from huiyan.attention.cache import KeyValueCache
    from huiyan.attention.functional import attend
    from huiyan.attention.maps import AttentionMap
    from huiyan.attention.masks import Causal, Global, Keys, Mask, Prefix, Segments, Where, Window
    from huiyan.attention.multihead import MultiHeadAttention
    from huiyan.attention.observing import observe
    from huiyan.attention.planning import Plan, plan

__all__ = [
    "AttentionMap",
    "Causal",
    "Global",
    "KeyValueCache",
    "Keys",
    "Mask",
    "MultiHeadAttention",
    "Plan",
    "Prefix",
    "Segments",
    "Where",
    "Window",
    "attend",
    "observe",
    "plan",
]

_MASKS = ("Causal", "Global", "Keys", "Mask", "Prefix", "Segments", "Where", "Window")

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        **dict.fromkeys(_MASKS, "huiyan.attention.masks"),
        "AttentionMap": "huiyan.attention.maps",
        "KeyValueCache": "huiyan.attention.cache",
        "MultiHeadAttention": "huiyan.attention.multihead",
        "Plan": "huiyan.attention.planning",
        "attend": "huiyan.attention.functional",
        "observe": "huiyan.attention.observing",
        "plan": "huiyan.attention.planning",
    },
)
