"""Fine-tune an encoder on texts and labels: what `huiyan train` and ``TextClassifier.fit`` share."""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from huiyan import __version__
from huiyan.core.decision import Decision
from huiyan.core.devices import pick_device
from huiyan.core.seeds import derive_seed
from huiyan.data.examples import Examples
from huiyan.evaluation.metrics import classification_scores
from huiyan.models.checkpoint import build_classifier
from huiyan.models.sources import ModelSource
from huiyan.tasks.artifact import Artifact, Manifest, check_vocabulary
from huiyan.tasks.classify import ClassificationObjective, balanced_weights, logits_of
from huiyan.text.tokenise import Tokenizer
from huiyan.training.config import TrainingConfig
from huiyan.training.loop import TrainingLoop, TrainingState, Validation
from huiyan.training.progress import Reporter
from huiyan.workflows.config import ModelConfig


@dataclass(frozen=True)
class Fitted:
    """What training gave.

    Args:
        artifact: the model with its best weights.
        state: how the run went.
        device: where it ran.
        token_lengths: tokens of each training text before any cut.
    """

    artifact: Artifact
    state: TrainingState
    device: torch.device
    token_lengths: list[int]


def fit_classifier(
    train: Examples,
    validation: Examples,
    source: ModelSource,
    *,
    columns: tuple[tuple[str, ...], str],
    model_config: ModelConfig,
    training: TrainingConfig,
    reporter: Reporter,
    checkpoint_folder: Path | None = None,
    resume: bool = False,
) -> Fitted:
    """Put the head on the encoder, train, and keep the weights that were best on the validation rows.

    Args:
        train: rows to learn from.
        validation: rows that pick the best checkpoint; never the test rows.
        source: the pretrained encoder.
        columns: names of the text columns and of the label column, for the manifest.
        model_config: pooling and maximal length.
        training: how to train.
        reporter: who is told.
        checkpoint_folder: where the state for ``resume`` is kept; None keeps none.
        resume: go on from the last checkpoint, if there is one.
    """
    classes = sorted_labels(train.labels)
    index = {label: number for number, label in enumerate(classes)}
    tokenizer = Tokenizer.from_folder(source.folder)
    model = build_classifier(
        source.folder,
        n_classes=len(classes),
        pooling=model_config.pooling,
        seed=derive_seed(training.seed, "head"),
    )
    check_vocabulary(tokenizer, model, source.name)
    device = pick_device(training.device)
    model.to(device)
    max_length = min(model_config.max_length, model.config.encoder.max_length)
    train_ids = tokenizer.encode_batch(train.texts, max_length=max_length)
    validation_ids = tokenizer.encode_batch(validation.texts, max_length=max_length)
    train_labels = [index[label] for label in train.labels]
    validation_labels = np.array([index[label] for label in validation.labels])
    weights = balanced_weights(train_labels, len(classes)) if training.class_weights == "balanced" else None
    objective = ClassificationObjective(
        model,
        train_ids,
        train_labels,
        train.sources,
        class_weights=weights,
        label_smoothing=training.label_smoothing,
    )
    fingerprint = fingerprint_of(train)

    def figures() -> dict[str, float]:
        return validation_figures(logits_of(model, validation_ids), validation_labels, classes)

    loop = TrainingLoop(
        objective,
        Validation(figures, sum(len(ids) for ids in validation_ids)),
        training,
        reporter=reporter,
        folder=checkpoint_folder,
        identity={
            "data": f"{fingerprint}/{fingerprint_of(validation)}",
            "model": f"{source.name}@{source.revision}",
            "model options": repr(model_config.to_dict()),
        },
    )
    state = loop.run(resume=resume)
    manifest = Manifest(
        huiyan_version=__version__,
        classes=tuple(classes),
        text_columns=columns[0],
        label_column=columns[1],
        max_length=max_length,
        pooling=model_config.pooling,
        family=model.config.family,
        decision=Decision(),
        source=source.name,
        revision=source.revision,
        licence=source.licence,
        origin=source.origin,
        data_fingerprint=fingerprint,
    )
    return Fitted(Artifact(model.eval(), tokenizer, manifest), state, device, tokenizer.count_tokens(train.texts))


def validation_figures(logits: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> dict[str, float]:
    """Mean negative log-likelihood (nats), accuracy, macro-F1 and MCC of logits `n c` against labels `n`."""
    probabilities = Decision().probabilities(logits)
    picked = probabilities[np.arange(len(labels)), labels]
    scores = classification_scores(labels, probabilities, classes)
    return {
        "loss": float(-np.log(np.maximum(picked, 1e-12)).mean()),
        "accuracy": scores.accuracy,
        "macro_f1": scores.macro_f1,
        "mcc": scores.mcc,
    }


def sorted_labels(labels: Sequence[str]) -> list[str]:
    """The distinct labels: as numbers when all are numbers, else as text."""
    distinct = set(labels)
    try:
        numbers = {label: float(label) for label in distinct}
    except ValueError:
        return sorted(distinct)
    if not all(math.isfinite(number) for number in numbers.values()):
        return sorted(distinct)
    return sorted(distinct, key=lambda label: (numbers[label], label))


def fingerprint_of(examples: Examples) -> str:
    """SHA-256 over texts and labels in order: another row, or another order, gives another one."""
    digest = hashlib.sha256()
    for text, label in zip(examples.texts, examples.labels, strict=True):
        digest.update(json.dumps([text, label]).encode())
    return digest.hexdigest()
