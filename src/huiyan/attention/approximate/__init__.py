"""Attention that is not exact: modules one puts in by name, each with its own error. Nothing picks one unasked."""

from typing import TYPE_CHECKING

from huiyan.core.lazy import lazy_exports

if TYPE_CHECKING:
    from huiyan.attention.approximate.base import Approximation
    from huiyan.attention.approximate.features import FavorFeatures
    from huiyan.attention.approximate.linear import LinearAttention
    from huiyan.attention.approximate.linformer import LinformerAttention
    from huiyan.attention.approximate.nystrom import NystromAttention
    from huiyan.attention.approximate.span import AdaptiveSpan
    from huiyan.attention.approximate.swap import ApproximateSelfAttention

__all__ = [
    "AdaptiveSpan",
    "ApproximateSelfAttention",
    "Approximation",
    "FavorFeatures",
    "LinearAttention",
    "LinformerAttention",
    "NystromAttention",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "AdaptiveSpan": "huiyan.attention.approximate.span",
        "ApproximateSelfAttention": "huiyan.attention.approximate.swap",
        "Approximation": "huiyan.attention.approximate.base",
        "FavorFeatures": "huiyan.attention.approximate.features",
        "LinearAttention": "huiyan.attention.approximate.linear",
        "LinformerAttention": "huiyan.attention.approximate.linformer",
        "NystromAttention": "huiyan.attention.approximate.nystrom",
    },
)
