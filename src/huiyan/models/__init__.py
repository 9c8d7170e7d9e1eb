"""Models: encoders of every checkpoint family on one stack, and heads on them."""

from typing import TYPE_CHECKING

from huiyan.core.lazy import lazy_exports

if TYPE_CHECKING:
    from huiyan.models.checkpoint import build_classifier, load_classifier, read_class_names, save_classifier
    from huiyan.models.classifier import SequenceClassifier
    from huiyan.models.config import ClassifierConfig, HeadConfig, TransformerConfig
    from huiyan.models.dense import DenseClassifier
    from huiyan.models.encoder import Encoder
    from huiyan.models.sources import ModelSource, find_model, known_models

__all__ = [
    "ClassifierConfig",
    "DenseClassifier",
    "Encoder",
    "HeadConfig",
    "ModelSource",
    "SequenceClassifier",
    "TransformerConfig",
    "build_classifier",
    "find_model",
    "known_models",
    "load_classifier",
    "read_class_names",
    "save_classifier",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "ClassifierConfig": "huiyan.models.config",
        "DenseClassifier": "huiyan.models.dense",
        "Encoder": "huiyan.models.encoder",
        "TransformerConfig": "huiyan.models.config",
        "HeadConfig": "huiyan.models.config",
        "ModelSource": "huiyan.models.sources",
        "SequenceClassifier": "huiyan.models.classifier",
        "build_classifier": "huiyan.models.checkpoint",
        "find_model": "huiyan.models.sources",
        "known_models": "huiyan.models.sources",
        "load_classifier": "huiyan.models.checkpoint",
        "read_class_names": "huiyan.models.checkpoint",
        "save_classifier": "huiyan.models.checkpoint",
    },
)
