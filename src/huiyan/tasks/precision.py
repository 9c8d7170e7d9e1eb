"""Answering in fewer bits: what it changes, measured on rows, and when nobody need be asked."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float

from huiyan.core.config import Config, require
from huiyan.core.decision import Decision
from huiyan.core.devices import Precision, multiplies_bf16, multiplies_int8, resolve_precision
from huiyan.core.errors import ConfigError
from huiyan.models.classifier import SequenceClassifier
from huiyan.models.inference import for_inference
from huiyan.models.int8 import Calibration, calibrate, can_calibrate
from huiyan.models.prepacked import can_multiply_int8
from huiyan.tasks.logits import logits_of, packed_batches

AnsweringPrecision = Precision | Literal["int8"]
FEWEST_ROWS_BF16 = 50
"""Rows below which ``auto`` stays in float32: the largest change of a few probabilities says little of others."""
MOST_FLIPS_INT8 = 0.005
"""Share of labels that int8 may flip: it is only taken where somebody asked for it."""
FEWEST_ROWS_INT8 = 200
"""Rows below which nobody can tell: one label is more than that share."""
CHECKED_ROWS = 1000
"""Rows that tell what fewer bits change."""
CALIBRATING_ROWS = 256
"""Rows that tell int8 what enters the products."""


@dataclass(frozen=True, kw_only=True)
class PrecisionCheck(Config):
    """How far the answers in fewer bits are from those in float32, over the validation rows.

    Args:
        rows: that were compared.
        largest_change: of any probability; of a number, in standard deviations.
        flips: share of the rows that get another answer.
    """

    rows: int
    largest_change: float
    flips: float

    @property
    def holds(self) -> bool:
        """Whether nobody would notice: no probability moves by more than 0.01, no more than 0.2 % of labels flip.

        On fewer than 500 rows that is not one label.
        """
        return self.rows >= FEWEST_ROWS_BF16 and self.largest_change <= 0.01 and self.flips <= 0.002


@dataclass(frozen=True, kw_only=True)
class Int8Check(PrecisionCheck):
    """What answering in int8 changes, with as many layers in it as may be.

    Args:
        first_layer: the first that multiplies in int8.
        sha256: of the file with what enters the products.
    """

    first_layer: int
    sha256: str = ""

    @property
    def holds(self) -> bool:
        """Whether no more than ``MOST_FLIPS_INT8`` of the labels flip."""
        return self.rows >= FEWEST_ROWS_INT8 and self.flips <= MOST_FLIPS_INT8

    def __post_init__(self) -> None:
        fits = isinstance(self.first_layer, int) and self.first_layer >= 0
        require(fits, "first_layer", "the number of a layer, from 0", self.first_layer)


@dataclass(frozen=True)
class Checked:
    """What was found of a model.

    None where this machine does not multiply it natively, where too few rows tell, and where a model has no product
    for int8.

    Args:
        bf16: what answering in bfloat16 changes.
        int8: what answering in int8 changes.
        calibration: what int8 answers by.
    """

    bf16: PrecisionCheck | None = None
    int8: Int8Check | None = None
    calibration: Calibration | None = None


def check_precisions(
    model: SequenceClassifier,
    decision: Decision,
    *,
    calibrating: Sequence[list[int]],
    checking: Sequence[list[int]],
    device: torch.device,
) -> Checked:
    """Answer token sequences in float32 and in fewer bits, and compare.

    Args:
        model: in float32, on the device.
        decision: how its logits become answers.
        calibrating: sequences that int8 is calibrated with; rows it was trained on will do.
        checking: sequences to answer; rows it was not trained on.
        device: where it is, and is to answer.
    """
    exact = _outputs(model, checking, decision, "fp32")

    def compare(precision: AnsweringPrecision, calibration: Calibration | None = None) -> PrecisionCheck:
        moved, flips = decision.changes(exact, _outputs(model, checking, decision, precision, calibration))
        return PrecisionCheck(
            rows=len(checking),
            largest_change=float(moved.max(initial=0.0)),
            flips=float(flips.mean()) if len(flips) else 0.0,
        )

    bf16 = compare("bf16") if multiplies_bf16(device) else None
    if not (can_answer_int8(device) and can_calibrate(model)) or len(checking) < FEWEST_ROWS_INT8 or not calibrating:
        return Checked(bf16)
    calibration = calibrate(model, (packed for _, packed in packed_batches(model, calibrating)))

    def int8_from(layer: int) -> Int8Check:
        return Int8Check(**compare("int8", replace(calibration, first_layer=layer)).to_dict(), first_layer=layer)

    # As many layers as may be: those next to the embeddings disturb the most.
    n_layers = len(model.encoder.stack.distinct_layers())
    int8 = int8_from(0)
    for layer in sorted({n_layers // 3, n_layers // 2, 2 * n_layers // 3} - {0}):
        if int8.holds:
            break
        int8 = int8_from(layer)
    return Checked(bf16, int8, replace(calibration, first_layer=int8.first_layer))


def _outputs(
    model: SequenceClassifier,
    sequences: Sequence[list[int]],
    decision: Decision,
    precision: AnsweringPrecision,
    calibration: Calibration | None = None,
) -> Float[np.ndarray, "n c"]:
    return decision.outputs(logits_of(for_inference(model, precision, calibration), sequences))


def answering_precision(
    precision: str, device: torch.device, *, bf16: PrecisionCheck | None, int8: Int8Check | None
) -> AnsweringPrecision:
    """What a precision means for a model's answers on a device.

    Args:
        precision: "auto" is bf16 where the device multiplies it natively and ``bf16`` holds, else fp32.
        device: where to answer.
        bf16: what was measured of the model; None if nothing was.
        int8: likewise.
    Raises:
        ConfigError: it is unknown, or not for this device, or not for this model.
    """
    if precision == "auto":
        return "bf16" if bf16 is not None and bf16.holds and multiplies_bf16(device) else "fp32"
    if precision not in ("fp32", "bf16", "fp16", "int8"):
        raise ConfigError(f"The precision option must be auto, fp32, bf16, fp16 or int8. Got {precision!r} instead.")
    if precision != "int8":
        return resolve_precision(precision, device)
    hint = "Use auto, bf16 or fp32."
    if device.type != "cpu":
        raise ConfigError(
            f"The precision int8 is for the CPU, and the model is to answer on {device}.",
            hint=f"{hint} Or: --device cpu",
        )
    if not can_answer_int8(device):
        raise ConfigError(
            "The precision int8 needs a processor with instructions for it (VNNI or AMX), on Linux, which alone tells; "
            "none were found.",
            hint=hint,
        )
    if int8 is None:
        raise ConfigError(
            "It was not measured what int8 changes in the answers of this model, so it does not answer in it.",
            hint=f"{hint} Training on a CPU with instructions for int8 measures it, on {FEWEST_ROWS_INT8} validation "
            "rows or more.",
        )
    if not int8.holds:
        raise ConfigError(
            f"In int8 this model gave another label to {round(int8.flips * int8.rows)} of {int8.rows:,} rows that it "
            f"was measured on; {int(MOST_FLIPS_INT8 * int8.rows)} may.",
            hint=hint,
        )
    return "int8"


def can_answer_int8(device: torch.device) -> bool:
    """Whether this processor, and this torch, multiply 8-bit integers."""
    return multiplies_int8(device) and can_multiply_int8(device)
