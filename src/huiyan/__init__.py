"""Huiyan 慧眼: attention you can train, see, trust and serve."""

from typing import TYPE_CHECKING

from huiyan.core.lazy import lazy_exports

if TYPE_CHECKING:
    from huiyan.workflows.estimators import TextClassifier, TextRegressor
    from huiyan.workflows.writing import TextWriter

__version__ = "0.1.0"
__all__ = ["TextClassifier", "TextRegressor", "TextWriter", "__version__"]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "TextClassifier": "huiyan.workflows.estimators",
        "TextRegressor": "huiyan.workflows.estimators",
        "TextWriter": "huiyan.workflows.writing",
    },
)
