"""Fine-tune an encoder on texts and labels: what `huiyan train` and ``TextClassifier.fit`` share."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from huiyan import __version__
from huiyan.core.devices import pick_device
from huiyan.core.errors import ConfigError, NonFiniteLossError
from huiyan.core.seeds import derive_seed
from huiyan.core.texts import Text
from huiyan.data.examples import Examples
from huiyan.data.labels import counts_of
from huiyan.data.sample import spread
from huiyan.models.checkpoint import build_classifier
from huiyan.models.early_exit import fresh_exits
from huiyan.models.inference import for_inference
from huiyan.models.sources import ModelSource
from huiyan.models.words import LARGE_VOCABULARY, freeze_words, keep_words
from huiyan.tasks.artifact import Artifact, check_vocabulary
from huiyan.tasks.kinds import task_of
from huiyan.tasks.logits import logits_of
from huiyan.tasks.manifest import EarlyExit, Manifest
from huiyan.tasks.objective import TextObjective
from huiyan.tasks.precision import CALIBRATING_ROWS, CHECKED_ROWS, FEWEST_ROWS_BF16, check_precisions
from huiyan.tasks.profile import Profile
from huiyan.tasks.task import LossOptions, Task
from huiyan.text.scripts import script_shares
from huiyan.text.tokenise import Tokenizer
from huiyan.text.trim import trim_tokenizer
from huiyan.training.config import TrainingConfig
from huiyan.training.loop import TrainingLoop, TrainingState, Validation
from huiyan.training.progress import Reporter
from huiyan.workflows.config import AnswersConfig, DataConfig, FitConfig, ModelConfig
from huiyan.workflows.early_exit import choose_patience, validation_curve
from huiyan.workflows.judging.judge import Answers, Judge
from huiyan.workflows.judging.kinds import judge_of
from huiyan.workflows.run_folder import CHECKPOINTS, tracker_for

PROFILED_TEXTS = 20_000
"""Texts, spread over all, whose letters tell the scripts of the profile."""


@dataclass(frozen=True)
class Fitted:
    """What training gave.

    Args:
        artifact: the model with its best weights.
        state: how the run went.
        device: where it ran.
        metric: that picked the best weights.
        exit_curve: what each patience gives on the validation rows; None without early exits, or when interrupted.
    """

    artifact: Artifact
    state: TrainingState
    device: torch.device
    metric: str
    exit_curve: list[dict[str, Any]] | None = None


def fit_model(
    train: Examples,
    validation: Examples,
    source: ModelSource,
    *,
    data: DataConfig,
    options: FitConfig,
    reporter: Reporter,
    out: Path | None = None,
    resume: bool = False,
    on_start: Callable[[], None] = lambda: None,
    all_labels: Sequence[str] | None = None,
) -> Fitted:
    """Put the head on the encoder, train, and keep the weights that were best on the validation rows.

    Args:
        train: rows to learn from.
        validation: rows that pick the best checkpoint; never the test rows.
        source: the pretrained encoder.
        data: where text and label stood, and what labels are.
        options: about the model, the training and the answers.
        reporter: who is told.
        out: where the model is saved and, until it is, the state for ``resume``; None keeps neither.
        resume: go on from the last checkpoint, if there is one.
        all_labels: labels whose names the model is to have, where the rows to learn from may lack some; None is
            theirs. Numbers are scaled by the rows to learn from in any case.
        on_start: called once model, device, options and checkpoint have been found usable, before the first step.
    Raises:
        ConfigError: an option is not for this kind of label.
        NonFiniteLossError: the loss became NaN; the best model so far, if there is one, is in ``out``.
    """
    named = train.labels if all_labels is None or train.kind == "regression" else all_labels
    task = task_of(train.kind, named, label_column=data.label, order=data.label_order)
    judge = judge_of(task)
    judge.check(options.answers)
    if options.model.early_exit and task.kind != "classify":
        raise ConfigError(f"--early-exit is for --task classify, and this is {task.kind}.", hint="Leave it away.")
    training, metric = options.training, judge.metric_named(options.training.metric)
    artifact = _untrained(train, source, data, task, options.model, seed=training.seed)
    task.prepare(artifact.model, task.targets(train.labels))
    device = pick_device(training.device)
    for part in (artifact.model, artifact.exits):
        if part is not None:
            part.to(device)
    sequences = artifact.encode(train.texts)
    artifact = replace(artifact, profile=_profile(artifact, train, sequences, validation))
    objective = _objective(artifact, task, train, sequences, training)
    identity = {
        "data": f"{artifact.manifest.data_fingerprint}/{fingerprint_of(validation)}",
        "model": f"{source.name}@{source.revision}",
        "model options": repr(options.model.to_dict()),
        "labels": f"{task.kind} {list(task.classes)}",
    }
    folder = None if out is None else out / CHECKPOINTS
    looked_at = _validation(artifact, judge, validation, metric)
    loop = TrainingLoop(
        objective,
        looked_at,
        training,
        reporter=reporter,
        folder=folder,
        identity=identity,
        tracker=tracker_for(out, training, options.model.model, reporter.note),
    )
    if resume:
        loop.check_start()
    on_start()
    try:
        state = loop.run(resume=resume)
    except NonFiniteLossError:
        if out is not None and loop.best_weights is not None:
            task.finish(artifact.model)
            artifact.save(out)
        raise
    task.finish(artifact.model)
    artifact, curve = _decided(artifact, judge, validation, options.answers, interrupted=state.interrupted)
    if out is not None:
        artifact.save(out)  # first: nothing that comes may cost what was learned
    if not state.interrupted:
        reporter.note("measuring what answering in fewer bits changes")
        artifact = with_precision_checks(artifact, device, calibrating=train.texts, checking=validation.texts)
        reporter.note(precisions_sentence(artifact.manifest))
        if out is not None:
            artifact.save_checks(out)
    return Fitted(artifact, state, device, metric, curve)


def _decided(
    artifact: Artifact, judge: Judge, validation: Examples, answers: AnswersConfig, *, interrupted: bool
) -> tuple[Artifact, list[dict[str, Any]] | None]:
    """The trained model with what the validation rows decide: how texts leave early, how logits become answers."""
    curve, manifest = None, artifact.manifest
    artifact.model.eval()
    if artifact.exits is not None:
        artifact.exits.eval()
        if not interrupted:
            curve = validation_curve(artifact, validation)
            manifest = replace(manifest, early_exit=EarlyExit(patience=choose_patience(curve)))
    decision = judge.fit(judge.task.targets(validation.labels), artifact.logits(validation.texts), answers)
    return replace(artifact, manifest=replace(manifest, decision=decision)), curve


def with_precision_checks(
    artifact: Artifact, device: torch.device, *, calibrating: Sequence[Text], checking: Sequence[Text]
) -> Artifact:
    """The artifact with what answering in fewer bits changes on ``CHECKED_ROWS`` of the texts, where that is native."""

    def sequences(texts: Sequence[Text], most: int) -> list[list[int]]:
        return artifact.encode(spread(texts, most))

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
    if bf16 is not None and bf16.rows < FEWEST_ROWS_BF16:
        said.append(
            f"bf16 is not taken: {bf16.rows:,} validation rows are too few to tell ({FEWEST_ROWS_BF16} would do)"
        )
    elif bf16 is not None:
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
    train: Examples, source: ModelSource, data: DataConfig, task: Task, config: ModelConfig, *, seed: int
) -> Artifact:
    """The pretrained encoder with a fresh head, its tokenizer, and what they are for."""
    tokenizer = Tokenizer.from_folder(source.folder)
    model = build_classifier(
        source.folder, n_classes=len(task.outputs), pooling=config.pooling, seed=derive_seed(seed, "head")
    )
    check_vocabulary(tokenizer, model, source.name)
    if config.freeze_words == "yes" or (
        config.freeze_words == "auto" and model.config.encoder.vocab_size > LARGE_VOCABULARY
    ):
        freeze_words(model)
    if config.trim_vocabulary:
        tokenizer, kept = trim_tokenizer(tokenizer, scripts_in_use(train.plain))
        keep_words(model, kept)
    exits = fresh_exits(model.config, seed=derive_seed(seed, "exits")) if config.early_exit else None
    manifest = Manifest(
        huiyan_version=__version__,
        task=task.kind,
        classes=task.classes,
        text_columns=data.text,
        text_pair_columns=data.text_pair,
        label_column=data.label,
        label_separator=data.label_separator,
        max_length=min(config.max_length, model.config.encoder.max_length),
        pooling=config.pooling,
        family=model.config.family,
        decision=task.untrained_decision,
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
        counts_of(train.labels, train.kind),
        unknown_id=artifact.tokenizer.unknown_id,
        scripts=script_shares(spread(train.plain, PROFILED_TEXTS)),
        validation_rows=validation.sources,
        fingerprint=artifact.manifest.data_fingerprint,
    )


def _objective(
    artifact: Artifact, task: Task, train: Examples, sequences: Sequence[list[int]], training: TrainingConfig
) -> TextObjective:
    targets = task.targets(train.labels)
    options = LossOptions(
        balanced=training.class_weights == "balanced",
        label_smoothing=training.label_smoothing,
        focal=training.focal,
    )
    sampled_as = None
    if training.sampling == "balanced":
        if task.kind == "regression":
            raise ConfigError("--sampling balanced is for labels, and these are numbers.", hint="Leave it away.")
        sampled_as = np.unique(train.strata, return_inverse=True)[1]
    return TextObjective(
        artifact.model if artifact.exits is None else artifact.exiting,
        sequences,
        task.learned(targets),
        train.sources,
        loss=task.loss(targets, options),
        sampled_as=sampled_as,
    )


def _validation(artifact: Artifact, judge: Judge, validation: Examples, metric: str) -> Validation:
    ids, targets = artifact.encode(validation.texts), judge.task.targets(validation.labels)

    def figures() -> dict[str, float]:
        logits = judge.task.in_units_of_labels(logits_of(for_inference(artifact.model), ids))
        return validation_figures(judge, logits, targets)

    return Validation(figures, sum(map(len, ids)), metric)


def validation_figures(judge: Judge, logits: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    """``loss``, and every score that may pick the best checkpoint, of logits `n o` against targets.

    Logits that are not finite have no figures: the loss is NaN then, and the loop stops.
    """
    names = [name for name in dict.fromkeys([*judge.told, *judge.metrics]) if name != "loss"]
    if not np.isfinite(logits).all():
        return {"loss": float("nan")} | dict.fromkeys(names, 0.0)
    answers = Answers.read(logits, judge.task.untrained_decision, judge.task)
    scores = judge.scores(targets, answers)
    return {"loss": judge.loss(targets, answers.raw)} | {name: scores[name] for name in names}


def fingerprint_of(examples: Examples) -> str:
    """SHA-256 over texts and labels in order: another row, or another order, gives another one."""
    digest = hashlib.sha256()
    for text, label in zip(examples.texts, examples.labels, strict=True):
        digest.update(json.dumps([text, label]).encode())
    return digest.hexdigest()
