"""Fine-tune an encoder on texts and labels: what `huiyan train` and ``TextClassifier.fit`` share."""

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from huiyan import __version__
from huiyan.core.decision import Decision
from huiyan.core.devices import pick_device
from huiyan.core.errors import NonFiniteLossError
from huiyan.core.seeds import derive_seed
from huiyan.data.examples import Examples
from huiyan.data.sample import spread
from huiyan.evaluation.metrics import classification_scores
from huiyan.models.checkpoint import build_classifier
from huiyan.models.early_exit import fresh_exits
from huiyan.models.inference import for_inference
from huiyan.models.sources import ModelSource
from huiyan.models.words import LARGE_VOCABULARY, freeze_words, keep_words
from huiyan.tasks.artifact import Artifact, check_vocabulary
from huiyan.tasks.classify import (
    ClassificationObjective,
    EarlyExitObjective,
    balanced_weights,
    class_indices,
    logits_of,
)
from huiyan.tasks.manifest import EarlyExit, Manifest
from huiyan.tasks.precision import CALIBRATING_ROWS, CHECKED_ROWS, check_precisions
from huiyan.tasks.profile import Profile
from huiyan.text.scripts import script_shares
from huiyan.text.tokenise import Tokenizer
from huiyan.text.trim import trim_tokenizer
from huiyan.training.config import TrainingConfig
from huiyan.training.loop import TrainingLoop, TrainingState, Validation
from huiyan.training.progress import Reporter
from huiyan.workflows.config import AnswersConfig, FitConfig, ModelConfig
from huiyan.workflows.deciding import fit_decision
from huiyan.workflows.early_exit import choose_patience, validation_curve

CHECKPOINTS = "checkpoint"
"""The folder, in a run's folder, of the state for ``resume``."""
PROFILED_TEXTS = 20_000
"""Texts, spread over all, whose letters tell the scripts of the profile."""


@dataclass(frozen=True)
class Fitted:
    """What training gave.

    Args:
        artifact: the model with its best weights.
        state: how the run went.
        device: where it ran.
        exit_curve: what each patience gives on the validation rows; None without early exits, or when interrupted.
    """

    artifact: Artifact
    state: TrainingState
    device: torch.device
    exit_curve: list[dict[str, Any]] | None = None


def fit_classifier(
    train: Examples,
    validation: Examples,
    source: ModelSource,
    *,
    columns: tuple[tuple[str, ...], str],
    options: FitConfig,
    reporter: Reporter,
    out: Path | None = None,
    resume: bool = False,
    on_start: Callable[[], None] = lambda: None,
) -> Fitted:
    """Put the head on the encoder, train, and keep the weights that were best on the validation rows.

    Args:
        train: rows to learn from.
        validation: rows that pick the best checkpoint; never the test rows.
        source: the pretrained encoder.
        columns: names of the text columns and of the label column, for the manifest.
        options: about the model, the training and the answers.
        reporter: who is told.
        out: where the model is saved and, until it is, the state for ``resume``; None keeps neither.
        resume: go on from the last checkpoint, if there is one.
        on_start: called once model, device, options and checkpoint have been found usable, before the first step.
    Raises:
        NonFiniteLossError: the loss became NaN; the best model so far, if there is one, is in ``out``.
    """
    training = options.training
    artifact = _untrained(train, source, columns, options.model, seed=training.seed)
    device = pick_device(training.device)
    for part in (artifact.model, artifact.exits):
        if part is not None:
            part.to(device)
    sequences = artifact.tokenizer.encode_batch(train.texts, max_length=artifact.manifest.max_length)
    artifact = replace(artifact, profile=_profile(artifact, train, sequences, validation))
    objective, judge = _objective(artifact, train, sequences, training), _validation(artifact, validation)
    identity = {
        "data": f"{artifact.manifest.data_fingerprint}/{fingerprint_of(validation)}",
        "model": f"{source.name}@{source.revision}",
        "model options": repr(options.model.to_dict()),
    }
    folder = None if out is None else out / CHECKPOINTS
    loop = TrainingLoop(objective, judge, training, reporter=reporter, folder=folder, identity=identity)
    if resume:
        loop.check_start()
    on_start()
    try:
        state = loop.run(resume=resume)
    except NonFiniteLossError:
        if out is not None and loop.best_weights is not None:
            artifact.save(out)
        raise
    curve = None
    if artifact.exits is not None:
        artifact.exits.eval()
        if not state.interrupted:
            curve = validation_curve(artifact, validation)
            own = EarlyExit(patience=choose_patience(curve))
            artifact = replace(artifact, manifest=replace(artifact.manifest, early_exit=own))
    artifact.model.eval()
    artifact = _with_decision(artifact, validation, options.answers)
    if out is not None:
        artifact.save(out)  # first: nothing that comes may cost what was learned
    if not state.interrupted:
        reporter.note("measuring what answering in fewer bits changes")
        artifact = with_precision_checks(artifact, device, calibrating=train.texts, checking=validation.texts)
        reporter.note(precisions_sentence(artifact.manifest))
        if out is not None:
            artifact.save_checks(out)
    return Fitted(artifact, state, device, curve)


def _with_decision(artifact: Artifact, validation: Examples, answers: AnswersConfig) -> Artifact:
    labels = class_indices(validation.labels, artifact.manifest.classes)
    decision = fit_decision(labels, artifact.logits(validation.texts), answers)
    return replace(artifact, manifest=replace(artifact.manifest, decision=decision))


def with_precision_checks(
    artifact: Artifact, device: torch.device, *, calibrating: Sequence[str], checking: Sequence[str]
) -> Artifact:
    """The artifact with what answering in fewer bits changes on ``CHECKED_ROWS`` of the texts, where that is native."""

    def sequences(texts: Sequence[str], most: int) -> list[list[int]]:
        return artifact.tokenizer.encode_batch(spread(texts, most), max_length=artifact.manifest.max_length)

    return artifact.with_checks(
        check_precisions(
            artifact.model,
            artifact.manifest.decision,
            calibrating=sequences(calibrating, CALIBRATING_ROWS),
            checking=sequences(checking, CHECKED_ROWS),
            device=device,
        )
    )


def precisions_sentence(manifest: Manifest) -> str:
    """What was found of answering in fewer bits, and what ``auto`` therefore is."""
    bf16, int8 = manifest.bf16, manifest.int8
    said: list[str] = []
    if bf16 is not None:
        moved = (
            f"probabilities move by {bf16.largest_change:.4f} at most, {bf16.flips:.2%} of {bf16.rows:,} labels flip"
        )
        said.append(f"bf16 {'holds' if bf16.holds else 'does not hold'} ({moved})")
    if int8 is not None:
        kept = f", the first {int8.first_layer} layers in bf16" if int8.first_layer else ""
        flips = f"{int8.flips:.2%} of {int8.rows:,} labels flip{kept}"
        said.append(f"int8 {'can be asked for' if int8.holds else 'is refused'} ({flips})")
    answers = "bf16" if bf16 is not None and bf16.holds else "fp32"
    return "; ".join([*said, f"answers are given in {answers} unless asked otherwise"])


def scripts_in_use(texts: Sequence[str]) -> list[str]:
    """The scripts that one letter in 10,000 is written in, or more; and Latin, which is everywhere sooner or later."""
    return sorted({"Latin"} | {script for script, share in script_shares(texts).items() if share >= 1e-4})


def _untrained(
    train: Examples, source: ModelSource, columns: tuple[tuple[str, ...], str], config: ModelConfig, *, seed: int
) -> Artifact:
    """The pretrained encoder with a fresh head, its tokenizer, and what they are for."""
    classes = sorted_labels(train.labels)
    tokenizer = Tokenizer.from_folder(source.folder)
    model = build_classifier(
        source.folder, n_classes=len(classes), pooling=config.pooling, seed=derive_seed(seed, "head")
    )
    check_vocabulary(tokenizer, model, source.name)
    if config.freeze_words == "yes" or (
        config.freeze_words == "auto" and model.config.encoder.vocab_size > LARGE_VOCABULARY
    ):
        freeze_words(model)
    if config.trim_vocabulary:
        tokenizer, kept = trim_tokenizer(tokenizer, scripts_in_use(train.texts))
        keep_words(model, kept)
    exits = fresh_exits(model.config, seed=derive_seed(seed, "exits")) if config.early_exit else None
    manifest = Manifest(
        huiyan_version=__version__,
        classes=tuple(classes),
        text_columns=columns[0],
        label_column=columns[1],
        max_length=min(config.max_length, model.config.encoder.max_length),
        pooling=config.pooling,
        family=model.config.family,
        decision=Decision(),
        source=source.name,
        revision=source.revision,
        licence=source.licence,
        origin=source.origin,
        data_fingerprint=fingerprint_of(train),
    )
    return Artifact(model, tokenizer, manifest, exits)


def _profile(artifact: Artifact, train: Examples, sequences: Sequence[list[int]], validation: Examples) -> Profile:
    return Profile.of(
        sequences,
        train.labels,
        unknown_id=artifact.tokenizer.unknown_id,
        scripts=script_shares(spread(train.texts, PROFILED_TEXTS)),
        validation_rows=validation.sources,
        fingerprint=artifact.manifest.data_fingerprint,
    )


def _objective(
    artifact: Artifact, train: Examples, sequences: Sequence[list[int]], training: TrainingConfig
) -> ClassificationObjective:
    classes = artifact.manifest.classes
    labels = class_indices(train.labels, classes).tolist()
    objective = ClassificationObjective if artifact.exits is None else EarlyExitObjective
    return objective(
        artifact.model if artifact.exits is None else artifact.exiting,
        sequences,
        labels,
        train.sources,
        class_weights=balanced_weights(labels, len(classes)) if training.class_weights == "balanced" else None,
        label_smoothing=training.label_smoothing,
    )


def _validation(artifact: Artifact, validation: Examples) -> Validation:
    classes = artifact.manifest.classes
    ids = artifact.tokenizer.encode_batch(validation.texts, max_length=artifact.manifest.max_length)
    labels = class_indices(validation.labels, classes)

    def figures() -> dict[str, float]:
        return validation_figures(logits_of(for_inference(artifact.model), ids), labels, classes)

    return Validation(figures, sum(map(len, ids)))


def validation_figures(logits: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> dict[str, float]:
    """Mean negative log-likelihood (nats), accuracy, macro-F1 and MCC of logits `n c` against labels `n`.

    Logits that are not finite have no figures: the loss is NaN then, and the loop stops.
    """
    if not np.isfinite(logits).all():
        return {"loss": float("nan"), "accuracy": 0.0, "macro_f1": 0.0, "mcc": 0.0}
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
