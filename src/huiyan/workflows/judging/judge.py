"""What every kind of label is asked for when its answers are judged."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np

from huiyan.core.decision import Decision
from huiyan.core.errors import ConfigError, closest
from huiyan.core.texts import Text, plain
from huiyan.data.examples import Examples
from huiyan.data.labels import shown_label
from huiyan.evaluation.comparison import Comparison
from huiyan.evaluation.intervals import Interval
from huiyan.tasks.artifact import Artifact
from huiyan.tasks.task import Task
from huiyan.training.plan import FEW_STEPS
from huiyan.workflows.config import AnswersConfig

HARDEST = 20
SHOWN_CHARACTERS = 500


@dataclass(frozen=True)
class Answers:
    """What models answered to rows.

    Args:
        raw: outputs as the models were trained, `n c`.
        outputs: after the temperature, `n c`.
        chosen: the answers: class indices `n`, which labels `n c`, or numbers `n`.
        is_sure: whether the model would say it, `n`.
    """

    raw: np.ndarray
    outputs: np.ndarray
    chosen: np.ndarray
    is_sure: np.ndarray

    @classmethod
    def of(cls, artifact: Artifact, texts: Sequence[Text]) -> "Answers":
        """Those of one model."""
        return cls.read(artifact.logits(texts), artifact.manifest.decision, artifact.manifest.as_task())

    @classmethod
    def read(cls, logits: np.ndarray, decision: Decision, task: Task) -> "Answers":
        """Those that logits are."""
        outputs = decision.outputs(logits)
        raw = task.untrained_decision.outputs(logits)
        return cls(raw, outputs, decision.answers(outputs), decision.is_sure(outputs))

    @classmethod
    def joined(cls, parts: Sequence["Answers"]) -> "Answers":
        """Those of all parts, one after the other."""
        return cls(*(np.concatenate(each) for each in zip(*(vars(part).values() for part in parts), strict=True)))


class Judge(ABC):
    """Judges answers of one kind.

    Args:
        task: the kind of label, with its names.
    """

    metrics: ClassVar[tuple[str, ...]]
    """What can pick the best checkpoint; the first is what "auto" means."""
    told: ClassVar[tuple[str, ...]]
    """What is told of each of several trainings; the first is what most is said of."""

    def __init__(self, task: Task) -> None:
        self.task = task

    def metric_named(self, name: str) -> str:
        """What "auto" is, and any other name as it is.

        Raises:
            ConfigError: the metric is not for this kind.
        """
        if name == "auto":
            return self.metrics[0]
        if name not in self.metrics:
            raise ConfigError(
                f"--metric {name} is not for --task {self.task.kind}.",
                hint=closest(name, self.metrics),
            )
        return name

    def check(self, answers: AnswersConfig) -> None:
        """Check that answers can be withheld as asked for.

        Raises:
            ConfigError: an option is not for this kind.
        """
        for option, value in (("--abstain-at", answers.abstain_at), ("--label-precision", answers.label_precision)):
            if value is not None:
                raise ConfigError(f"{option} is not for --task {self.task.kind}.", hint="Leave it away.")

    @abstractmethod
    def loss(self, targets: np.ndarray, raw: np.ndarray) -> float:
        """The mean loss of outputs before any temperature, for validation."""

    @abstractmethod
    def scores(self, targets: np.ndarray, answers: Answers) -> dict[str, float]:
        """Every score that may pick a checkpoint or be told of one of several trainings."""

    @abstractmethod
    def fit(self, targets: np.ndarray, logits: np.ndarray, config: AnswersConfig) -> Decision:
        """How logits become answers, fitted on the validation rows."""

    @abstractmethod
    def figures(self, targets: np.ndarray, answers: Answers, *, seed: int = 0) -> dict[str, Any]:
        """The ``test`` part of the report: every figure with its 95 % interval, and what tells more than one number."""

    @abstractmethod
    def calibration(self, targets: np.ndarray, answers: Answers, decision: Decision) -> dict[str, Any] | None:
        """The ``calibration`` part of the report; None where answers have no probability."""

    @abstractmethod
    def baselines(
        self, pairs: Sequence[tuple[Examples, Examples]], answers: Answers, *, seed: int = 0
    ) -> list[dict[str, Any]]:
        """Simple methods on the same test rows, each with a paired test against the model.

        Args:
            pairs: the rows the model could see, training and validation (a baseline has no use for the difference, and
                giving it all of them makes it as strong as it can honestly be), and the test rows; one pair a fold.
            answers: the model's, to the test rows of all pairs.
            seed: of the baselines and the resampling.
        """

    @abstractmethod
    def wrongness(self, targets: np.ndarray, answers: Answers) -> np.ndarray:
        """How wrong each answer is, `n`; 0 where it is right."""

    def cells(self, answers: Answers) -> list[str]:
        """Each answer as a file holds it, to be read again."""
        return [str(columns["prediction"]) for columns in self.answer_columns(answers)]

    @abstractmethod
    def answer_columns(self, answers: Answers) -> list[dict[str, Any]]:
        """Each answer as columns of a table: ``prediction`` and what belongs to it."""

    def mistakes(self, test: Examples, answers: Answers) -> list[dict[str, Any]]:
        """The worst answers, worst first."""
        wrong = self.wrongness(self.task.targets(test.labels), answers)
        columns = self.answer_columns(answers)
        return [
            {
                "text": plain(test.texts[row])[:SHOWN_CHARACTERS],
                "label": shown_label(test.labels[row], test.kind),
                **columns[row],
                "source": test.sources[row],
            }
            for row in np.argsort(-wrong, kind="stable")[:HARDEST].tolist()
            if wrong[row] > 0
        ]

    def warnings(self, answers: Answers, decision: Decision, config: AnswersConfig, n_steps: int) -> list[str]:
        """What the reader of the report should know of a model that has hardly learned, or hardly answers."""
        advice = "Give it more --epochs, a smaller --batch-tokens or more time."
        chosen = answers.chosen.reshape(len(answers.chosen), -1)
        spread = np.ptp(chosen.astype(np.float64), axis=0).max(initial=0.0)
        if spread <= (0.01 * decision.scale if decision.link == "identity" else 0):
            return [f"The model gives every test text the same label after {n_steps} training steps. {advice}"]
        if n_steps < FEW_STEPS:
            return [f"Only {n_steps} training steps: the model has seen little. {advice}"]
        return []


def with_intervals(scores: dict[str, float | None], intervals: dict[str, Interval | None]) -> dict[str, Any]:
    """Scores as a report holds them."""
    found: dict[str, Any] = {}
    for name, value in scores.items():
        interval = intervals.get(name)
        found[name] = {
            "value": value,
            "low": None if interval is None else interval.low,
            "high": None if interval is None else interval.high,
        }
    return found


def baseline_entry(name: str, description: str, metrics: dict[str, Any], compared: Comparison) -> dict[str, Any]:
    """A baseline as a report holds it."""
    told = asdict(compared)
    interval = told.pop("interval")
    return {
        "name": name,
        "description": description,
        "metrics": metrics,
        "comparison": {
            "metric": compared.metric,
            "difference": compared.difference,
            "low": interval["low"],
            "high": interval["high"],
            "p_value": compared.p_value,
            "verdict": compared.verdict,
            "words": compared.words,
        },
    }
