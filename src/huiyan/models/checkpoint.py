"""Model folders: a classifier on a pretrained encoder, saved, and loaded again.

The files are those of `transformers`: config.json and model.safetensors, in the names of the checkpoint's family.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import save_file  # pyright: ignore[reportUnknownVariableType] - PathLike is left open there
from torch import Tensor

from huiyan.attention.approximate.swap import ApproximateSelfAttention
from huiyan.core.config import require
from huiyan.core.errors import ConfigError, SourceError
from huiyan.core.files import atomic_path, write_json
from huiyan.models.classifier import SequenceClassifier
from huiyan.models.config import MOST_CLASSES, ClassifierConfig, HeadConfig, TransformerConfig, is_count
from huiyan.models.config_file import CONFIG_FILE, read_config
from huiyan.models.families.family import OWN_PREFIX, Family
from huiyan.models.families.registry import family_named, family_of
from huiyan.models.fresh import draw_missing, without_weights
from huiyan.models.naming import (
    apart,
    check_shapes,
    encoder_leftovers,
    family_names,
    in_full,
    refuse_missing,
    refuse_unknown,
    together,
)
from huiyan.models.weights import SINGLE_FILE, read_weights


def build_classifier(folder: Path, *, n_classes: int, pooling: str = "family", seed: int) -> SequenceClassifier:
    """A classifier with a pretrained encoder and a fresh output layer, in training mode, in float32.

    The head's dense layer is loaded where the checkpoint has it (BERT's pooler); the rest of the head is drawn from
    ``seed`` alone, whatever the state of torch's own generator.

    Args:
        folder: config.json and safetensors of a checkpoint of a known family, with or without a head of any task.
        n_classes: `c`.
        pooling: "family" for the family's own head, or "first", "mean" or "attention" for ours.
        seed: of the fresh weights.
    Raises:
        UnknownFamilyError: the checkpoint is of a family we do not read.
        SourceError: config.json is missing, broken or of a variant we do not read.
        WeightsError: weights are missing, left over, of another shape, or not in safetensors.
        ConfigError: ``pooling`` is not one we know.
    """
    values = read_config(folder)
    family = family_of(values)
    head = family.read_head(values) if pooling == "family" else _own_head(pooling, family.read_head(values))
    encoder = read_encoder_config(folder)
    model = _without_weights(ClassifierConfig(encoder=encoder, head=head, n_classes=n_classes), folder)
    names = _names(model, family)
    found = _found(folder, model, names, family)
    pretrained = {
        ours: found[theirs] for ours, theirs in names.items() if theirs in found and not ours.startswith("head.output.")
    }
    encoder_names = {theirs for ours, theirs in names.items() if ours.startswith("encoder.")}
    refuse_missing(encoder_names - found.keys(), str(folder))
    refuse_unknown(encoder_leftovers(found, encoder_names, family), str(folder))
    check_shapes(model, pretrained, names, str(folder))
    return _fill(model, pretrained | draw_missing(model, pretrained, seed=seed))


def save_classifier(
    model: SequenceClassifier,
    folder: Path,
    *,
    class_names: Sequence[str],
    problem_type: str = "single_label_classification",
) -> None:
    """Write config.json and model.safetensors, each whole or not at all.

    With the family's own head, `transformers` loads the folder with equal logits. With ours, or with projections of
    low rank, ``model_type`` begins with "huiyan-", and `transformers` refuses the folder instead of guessing.

    Args:
        model: what is saved.
        folder: where.
        class_names: of the logits, in their order.
        problem_type: what `transformers` calls their kind.
    Raises:
        ConfigError: the class names are not one for each class, each once; or an approximation stands in a layer.
        OutputError: the folder cannot be written.
    """
    for name, module in model.named_modules():
        if isinstance(module, ApproximateSelfAttention):
            raise ConfigError(
                f"A checkpoint has no word for the approximation in {name}: loaded, it would be exact attention.",
                hint="Keep model.state_dict(), and put the same cores in before it is loaded.",
            )
    n_classes = model.config.n_classes
    fits = len(class_names) == n_classes == len(set(class_names))
    require(fits, "class_names", f"{n_classes} different names, one a class", list(class_names))
    family = family_named(model.config.family)
    names = _names(model, family)
    tensors = {names[ours]: tensor.detach().cpu().contiguous() for ours, tensor in model.named_parameters()}
    with atomic_path(folder / SINGLE_FILE) as path:
        save_file(together(tensors), path, metadata={"format": "pt"})
    write_json(folder / CONFIG_FILE, _checkpoint_config(model.config, family, class_names, problem_type))


def load_classifier(folder: str | Path) -> SequenceClassifier:
    """The classifier of a folder written by ``save_classifier``, or by `transformers` for a known family.

    It comes in evaluation mode, in float32. Nothing is filled in and nothing passed over.

    Raises:
        UnknownFamilyError: the folder is of a family we do not read.
        SourceError: config.json is missing, broken or of a variant we do not read.
        WeightsError: weights are missing, left over, of another shape, or not in safetensors.
    """
    folder = Path(folder)
    values = read_config(folder)
    family = family_of(values)
    head = _read_head(values, family)
    encoder, n_classes = read_encoder_config(folder), len(read_class_names(folder))
    model = _without_weights(ClassifierConfig(encoder=encoder, head=head, n_classes=n_classes), folder)
    names = _names(model, family)
    found = _found(folder, model, names, family)
    refuse_missing(set(names.values()) - found.keys(), str(folder))
    refuse_unknown(found.keys() - set(names.values()), str(folder))
    weights = {ours: found[theirs] for ours, theirs in names.items()}
    check_shapes(model, weights, names, str(folder))
    return _fill(model, weights).eval()


def read_encoder_config(folder: Path) -> TransformerConfig:
    """What the encoder of a model folder is made of, from config.json alone.

    Raises:
        UnknownFamilyError: it is of a family we do not read.
        SourceError: config.json is missing, broken, of a variant we do not read, or has numbers that cannot be.
    """
    values = read_config(folder)
    own = values.get("huiyan")
    ranks = cast("dict[str, Any]", own).get("ranks", {}) if isinstance(own, dict) else {}
    try:
        return replace(family_of(values).read_encoder(values), ranks=ranks)
    except ConfigError as error:
        raise _misfit(folder, error) from error


def read_class_names(folder: Path) -> list[str]:
    """The names of a saved classifier's classes, in the order of its logits.

    Raises:
        SourceError: config.json is missing or broken, its ``id2label`` is not numbered 0, 1, 2 …, or without one its
            ``num_labels`` is no number of classes.
    """
    values = read_config(folder)
    table = values.get("id2label")
    if not table:
        n_classes = values.get("num_labels", 2)  # `transformers` leaves out what is its default, two labels.
        if not is_count(n_classes, MOST_CLASSES):
            raise SourceError(
                f"num_labels in {folder / CONFIG_FILE} must be a whole number from 1 to {MOST_CLASSES:,}. "
                f"Got {n_classes!r} instead."
            )
        return [f"LABEL_{i}" for i in range(n_classes)]
    try:
        return [table[str(i)] for i in range(len(table))]
    except (KeyError, TypeError) as error:
        raise SourceError(
            f'id2label in {folder / CONFIG_FILE} must number the classes "0", "1", "2" … Got {table!r} instead.'
        ) from error


def _own_head(pooling: str, family_head: HeadConfig) -> HeadConfig:
    return HeadConfig(pooling=cast("Any", pooling), dropout=family_head.dropout)  # HeadConfig checks the name


def _read_head(values: Mapping[str, Any], family: Family) -> HeadConfig:
    if str(values["model_type"]).startswith(OWN_PREFIX):
        own = values.get("huiyan")
        if not isinstance(own, dict) or not isinstance(cast("Any", own).get("head"), dict):
            raise SourceError(f"This {CONFIG_FILE} says {values['model_type']!r} and has no head under 'huiyan'.")
        return HeadConfig.from_dict(cast("dict[str, Any]", own)["head"])
    return family.read_head(values)


def _without_weights(config: ClassifierConfig, folder: Path) -> SequenceClassifier:
    try:
        return without_weights(config)
    except ConfigError as error:  # an activation that is none, or ranks that no projection has
        raise _misfit(folder, error) from error


def _misfit(folder: Path, error: ConfigError) -> SourceError:
    return SourceError(f"{folder / CONFIG_FILE} describes no model that can be built: {error.message}", hint=error.hint)


def _checkpoint_config(
    config: ClassifierConfig, family: Family, class_names: Sequence[str], problem_type: str
) -> dict[str, Any]:
    values = family.write(config.encoder, config.head) | {
        "id2label": {str(i): name for i, name in enumerate(class_names)},
        "label2id": {name: i for i, name in enumerate(class_names)},
        "problem_type": problem_type,
    }
    if family.read_head(values) == config.head and not config.encoder.ranks:
        return {"model_type": family.name, "architectures": [family.architecture], **values}
    own: dict[str, Any] = {"head": config.head.to_dict()}
    if config.encoder.ranks:
        own["ranks"] = config.encoder.ranks
    return {"model_type": OWN_PREFIX + family.name, "huiyan": own, **values}


def _names(model: SequenceClassifier, family: Family) -> dict[str, str]:
    return family_names((name for name, _ in model.named_parameters()), model.config.encoder, family)


def _found(folder: Path, model: SequenceClassifier, names: Mapping[str, str], family: Family) -> dict[str, Tensor]:
    """The weights of a folder, by the family's names of what we have."""
    sizes = {names[ours]: parameter.shape for ours, parameter in model.named_parameters()}
    return apart(in_full(read_weights(folder), family), sizes)


def _fill(model: SequenceClassifier, weights: Mapping[str, Tensor]) -> SequenceClassifier:
    model.load_state_dict({name: tensor.to(torch.float32) for name, tensor in weights.items()}, assign=True)
    return model
