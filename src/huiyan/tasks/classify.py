"""Classification: one label of several for a text."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from huiyan.tasks.objective import Loss
from huiyan.tasks.task import LossOptions, Task

SUREST = 1 - 1e-6
"""The focal loss counts a row as no easier than this: at 1 the slope of (1 − p)^γ is infinite for γ < 1."""


class Classification(Task):
    """One of several labels, without an order. Targets are class indices, `n`."""

    kind = "classify"
    problem_type = "single_label_classification"

    def targets(self, labels: Sequence[str]) -> Int[np.ndarray, " n"]:
        """The index of each label's class."""
        return class_indices(labels, self.classes)

    def loss(self, targets: np.ndarray, options: LossOptions) -> Loss:
        """Cross-entropy, or the focal loss."""
        weights = balanced_weights(targets.tolist(), len(self.classes)) if options.balanced else None
        return CrossEntropy(class_weights=weights, label_smoothing=options.label_smoothing, focal=options.focal)


class CrossEntropy:
    """Cross-entropy, each row weighted by its class.

    Source: label smoothing, Szegedy et al. 2016, section 7; the focal loss, −(1 − p)^γ log p, Lin et al. 2017, eq. 4.

    Args:
        class_weights: weight of each class, `c`; None counts every row the same.
        label_smoothing: share of the target spread evenly over all classes.
        focal: γ; 0 is plain cross-entropy, and smoothing is left out with more.
    """

    def __init__(
        self,
        *,
        class_weights: Float[np.ndarray, " c"] | None = None,
        label_smoothing: float = 0.0,
        focal: float = 0.0,
    ) -> None:
        self._weights = None if class_weights is None else torch.as_tensor(class_weights, dtype=torch.float32)
        self._smoothing, self._focal = label_smoothing, focal

    def total(self, logits: Float[Tensor, "b c"], targets: Int[Tensor, " b"]) -> Tensor:
        """Summed over rows."""
        weights = None if self._weights is None else self._weights.to(logits.device)
        if not self._focal:
            return F.cross_entropy(logits, targets, weight=weights, label_smoothing=self._smoothing, reduction="sum")
        own = F.log_softmax(logits, dim=1).gather(1, targets[:, None]).squeeze(1)
        easy = own.exp().clamp(max=SUREST)
        losses = -((1 - easy) ** self._focal) * own
        return losses.sum() if weights is None else (weights[targets] * losses).sum()

    def weight(self, targets: np.ndarray) -> float:
        """The weights of the rows' classes added up: the number of rows when every class counts the same."""
        return float(len(targets)) if self._weights is None else float(self._weights[targets].sum())


def class_indices(labels: Sequence[str], classes: Sequence[str]) -> Int[np.ndarray, " n"]:
    """The place of each label among the classes, `n`. Every label must be one of them."""
    places = {name: place for place, name in enumerate(classes)}
    return np.array([places[label] for label in labels], dtype=np.int64)


def balanced_weights(labels: Sequence[int], n_classes: int) -> Float[np.ndarray, " c"]:
    """Weights that make every class count the same: n / (c · rows of the class), 0 for a class without rows."""
    counts = np.bincount(np.asarray(labels, dtype=np.int64), minlength=n_classes)
    return np.where(counts > 0, len(labels) / (n_classes * np.maximum(counts, 1)), 0.0)


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
