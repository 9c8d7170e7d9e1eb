"""The one folder that training writes and everything else reads.

``config.json``, ``model.safetensors`` and the tokenizer's files are what ``transformers`` reads; ``huiyan.json``
beside them says what the model is for. Nothing in the folder is ever unpickled.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from jaxtyping import Float

from huiyan.core.config import require
from huiyan.core.errors import ArtifactError, ConfigError, OutputError, WeightsError
from huiyan.core.files import sha256_of, write_json
from huiyan.core.lanes import Lanes
from huiyan.core.texts import Text
from huiyan.models.checkpoint import load_classifier, read_class_names, save_classifier
from huiyan.models.classifier import SequenceClassifier
from huiyan.models.config_file import CONFIG_FILE
from huiyan.models.early_exit import ExitingClassifier, Exits, load_exits, save_exits
from huiyan.models.inference import for_inference
from huiyan.models.int8 import Calibration
from huiyan.models.weights import SINGLE_FILE
from huiyan.tasks.facts import facts_of, table_of
from huiyan.tasks.logits import device_of, start_early_logits, start_logits
from huiyan.tasks.manifest import MANIFEST, EarlyExit, Manifest
from huiyan.tasks.precision import AnsweringPrecision, Checked, Int8Check, answering_precision
from huiyan.tasks.profile import PROFILE, Profile
from huiyan.text.tokenise import Tokenizer

EXITS = "exits.safetensors"
CALIBRATION = "int8.safetensors"
Patience = int | Literal["auto"] | None
"""How many heads in a row have to agree before a text leaves early; "auto" is the run's own, None full depth."""


@dataclass(frozen=True)
class Artifact:
    """A trained model, ready to answer.

    Args:
        model: encoder and head, in eval mode.
        tokenizer: the tokenizer it was trained with.
        manifest: what it is for.
        exits: the heads of the layers before the last, in eval mode; None for a model without early exits.
        precision: that answers are computed in.
        calibration: what enters the model's products, for answers in int8; None where it is not known.
        profile: what the rows it learned from were like; None where that was not kept.
    """

    model: SequenceClassifier
    tokenizer: Tokenizer
    manifest: Manifest
    exits: Exits | None = None
    precision: AnsweringPrecision = "fp32"
    calibration: Calibration | None = None
    profile: Profile | None = None

    @cached_property
    def fast(self) -> SequenceClassifier:
        """What answers: ``model`` as it was when this was first asked for, made for inference."""
        return for_inference(self.model, self.precision, self.calibration)

    def __getstate__(self) -> dict[str, Any]:
        """What pickling and copying keep: what answers is made again, its weights lie as this processor wants them."""
        return {name: value for name, value in self.__dict__.items() if name != "fast"}

    def __repr__(self) -> str:
        return f"Artifact({', '.join(f'{name}: {fact}' for name, fact in facts_of(self).items())})"

    def _repr_html_(self) -> str:
        """What a notebook shows: the facts as a table, escaped."""
        return table_of(facts_of(self))

    @property
    def exiting(self) -> ExitingClassifier:
        """The model together with its exits.

        Raises:
            ConfigError: it has none.
        """
        if self.exits is None:
            raise ConfigError(
                "This model has no early exits, so patience has no meaning for it.",
                hint="Leave patience away, or train with --early-exit.",
            )
        return ExitingClassifier(self.model, self.exits)

    @property
    def answering_early(self) -> ExitingClassifier:
        """What answers with patience: ``fast`` together with the exits.

        Raises:
            ConfigError: there are none.
        """
        return ExitingClassifier(self.fast, self.exiting.exits)

    def encode(self, texts: Sequence[Text]) -> list[list[int]]:
        """The token ids of texts, cut to what the model reads."""
        return self.tokenizer.encode_batch(texts, max_length=self.manifest.max_length)

    def start_logits(
        self,
        sequences: Sequence[list[int]],
        lanes: Lanes,
        *,
        patience: Patience = None,
        on_rows: Callable[[int], None] | None = None,
    ) -> Callable[[], Float[np.ndarray, "n c"]]:
        """Begin to compute the logits of what ``encode`` gave: what comes back waits for them.

        Args:
            sequences: token ids, `n` of them.
            lanes: where batches are computed.
            patience: as for ``logits``.
            on_rows: told, from any thread, how many sequences more have been computed.

        Raises:
            ConfigError: a patience below 1, or any for a model without early exits or in int8.
        """
        chosen = self.patience_of(patience)
        if chosen is None:
            return start_logits(self.fast, sequences, lanes, on_rows=on_rows)
        wait = start_early_logits(self.answering_early, sequences, lanes, patience=chosen, on_rows=on_rows)
        return lambda: wait()[0]

    def logits(self, texts: Sequence[Text], *, patience: Patience = None) -> Float[np.ndarray, "n o"]:
        """Raw logits of texts, `n o`, in the order of the task's outputs.

        Raises:
            ConfigError: a patience below 1, or any for a model without early exits or in int8.
        """
        with Lanes(device_of(self.model)) as lanes:
            return self.start_logits(self.encode(texts), lanes, patience=patience)()

    def outputs(self, texts: Sequence[Text], *, patience: Patience = None) -> Float[np.ndarray, "n c"]:
        """Probabilities of texts, `n c`, in the order of ``manifest.classes``; where labels are numbers those, `n 1`.

        Rows sum to 1 where one class is right.

        Raises:
            ConfigError: a patience below 1, or any for a model without early exits or in int8.
        """
        return self.manifest.decision.outputs(self.logits(texts, patience=patience))

    def patience_of(self, patience: Patience) -> int | None:
        """The patience that is meant; None is full depth.

        Raises:
            ConfigError: a patience below 1, or any for a model without early exits or in int8.
        """
        if patience is None:
            return None
        n_layers, own = self.exiting.n_layers, self.manifest.early_exit
        if self.precision == "int8":
            raise ConfigError(
                "What int8 changes was measured with every text going through every layer: it does not go with "
                "patience.",
                hint="Leave patience away, or use the precision auto.",
            )
        if patience == "auto":
            return n_layers if own is None else own.patience
        fits = isinstance(patience, int) and not isinstance(patience, bool) and patience >= 1
        require(fits, "patience", "auto, or a number of layers from 1", patience)
        return patience

    def save(self, folder: Path) -> None:
        """Write the folder; ``huiyan.json`` last, so that a folder that has it is whole.

        Raises:
            OutputError: the folder cannot be written.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # That of an earlier model would vouch for the files of two models, were this cut short.
            (folder / MANIFEST).unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(
                f"{folder} cannot be written: {error.strerror or error}.", hint="Name another folder."
            ) from error
        task = self.manifest.as_task()
        save_classifier(self.model, folder, class_names=task.outputs, problem_type=task.problem_type)
        self.tokenizer.save(folder)
        if self.profile is None:
            (folder / PROFILE).unlink(missing_ok=True)
        else:
            write_json(folder / PROFILE, self.profile.to_dict())
        self.save_checks(folder)

    def save_checks(self, folder: Path) -> None:
        """Write again what was measured of the weights that ``save`` has written there, and not the weights."""
        weights = sha256_of(folder / SINGLE_FILE)
        same = self.manifest.weights_sha256 in ("", weights)  # what was measured of other weights says nothing of these
        manifest = replace(
            self.manifest,
            weights_sha256=weights,
            early_exit=self._save_exits(folder),
            bf16=self.manifest.bf16 if same else None,
            int8=self._save_calibration(folder, self.manifest.int8 if same else None),
        )
        write_json(folder / MANIFEST, manifest.to_dict())

    def _save_exits(self, folder: Path) -> EarlyExit | None:
        if self.exits is None:
            # Those of an earlier model would be read as this one's.
            (folder / EXITS).unlink(missing_ok=True)
            return None
        save_exits(self.exits, folder / EXITS)
        own = self.manifest.early_exit or EarlyExit(patience=self.exiting.n_layers)
        return replace(own, weights_sha256=sha256_of(folder / EXITS))

    def _save_calibration(self, folder: Path, own: Int8Check | None) -> Int8Check | None:
        if own is None or not own.holds or self.calibration is None:
            # As above. Of int8 that is refused the figures are enough.
            (folder / CALIBRATION).unlink(missing_ok=True)
            return None if own is None or own.holds else own
        self.calibration.save(folder / CALIBRATION)
        return replace(own, sha256=sha256_of(folder / CALIBRATION))

    def with_checks(self, checked: Checked) -> Self:
        """The same, and what was found of answering in fewer bits with the weights it has."""
        manifest = replace(self.manifest, bf16=checked.bf16, int8=checked.int8, weights_sha256="")
        return replace(self, manifest=manifest, calibration=checked.calibration)

    @classmethod
    def load(cls, folder: str | Path, *, device: torch.device | str = "cpu", precision: str = "fp32") -> Self:
        """Read the folder that ``save`` wrote.

        Args:
            folder: what training, or ``save``, wrote.
            device: where to answer.
            precision: to answer in; "auto" is bf16 where the device multiplies it natively and the manifest says that
                the answers stayed the same on the validation rows. "int8" is for a CPU, and for a model of which the
                manifest says that few labels flip.
        Raises:
            ConfigError: the precision is unknown, or not for this device, or int8 is not for this model.
            ArtifactError: the folder is none of ours, of a newer format, or its parts do not belong together.
            WeightsError: the weights do not fit the configuration.
        """
        folder = Path(folder)
        manifest = Manifest.read(folder)
        outputs, model = manifest.as_task().outputs, load_classifier(folder)
        if model.config.n_classes != len(outputs):
            raise ArtifactError(
                f"{folder} does not belong together: its weights have {model.config.n_classes} classes, "
                f"{MANIFEST} names {len(outputs)}.",
                hint="Restore the folder from where it was trained.",
            )
        for number, (theirs, ours) in enumerate(zip(read_class_names(folder), outputs, strict=True)):
            if theirs != ours:
                raise ArtifactError(
                    f"{folder} does not belong together: class {number} is {theirs!r} in {CONFIG_FILE} "
                    f"and {ours!r} in {MANIFEST}.",
                    hint="Restore the folder from where it was trained.",
                )
        tokenizer = Tokenizer.from_folder(folder)
        check_vocabulary(tokenizer, model, str(folder))
        exits = _read_exits(folder, manifest, model)
        found = answering_precision(precision, torch.device(device), bf16=manifest.bf16, int8=manifest.int8)
        calibration = _read_calibration(folder, manifest, model, needed=found == "int8")
        if exits is not None:
            exits.to(device)
        return cls(model.to(device).eval(), tokenizer, manifest, exits, found, calibration, Profile.read(folder))


def check_vocabulary(tokenizer: Tokenizer, model: SequenceClassifier, where: str) -> None:
    """Check that the model has a vector for every id the tokenizer can give.

    Raises:
        WeightsError: it has fewer.
    """
    rows = model.config.encoder.vocab_size
    if tokenizer.vocab_size > rows:
        raise WeightsError(
            f"The tokenizer of {where} has {tokenizer.vocab_size} pieces, its model vectors for {rows}: "
            "they do not belong together.",
            hint="Fetch the model again, or restore its tokenizer.json.",
        )


def _read_exits(folder: Path, manifest: Manifest, model: SequenceClassifier) -> Exits | None:
    if manifest.early_exit is None:
        return None
    exits = load_exits(folder / EXITS, model.config)
    # Exits of the same shape from another run would answer, and wrongly.
    if sha256_of(folder / EXITS) != manifest.early_exit.weights_sha256:
        raise ArtifactError(
            f"{folder} does not belong together: {EXITS} is not the file that {MANIFEST} names.",
            hint="Restore the folder from where it was trained.",
        )
    # They read what the layers of these very weights give: on others they would answer, and wrongly.
    _check_weights(
        folder,
        manifest,
        "its early exits were trained on",
        hint=f"Train again with --early-exit, or go on without exits: take the key early_exit out of {MANIFEST}.",
    )
    return exits


def _read_calibration(
    folder: Path, manifest: Manifest, model: SequenceClassifier, *, needed: bool
) -> Calibration | None:
    """What int8 answers by; None where there is none, or none that fits and none is needed."""
    own, path = manifest.int8, folder / CALIBRATION
    if own is None or not own.holds:
        return None
    hint = "Restore the folder from where it was trained, or answer in auto, bf16 or fp32."
    if not path.is_file() or sha256_of(path) != own.sha256:
        if not needed:
            return None
        raise ArtifactError(
            f"{folder} does not belong together: {CALIBRATION} is missing, or not the file that {MANIFEST} names.",
            hint=hint,
        )
    if needed:
        _check_weights(folder, manifest, "int8 was calibrated on", hint=hint)
    return Calibration.load(path, model, first_layer=own.first_layer)


def _check_weights(folder: Path, manifest: Manifest, whose: str, *, hint: str) -> None:
    """Check that the weights are those that something else in the folder was made with."""
    weights = folder / SINGLE_FILE
    if not weights.is_file() or sha256_of(weights) != manifest.weights_sha256:
        raise ArtifactError(
            f"{folder} does not belong together: {whose} other weights than its {SINGLE_FILE}.", hint=hint
        )
