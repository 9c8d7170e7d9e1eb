"""Models: encoders and language models of every checkpoint family on one stack, heads, and writing."""

from typing import TYPE_CHECKING

from huiyan.core.lazy import lazy_exports

if TYPE_CHECKING:
    from huiyan.models.checkpoint import build_classifier, load_classifier, read_class_names, save_classifier
    from huiyan.models.classifier import SequenceClassifier
    from huiyan.models.config import ClassifierConfig, HeadConfig, LanguageModelConfig, TransformerConfig
    from huiyan.models.dense import DenseClassifier
    from huiyan.models.encoder import Encoder
    from huiyan.models.generate import Written, generate_tokens, stream_tokens
    from huiyan.models.generation_config import GenerationConfig, read_generation_config
    from huiyan.models.inference import language_model_for_inference
    from huiyan.models.language_checkpoint import fresh_language_model, load_language_model, save_language_model
    from huiyan.models.language_model import LanguageModel
    from huiyan.models.sources import ModelSource, find_model, known_models

__all__ = [
    "ClassifierConfig",
    "DenseClassifier",
    "Encoder",
    "GenerationConfig",
    "HeadConfig",
    "LanguageModel",
    "LanguageModelConfig",
    "ModelSource",
    "SequenceClassifier",
    "TransformerConfig",
    "Written",
    "build_classifier",
    "find_model",
    "fresh_language_model",
    "generate_tokens",
    "known_models",
    "language_model_for_inference",
    "load_classifier",
    "load_language_model",
    "read_class_names",
    "read_generation_config",
    "save_classifier",
    "save_language_model",
    "stream_tokens",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "LanguageModel": "huiyan.models.language_model",
        "LanguageModelConfig": "huiyan.models.config",
        "load_language_model": "huiyan.models.language_checkpoint",
        "save_language_model": "huiyan.models.language_checkpoint",
        "fresh_language_model": "huiyan.models.language_checkpoint",
        "generate_tokens": "huiyan.models.generate",
        "stream_tokens": "huiyan.models.generate",
        "Written": "huiyan.models.generate",
        "language_model_for_inference": "huiyan.models.inference",
        "GenerationConfig": "huiyan.models.generation_config",
        "read_generation_config": "huiyan.models.generation_config",
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
