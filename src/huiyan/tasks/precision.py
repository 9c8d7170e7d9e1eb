"""Answering in fewer bits: what it changes, measured on rows, and when nobody need be asked."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from huiyan.core.config import Config
from huiyan.core.decision import Decision
from huiyan.core.devices import Precision, multiplies_bf16, resolve_precision
from huiyan.models.classifier import SequenceClassifier
from huiyan.models.inference import for_inference
from huiyan.tasks.classify import logits_of


@dataclass(frozen=True, kw_only=True)
class PrecisionCheck(Config):
    """How far the answers in fewer bits are from those in float32, over the validation rows.

    Args:
        rows: that were compared.
        largest_change: of any probability.
        flips: share of the rows that get another label.
    """

    rows: int
    largest_change: float
    flips: float

    @property
    def holds(self) -> bool:
        """Whether nobody would notice: no probability moves by more than 0.01, no more than 0.2 % of labels flip."""
        return self.rows > 0 and self.largest_change <= 0.01 and self.flips <= 0.002


def check_precision(
    model: SequenceClassifier, sequences: Sequence[list[int]], decision: Decision, precision: Precision
) -> PrecisionCheck:
    """Answer token sequences in float32 and in ``precision``, and compare."""
    exact, rough = (
        decision.probabilities(logits_of(for_inference(model, name), sequences)) for name in ("fp32", precision)
    )
    flips = decision.choose(exact) != decision.choose(rough)
    return PrecisionCheck(
        rows=len(sequences),
        largest_change=float(np.abs(exact - rough).max(initial=0.0)),
        flips=float(flips.mean()) if len(flips) else 0.0,
    )


def answering_precision(precision: str, device: torch.device, *, bf16: PrecisionCheck | None) -> Precision:
    """What a precision means for a model's answers on a device.

    Args:
        precision: "auto" is bf16 where the device multiplies it natively and ``bf16`` holds, else fp32.
        device: where to answer.
        bf16: what was measured of the model; None if nothing was.
    Raises:
        ConfigError: it is unknown, or not for this device.
    """
    if precision == "auto":
        return "bf16" if bf16 is not None and bf16.holds and multiplies_bf16(device) else "fp32"
    return resolve_precision(precision, device)
