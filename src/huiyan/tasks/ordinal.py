"""Ordinal classification: one of several labels that have an order, such as ratings."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from huiyan.core.decision import Decision
from huiyan.tasks.classify import balanced_weights, class_indices
from huiyan.tasks.objective import Loss
from huiyan.tasks.task import LossOptions, Task, refuse


class Ordinal(Task):
    """One of several labels, from the lowest to the highest. Targets are ranks from 0, `n`.

    Logit k says whether a label is above class k, of rows whose label is k or above: `c − 1` logits.
    """

    kind = "ordinal"
    problem_type = "multi_label_classification"

    @property
    def outputs(self) -> tuple[str, ...]:
        """One for every class but the highest: that the label is above it."""
        return tuple(f"> {name}" for name in self.classes[:-1])

    @property
    def untrained_decision(self) -> Decision:
        """Probabilities of all classes from those of the steps."""
        return Decision(link="corn")

    def targets(self, labels: Sequence[str]) -> Int[np.ndarray, " n"]:
        """The rank of each label."""
        return class_indices(labels, self.classes)

    def loss(self, targets: np.ndarray, options: LossOptions) -> Loss:
        """Cross-entropy of the steps."""
        refuse(self.kind, label_smoothing=options.label_smoothing, focal=options.focal)
        return CornLoss(balanced_weights(targets.tolist(), len(self.classes)) if options.balanced else None)


class CornLoss:
    """Binary cross-entropy of every step, over the rows that reach it.

    Source: Shi, Cao and Raschka 2021, "Deep Neural Networks for Rank-Consistent Ordinal Regression Based On Conditional
    Probabilities", eq. 9. Differs: classes may be weighted.

    Args:
        class_weights: weight of each class, `c`; None counts every row the same.
    """

    def __init__(self, class_weights: Float[np.ndarray, " c"] | None = None) -> None:
        self._weights = None if class_weights is None else torch.as_tensor(class_weights, dtype=torch.float32)

    def total(self, logits: Float[Tensor, "b o"], targets: Int[Tensor, " b"]) -> Tensor:
        """Summed over rows and the steps each of them reaches."""
        steps = torch.arange(logits.shape[1], device=logits.device)
        above = (targets[:, None] > steps).float()
        losses = F.binary_cross_entropy_with_logits(logits, above, reduction="none")
        losses = losses * (targets[:, None] >= steps)
        return (
            losses.sum() if self._weights is None else (self._weights.to(logits.device)[targets, None] * losses).sum()
        )

    def weight(self, targets: np.ndarray) -> float:
        """How many rows there are, the weights of their classes counted."""
        return float(len(targets)) if self._weights is None else float(self._weights[targets].sum())
