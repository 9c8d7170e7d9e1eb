"""One training, several with other seeds, or one for each fold: which model is kept, and what is told of all."""

import csv
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from huiyan.core.files import atomic_path
from huiyan.data.examples import Examples
from huiyan.data.splits import fold_rows, split_rows
from huiyan.training.config import TrainingConfig
from huiyan.workflows.config import TrainRun
from huiyan.workflows.fit import Fitted
from huiyan.workflows.judging.judge import Answers
from huiyan.workflows.judging.kinds import judge_of
from huiyan.workflows.run_folder import PARTS
from huiyan.workflows.tables import VALIDATION_ONLY, Tables, joined

OUT_OF_FOLD = "out-of-fold.csv"


class Fit(Protocol):
    """``fit_model`` with all but these given."""

    def __call__(
        self,
        train: Examples,
        validation: Examples,
        *,
        training: TrainingConfig,
        out: Path,
        all_labels: Sequence[str] | None = None,
    ) -> Fitted:
        """Train on rows into a folder."""
        ...


class StoppedError(Exception):
    """Somebody asked the training to stop; the folder holds the best model so far."""

    def __init__(self, fitted: Fitted) -> None:
        super().__init__()
        self.fitted = fitted


@dataclass(frozen=True)
class Outcome:
    """A model, and what was answered to rows that the training of whoever answered did not see.

    Args:
        fitted: the model that is kept.
        pairs: rows that could be seen, and rows that were answered then: one pair, or one a fold.
        answers: to the second rows of all pairs, one pair after the other.
        repeated: the ``repeated`` part of the report; None after one training.
        seconds: that all trainings took.
    """

    fitted: Fitted
    pairs: list[tuple[Examples, Examples]]
    answers: Answers
    repeated: dict[str, Any] | None = None
    seconds: float = 0.0

    @property
    def test(self) -> Examples:
        """The rows that were answered."""
        test = self.pairs[0][1]
        for _, more in self.pairs[1:]:
            test = joined(test, more)
        return test


def train_once(fit: Fit, run: TrainRun, tables: Tables, out: Path) -> Outcome:
    """Train, and answer the test rows.

    Raises:
        StoppedError: the training was stopped.
    """
    fitted = _whole(fit(tables.train, tables.validation, training=run.training, out=out))
    answers = Answers.of(fitted.artifact, tables.test.texts)
    return Outcome(fitted, [_pair(tables)], answers, seconds=fitted.state.seconds)


def train_seeds(fit: Fit, run: TrainRun, tables: Tables, out: Path, say: Callable[[str], None]) -> Outcome:
    """Train on the same rows with several seeds, answer the test rows with each, keep what was best on validation.

    Raises:
        StoppedError: a training was stopped; the best model so far is in ``out``.
    """
    kept: list[tuple[Fitted, Answers]] = []  # one at most, the best so far
    trainings: list[dict[str, Any]] = []
    for number in range(run.repeats.seeds):
        seed = run.training.seed + number
        say(f"seed {seed}, {number + 1} of {run.repeats.seeds}")
        training = replace(run.training, seed=seed)
        fitted = fit(tables.train, tables.validation, training=training, out=out / PARTS / f"seed-{seed}")
        if fitted.state.interrupted:
            (kept[0][0] if kept else fitted).artifact.save(out)
            raise StoppedError(fitted)
        answers = Answers.of(fitted.artifact, tables.test.texts)
        trainings.append({"seed": seed, **_told(fitted, tables.test, answers)})
        if not kept or _rank(fitted) > _rank(kept[0][0]):
            kept = [(fitted, answers)]
    (fitted, answers), *_ = kept
    fitted.artifact.save(out)
    best = max(trainings, key=lambda one: one["validation"])
    repeated = {"kind": "seeds", "kept": best["seed"], "trainings": trainings, "spread": spread_of(trainings)}
    return Outcome(fitted, [_pair(tables)], answers, repeated, sum(one["seconds"] for one in trainings))


def train_folds(fit: Fit, run: TrainRun, tables: Tables, out: Path, say: Callable[[str], None]) -> Outcome:
    """Answer every row by a model trained on other folds; then train the model that is kept on all folds.

    Raises:
        StoppedError: a training was stopped; the best model so far of the fold at hand is in ``out``.
    """
    known = joined(tables.train, tables.validation)
    alike, seed = tables.overlap.keys_of(known), run.training.seed
    fold_of = fold_rows(known.strata, known.plain, groups=known.groups, alike=alike, seed=seed, folds=run.repeats.folds)
    pairs: list[tuple[Examples, Examples]] = []
    answers: list[Answers] = []
    trainings: list[dict[str, Any]] = []
    for fold in range(run.repeats.folds):
        say(f"fold {fold + 1} of {run.repeats.folds}")
        others = known.take([row for row, one in enumerate(fold_of) if one != fold])
        test = known.take([row for row, one in enumerate(fold_of) if one == fold])
        splits = split_rows(
            others.strata,
            others.plain,
            groups=others.groups,
            alike=tables.overlap.keys_of(others),
            seed=seed,
            fractions=VALIDATION_ONLY,
        )
        folder = out / PARTS / f"fold-{fold + 1}"
        fitted = fit(
            others.take(splits.train),
            others.take(splits.validation),
            training=run.training,
            out=folder,
            all_labels=known.labels,  # a fold may be all that has one of them
        )
        if fitted.state.interrupted:
            fitted.artifact.save(out)
            raise StoppedError(fitted)
        pairs.append((others, test))
        answers.append(Answers.of(fitted.artifact, test.texts))
        trainings.append({"fold": fold + 1, "rows": len(test), **_told(fitted, test, answers[-1])})
    say("the model that is kept, on all folds")
    fitted = _whole(fit(tables.train, tables.validation, training=run.training, out=out))
    repeated = {"kind": "folds", "trainings": trainings, "spread": spread_of(trainings)}
    seconds = fitted.state.seconds + sum(one["seconds"] for one in trainings)
    outcome = Outcome(fitted, pairs, Answers.joined(answers), repeated, seconds)
    _write_out_of_fold(out / OUT_OF_FOLD, outcome)
    return outcome


def spread_of(trainings: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Mean, sample standard deviation, least and most of each figure over the trainings."""
    values = {name: [one["metrics"][name] for one in trainings] for name in trainings[0]["metrics"]}
    return {
        name: {
            "mean": statistics.fmean(each),
            "sd": statistics.stdev(each) if len(each) > 1 else 0.0,
            "low": min(each),
            "high": max(each),
        }
        for name, each in values.items()
    }


def _whole(fitted: Fitted) -> Fitted:
    if fitted.state.interrupted:
        raise StoppedError(fitted)
    return fitted


def _rank(fitted: Fitted) -> tuple[float, float]:
    """The figure that picks checkpoints, then the loss, as they pick the best step of one training."""
    return fitted.state.best_value or 0.0, -fitted.state.best_loss


def _pair(tables: Tables) -> tuple[Examples, Examples]:
    return joined(tables.train, tables.validation), tables.test


def _told(fitted: Fitted, test: Examples, answers: Answers) -> dict[str, Any]:
    judge = judge_of(fitted.artifact.manifest.as_task())
    scores = judge.scores(judge.task.targets(test.labels), answers)
    return {
        "metrics": {name: scores[name] for name in judge.told},
        "validation": _rank(fitted),
        "best_step": fitted.state.best_step,
        "seconds": fitted.state.seconds,
        "temperature": fitted.artifact.manifest.decision.temperature,
    }


def _write_out_of_fold(path: Path, outcome: Outcome) -> None:
    """Each row with its fold, its label and what a model that had not seen it answered."""
    task, test, answers = outcome.fitted.artifact.manifest.as_task(), outcome.test, outcome.answers
    predictions = judge_of(task).cells(answers)
    folds = [fold for fold, (_, test) in enumerate(outcome.pairs, start=1) for _ in range(len(test))]
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["source", "fold", "label", "prediction", *(f"probability_{name}" for name in task.classes)])
        for row, fold in enumerate(folds):
            probabilities = answers.outputs[row].tolist() if task.classes else []
            table.writerow(
                [test.sources[row], fold, test.labels[row], predictions[row]]
                + [round(value, 6) for value in probabilities]
            )
