"""What labels of one kind mean to a model: its outputs, what is wanted of them, the loss."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from huiyan.core.decision import Decision
from huiyan.core.errors import ConfigError
from huiyan.data.labels import Kind
from huiyan.models.classifier import SequenceClassifier
from huiyan.tasks.objective import Loss


@dataclass(frozen=True, kw_only=True)
class LossOptions:
    """What can be chosen about a loss.

    Args:
        balanced: every class counts the same, whatever its rows.
        label_smoothing: share of the target spread evenly over what else it could be.
        focal: how much less rows count that are easy already, γ; 0 counts all the same.
    """

    balanced: bool = False
    label_smoothing: float = 0.0
    focal: float = 0.0


class Task(ABC):
    """A kind of label, with the names it has in one run.

    Args:
        classes: names of the labels; none where labels are numbers.
    """

    kind: ClassVar[Kind]
    problem_type: ClassVar[str]
    """What `transformers` calls it in config.json."""

    def __init__(self, classes: Sequence[str] = ()) -> None:
        self.classes = tuple(classes)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the logits, `o`."""
        return self.classes

    @property
    def untrained_decision(self) -> Decision:
        """How logits are read before anything has been fitted."""
        return Decision()

    @abstractmethod
    def targets(self, labels: Sequence[str]) -> np.ndarray:
        """What the loss and the metrics want of rows with these labels: `n`, or `n c`."""

    @abstractmethod
    def loss(self, targets: np.ndarray, options: LossOptions) -> Loss:
        """The loss for rows with these targets.

        Raises:
            ConfigError: an option has no meaning here.
        """

    def prepare(self, model: SequenceClassifier, targets: np.ndarray) -> None:
        """Change the fresh output layer to where learning from rows with these targets had better begin."""
        del model, targets  # most begin where they were drawn

    def learned(self, targets: np.ndarray) -> np.ndarray:
        """The targets as the loss takes them."""
        return targets

    def in_units_of_labels(self, logits: np.ndarray) -> np.ndarray:
        """The logits of a model that is still in training as those it will have when ``finish`` is done."""
        return logits

    def finish(self, model: SequenceClassifier) -> None:
        """Change the weights of a trained model to what it is saved with; called once."""
        del model  # most are saved as they are


def refuse(kind: str, **options: object) -> None:
    """Refuse loss options that have no meaning for a kind of label.

    Raises:
        ConfigError: one of them is given.
    """
    for name, value in options.items():
        if value:
            raise ConfigError(f"--{name.replace('_', '-')} has no meaning for --task {kind}.", hint="Leave it away.")
