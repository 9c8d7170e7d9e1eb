"""Multi-label classification: for each label by itself, whether a text has it."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from huiyan.core.decision import Decision
from huiyan.data.labels import names_in
from huiyan.models.classifier import SequenceClassifier
from huiyan.tasks.classify import SUREST
from huiyan.tasks.objective import Loss
from huiyan.tasks.task import LossOptions, Task

MOST_POSITIVE_WEIGHT = 100.0
"""A label that one row in ten thousand has would drown all others."""


class MultiLabel(Task):
    """Any number of several labels. Targets are 0 or 1, `n c`; names that no class has are passed over."""

    kind = "multilabel"
    problem_type = "multi_label_classification"

    @property
    def untrained_decision(self) -> Decision:
        """A sigmoid for each label, which is said from one half on."""
        return Decision(link="sigmoid", thresholds=(0.5,) * len(self.classes))

    def prepare(self, model: SequenceClassifier, targets: np.ndarray) -> None:
        """Begin with each label as probable as it is frequent: the first steps need not unlearn one half.

        Source: Lin et al. 2017, section 4.1.
        """
        frequency = (targets.sum(axis=0) + 1) / (len(targets) + 2)
        with torch.no_grad():
            model.head.output.bias.copy_(torch.as_tensor(np.log(frequency / (1 - frequency)), dtype=torch.float32))

    def targets(self, labels: Sequence[str]) -> Float[np.ndarray, "n c"]:
        """1 for each label that a row has."""
        places = {name: place for place, name in enumerate(self.classes)}
        found = np.zeros((len(labels), len(self.classes)), dtype=np.float32)
        for row, label in enumerate(labels):
            found[row, [places[name] for name in names_in(label, "multilabel") if name in places]] = 1.0
        return found

    def loss(self, targets: np.ndarray, options: LossOptions) -> Loss:
        """Binary cross-entropy, or its focal form."""
        positive = targets.sum(axis=0)
        weights = (len(targets) - positive) / np.maximum(positive, 1) if options.balanced else None
        if weights is not None:
            weights = np.clip(weights, 1 / MOST_POSITIVE_WEIGHT, MOST_POSITIVE_WEIGHT)
        return BinaryCrossEntropy(
            positive_weights=weights,
            label_smoothing=options.label_smoothing,
            focal=options.focal,
        )


class BinaryCrossEntropy:
    """Binary cross-entropy of each label, the mean over the labels of a row.

    Source: the focal form, Lin et al. 2017, eq. 4, without its α.

    Args:
        positive_weights: how much more it counts to miss a label than to give it wrongly, `c`; None counts both alike.
        label_smoothing: targets are so much nearer to one half.
        focal: γ; 0 is plain cross-entropy.
    """

    def __init__(
        self,
        *,
        positive_weights: Float[np.ndarray, " c"] | None = None,
        label_smoothing: float = 0.0,
        focal: float = 0.0,
    ) -> None:
        self._weights = None if positive_weights is None else torch.as_tensor(positive_weights, dtype=torch.float32)
        self._smoothing, self._focal = label_smoothing, focal

    def total(self, logits: Float[Tensor, "b c"], targets: Float[Tensor, "b c"]) -> Tensor:
        """Summed over rows."""
        smooth = targets * (1 - self._smoothing) + self._smoothing / 2
        weights = None if self._weights is None else self._weights.to(logits.device)
        losses = F.binary_cross_entropy_with_logits(logits, smooth, pos_weight=weights, reduction="none")
        if self._focal:
            right = torch.where(targets > 0.5, logits, -logits).sigmoid().clamp(max=SUREST)
            losses = (1 - right) ** self._focal * losses
        return losses.mean(dim=1).sum()

    def weight(self, targets: np.ndarray) -> float:
        """The number of rows."""
        return float(len(targets))
