"""Regression: a number for a text."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from huiyan.core.decision import Decision
from huiyan.core.errors import DataError
from huiyan.models.classifier import SequenceClassifier
from huiyan.tasks.objective import Loss
from huiyan.tasks.task import LossOptions, Task, refuse

FINEST = 1e5
"""The mean is at most so many standard deviations; at more, float32 leaves under a hundred steps in one of them."""


class Regression(Task):
    """A number. Targets are the numbers, `n`.

    The model learns them with mean 0 and standard deviation 1; when it is trained, the last layer takes both over, so
    that what it gives is the number itself, here and in `transformers`.

    Args:
        name: of the number, such as that of its column.
        mean: of the training rows.
        scale: their standard deviation.
    """

    kind = "regression"
    problem_type = "regression"

    def __init__(self, name: str, *, mean: float = 0.0, scale: float = 1.0) -> None:
        super().__init__()
        self.name, self.mean, self.scale = name, mean, scale

    @classmethod
    def of(cls, name: str, labels: Sequence[str]) -> "Regression":
        """For training rows with these labels.

        Raises:
            DataError: they differ by so little that float32 cannot tell them apart.
        """
        values = np.array([float(label) for label in labels])
        mean, scale = float(values.mean()), float(values.std()) or 1.0
        if abs(mean) > FINEST * scale:
            raise DataError(
                f"The numbers in column {name!r} are too large for how little they differ: about {mean:g}, "
                f"give or take {scale:g}. A model computes with seven digits.",
                hint=f"Subtract a constant such as {mean:.6g} from all of them.",
            )
        return cls(name, mean=mean, scale=scale)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The number's name."""
        return (self.name,)

    @property
    def untrained_decision(self) -> Decision:
        """The logit is the number."""
        return Decision(link="identity", scale=self.scale)

    def targets(self, labels: Sequence[str]) -> Float[np.ndarray, " n"]:
        """The numbers."""
        return np.array([float(label) for label in labels], dtype=np.float64)

    def loss(self, targets: np.ndarray, options: LossOptions) -> Loss:
        """The squared error, in standard deviations."""
        refuse(
            self.kind,
            class_weights=options.balanced,
            label_smoothing=options.label_smoothing,
            focal=options.focal,
        )
        return SquaredError()

    def learned(self, targets: np.ndarray) -> Float[np.ndarray, " n"]:
        """With mean 0 and standard deviation 1 over the training rows."""
        return ((targets - self.mean) / self.scale).astype(np.float32)

    def in_units_of_labels(self, logits: np.ndarray) -> np.ndarray:
        """What the last layer will give."""
        return logits.astype(np.float64) * self.scale + self.mean

    def finish(self, model: SequenceClassifier) -> None:
        """Let the last layer take over mean and standard deviation."""
        output = model.head.output
        with torch.no_grad():
            output.weight.mul_(self.scale)
            output.bias.mul_(self.scale).add_(self.mean)


class SquaredError:
    """The squared distance from the target."""

    def total(self, logits: Float[Tensor, "b 1"], targets: Float[Tensor, " b"]) -> Tensor:
        """Summed over rows."""
        return (logits.squeeze(1) - targets).square().sum()

    def weight(self, targets: np.ndarray) -> float:
        """The number of rows."""
        return float(len(targets))
