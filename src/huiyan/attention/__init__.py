"""Attention: the one place where a query meets a key."""

from typing import TYPE_CHECKING

from huiyan.core.lazy import lazy_exports

if TYPE_CHECKING:
    from huiyan.attention.functional import attend
    from huiyan.attention.masks import Causal, Keys, Mask
    from huiyan.attention.multihead import MultiHeadAttention

__all__ = ["Causal", "Keys", "Mask", "MultiHeadAttention", "attend"]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "Causal": "huiyan.attention.masks",
        "Keys": "huiyan.attention.masks",
        "Mask": "huiyan.attention.masks",
        "MultiHeadAttention": "huiyan.attention.multihead",
        "attend": "huiyan.attention.functional",
    },
)
