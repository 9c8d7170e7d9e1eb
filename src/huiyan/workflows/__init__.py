"""What a user asks for, composed from the rooms below: train, evaluate, predict, report, models, estimators."""

from typing import TYPE_CHECKING

from huiyan.core.lazy import lazy_exports

if TYPE_CHECKING:
    from huiyan.workflows.estimators import TextClassifier

__all__ = ["TextClassifier"]

__getattr__, __dir__ = lazy_exports(__name__, {"TextClassifier": "huiyan.workflows.estimators"})
