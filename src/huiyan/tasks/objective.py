"""What the training loop needs of a task: rows, a model, and the loss between them."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from huiyan.core.packed import Packed
from huiyan.data.packing import training_batches
from huiyan.models.classifier import SequenceClassifier
from huiyan.models.early_exit import ExitingClassifier, depth_weights


class Loss(Protocol):
    """How far logits are from targets."""

    def total(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The loss of rows added up: logits `b o` in float32, targets `b` or `b c` on the same device."""
        ...

    def weight(self, targets: np.ndarray) -> float:
        """What the sum over rows with these targets is to be divided by."""
        ...


class ShuffledRows:
    """Rows that are trained in any order, each by itself.

    Args:
        lengths: tokens of each.
        sampled_as: a number for each row; in every epoch each number is drawn as often as any other. None takes every
            row once.
    """

    def __init__(self, lengths: Sequence[int], *, sampled_as: np.ndarray | None = None) -> None:
        self.lengths, self._sampled_as = lengths, sampled_as

    def batches(self, epoch: int, *, batch_tokens: int, seed: int) -> list[list[int]]:
        """The batches of an epoch: rows in an order drawn from the seed, filled to the token budget."""
        return training_batches(
            self.lengths, batch_tokens=batch_tokens, seed=seed, epoch=epoch, sampled_as=self._sampled_as
        )

    def carried(self) -> dict[str, Tensor]:
        """Nothing goes from a batch to the next."""
        return {}

    def set_carried(self, tensors: dict[str, Tensor]) -> None:
        """Nothing."""


class TextObjective(ShuffledRows):
    """Texts as token ids, what is wanted for each, and a model to learn it.

    Args:
        model: the encoder and its head.
        sequences: token ids of each training row, special tokens included.
        targets: what the task wants of each row: `n` or `n c`.
        sources: where each row came from, ``file:line``.
        loss: between logits and targets.
        sampled_as: a number for each row; in every epoch each number is drawn as often as any other. None takes every
            row once.
    """

    def __init__(
        self,
        model: SequenceClassifier | ExitingClassifier,
        sequences: Sequence[list[int]],
        targets: np.ndarray,
        sources: Sequence[str],
        *,
        loss: Loss,
        sampled_as: np.ndarray | None = None,
    ) -> None:
        super().__init__([len(sequence) for sequence in sequences], sampled_as=sampled_as)
        self.model = model
        self._sequences, self._targets, self._sources, self._loss = sequences, targets, sources, loss
        self._device = next(model.parameters()).device

    def layer_groups(self) -> list[list[nn.Parameter]]:
        """The model's parameters by depth, embeddings first, head last."""
        return self.model.layer_groups()

    def loss_sum(self, rows: Sequence[int]) -> Tensor:
        """The loss summed over rows; float32 whatever the model computed in."""
        packed = Packed.from_lists([self._sequences[row] for row in rows], self._device)
        targets = torch.as_tensor(self._targets[list(rows)]).to(self._device, non_blocking=True)
        logits = self.model(packed).float()
        if isinstance(self.model, SequenceClassifier):
            return self._loss.total(logits, targets)
        # All heads learn at once, Σ j·L_j / Σ j over the layers j. Source: Zhou et al. 2020 (PABEE), eq. 5.
        losses = torch.stack([self._loss.total(head, targets) for head in logits])
        return (depth_weights(len(losses)).to(losses.device) * losses).sum()

    def loss_weight(self, rows: Sequence[int]) -> float:
        """What the sum over these rows is divided by."""
        return self._loss.weight(self._targets[list(rows)])

    def describe(self, rows: Sequence[int]) -> list[str]:
        """Where rows came from."""
        return [self._sources[row] for row in rows]
