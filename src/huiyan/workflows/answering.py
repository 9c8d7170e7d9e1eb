"""A trained model at work: how it is loaded to answer, and what it writes beside a text."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from huiyan.core.devices import pick_device
from huiyan.core.lanes import Lanes
from huiyan.core.texts import Text
from huiyan.tasks.artifact import Artifact, Patience
from huiyan.workflows.config import ComputeConfig


def load_to_answer(run: Path, compute: ComputeConfig) -> Artifact:
    """The model of a run, on the device and in the precision asked for.

    Raises:
        ArtifactError: the folder is no model folder, or does not belong together.
        ConfigError: the device or the precision is not to be had here, or the patience not with this model, or not with
            this precision.
    """
    artifact = Artifact.load(run, device=pick_device(compute.device), precision=compute.precision)
    # Told now: a stream whose first row is long in coming should not be waited for.
    artifact.patience_of(compute.patience)
    return artifact


@dataclass(frozen=True)
class Answering:
    """How answers are written beside a row.

    Args:
        artifact: the model.
        all_classes: also give the probability of every class.
        prefix: before the names of the added columns.
        patience: how many layers in a row have to agree before a text leaves; None is full depth.
    """

    artifact: Artifact
    all_classes: bool
    prefix: str
    patience: Patience = None
    _at_limit: list[int] = field(default_factory=lambda: [0])

    @property
    def columns(self) -> list[str]:
        """Names of the added columns."""
        manifest = self.artifact.manifest
        one_of_several = manifest.task in ("classify", "ordinal")
        return [
            f"{self.prefix}prediction",
            *([f"{self.prefix}likeliest"] if one_of_several and manifest.decision.thresholds else []),
            *([f"{self.prefix}probability"] if one_of_several else []),
            *(f"{self.prefix}probability_{name}" for name in (manifest.classes if self.all_classes else ())),
        ]

    @property
    def n_at_limit(self) -> int:
        """How many texts had all the tokens that the model reads, or more."""
        return self._at_limit[0]

    def start(
        self, texts: Sequence[Text], lanes: Lanes, *, on_rows: Callable[[int], None] | None = None
    ) -> Callable[[], list[dict[str, Any]]]:
        """Begin to answer; what comes back waits for the added columns of each text, in order.

        The prediction is a label, a list of labels, or a number; probabilities have six places. Where the model is not
        sure the prediction is None, and ``likeliest`` says what it would have been. ``on_rows`` is told, from any
        thread, how many texts more have been computed.
        """
        sequences = self.artifact.encode(texts)
        self._at_limit[0] += sum(len(sequence) >= self.artifact.manifest.max_length for sequence in sequences)
        logits = self.artifact.start_logits(sequences, lanes, patience=self.patience, on_rows=on_rows)
        return lambda: self._answers(logits())

    def _answers(self, logits: Float[np.ndarray, "n o"]) -> list[dict[str, Any]]:
        decision, columns = self.artifact.manifest.decision, self.columns
        outputs = decision.outputs(logits)
        shown = self._shown(outputs, decision.answers(outputs), decision.is_sure(outputs).tolist())
        if self.all_classes and self.artifact.manifest.classes:
            for row, values in zip(shown, outputs.tolist(), strict=True):
                row += [round(value, 6) for value in values]
        return [dict(zip(columns, row, strict=True)) for row in shown]

    def _shown(self, outputs: np.ndarray, answers: np.ndarray, sure: list[bool]) -> list[list[Any]]:
        """The prediction, and what is always beside it."""
        manifest = self.artifact.manifest
        if manifest.task == "regression":
            return [[float(f"{value:.7g}")] for value in answers.tolist()]
        if manifest.task == "multilabel":
            return [[self._names(row)] for row in answers]
        rows: list[list[Any]] = []
        for row, choice, is_sure in zip(outputs.tolist(), answers.tolist(), sure, strict=True):
            name = manifest.classes[choice]
            likeliest = [name] if manifest.decision.thresholds else []
            rows.append([name if is_sure else None, *likeliest, round(row[choice], 6)])
        return rows

    def _names(self, has: np.ndarray) -> list[str]:
        return [self.artifact.manifest.classes[label] for label in np.flatnonzero(has).tolist()]
