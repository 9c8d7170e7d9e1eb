"""Folders of language models: read, and written so that `transformers` reads them too."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file  # pyright: ignore[reportUnknownVariableType] - PathLike is left open there
from torch import Tensor

from huiyan.core.errors import ConfigError, SourceError
from huiyan.core.files import atomic_path, write_json
from huiyan.core.weightless import weightless
from huiyan.models.config import LanguageModelConfig
from huiyan.models.config_file import CONFIG_FILE, read_config
from huiyan.models.families.language import LanguageFamily
from huiyan.models.families.registry import language_family_of
from huiyan.models.fresh import draw
from huiyan.models.language_model import LanguageModel
from huiyan.models.naming import apart, called, check_shapes, refuse_missing, refuse_unknown, together
from huiyan.models.weights import SINGLE_FILE, read_weights

_CONSTANT = "logits_bias"  # files may leave it out: it is 0 then


def load_language_model(folder: str | Path, *, dtype: torch.dtype | None = torch.float32) -> LanguageModel:
    """The language model of a folder, written by ``save_language_model`` or by `transformers`.

    It comes in evaluation mode. Nothing is filled in and nothing passed over.

    Args:
        folder: config.json and safetensors.
        dtype: of the parameters; None is that of the file.
    Raises:
        UnknownFamilyError: it is of a family we do not read.
        SourceError: config.json is missing, broken or of a variant we do not read.
        WeightsError: weights are missing, left over, of another shape, or not in safetensors.
    """
    folder = Path(folder)
    values = read_config(folder)
    family = language_family_of(values)
    try:
        config = family.read(values)
    except ConfigError as error:
        raise _misfit(folder, error) from error
    weights = _in_full(read_weights(folder), family, config)
    config = replace(config, tied=config.tied and not _has_its_own_output(weights, family, config))
    model = _without_weights(config, folder)
    tensors = tensors_of(model)
    names = language_names(model)
    if config.tied:
        weights = {name: tensor for name, tensor in weights.items() if name != _output(family, config)}
    found = apart(weights, {names[ours]: tensor.shape for ours, tensor in tensors.items()})
    if _CONSTANT in names:
        found.setdefault(names[_CONSTANT], torch.zeros(tensors[_CONSTANT].shape))
    refuse_missing(set(names.values()) - found.keys(), str(folder))
    refuse_unknown(found.keys() - set(names.values()), str(folder))
    own = {ours: found[theirs] for ours, theirs in names.items()}
    check_shapes(model, own, names, str(folder))
    if dtype is not None:
        own = {name: tensor.to(dtype) for name, tensor in own.items()}
    # Not strict: a module that two parts share has one name here, and two in a state.
    model.load_state_dict(own, assign=True, strict=False)
    return model.eval()


def save_language_model(model: LanguageModel, folder: Path) -> None:
    """Write config.json and model.safetensors, in the names of the model's family.

    Raises:
        UnknownFamilyError: the model is of no family.
    """
    family = language_family_of({"model_type": model.config.family})
    names = language_names(model)
    tensors = {names[ours]: tensor.detach().cpu().contiguous() for ours, tensor in tensors_of(model).items()}
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_path(folder / SINGLE_FILE) as path:
        save_file(together(tensors), path, metadata={"format": "pt"})
    named = {"architectures": [family.architecture]} if family.architecture else {}
    own = {"model_type": family.name, **named, **family.write(model.config)}
    write_json(folder / CONFIG_FILE, {**model.config.decoder.carried, **own})


def fresh_language_model(config: LanguageModelConfig, *, seed: int) -> LanguageModel:
    """A language model without pretraining, in training mode, in float32, drawn from a seed alone."""
    with weightless():
        model = LanguageModel(config)
    shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
    drawn = draw(shapes, deviation=config.decoder.initializer_range, seed=seed)
    if model.logits_bias is not None:
        drawn[_CONSTANT] = torch.zeros(model.logits_bias.shape)
    model.load_state_dict(drawn, assign=True, strict=False)
    return model


def tensors_of(model: LanguageModel) -> dict[str, Tensor]:
    """All that a file holds of a model, each once."""
    constant = {} if model.logits_bias is None else {_CONSTANT: model.logits_bias}
    return dict(model.named_parameters()) | constant


def language_names(model: LanguageModel) -> dict[str, str]:
    """The name of every tensor of a model in the files of its family, ours → theirs.

    Raises:
        UnknownFamilyError: it is of no checkpoint family.
    """
    modules = language_family_of({"model_type": model.config.family}).modules(model.config)
    return {name: called(name, modules) or f"huiyan.{name}" for name in tensors_of(model)}


def _output(family: LanguageFamily, config: LanguageModelConfig) -> str:
    return f"{family.modules(config)['output']}.weight"


def _has_its_own_output(weights: Mapping[str, Tensor], family: LanguageFamily, config: LanguageModelConfig) -> bool:
    """Whether a file says by its weights that it is not tied, whatever its config.json says (T5 1.1 does)."""
    own = weights.get(_output(family, config))
    words = weights.get(f"{family.modules(config)['decoder.embeddings.words']}.weight")
    return own is not None and words is not None and not torch.equal(own, words)


def _in_full(weights: Mapping[str, Tensor], family: LanguageFamily, config: LanguageModelConfig) -> dict[str, Tensor]:
    """A file's weights under the names that a whole model's file has today."""
    kept = {name: tensor for name, tensor in weights.items() if not name.endswith(family.constants or ("\0",))}
    if family.prefix and not any(name.startswith(family.prefix) for name in kept):
        kept = {
            name if name.startswith(("lm_head.", "final_logits_bias")) else family.prefix + name: tensor
            for name, tensor in kept.items()
        }
    own = {f"{name}.weight" for name in family.modules(config).values()}
    for alias in family.aliases.keys() & kept.keys() - own:
        kept.setdefault(family.aliases[alias], kept.pop(alias))
    return kept


def _without_weights(config: LanguageModelConfig, folder: Path) -> LanguageModel:
    try:
        with weightless():
            return LanguageModel(config)
    except ConfigError as error:
        raise _misfit(folder, error) from error


def _misfit(folder: Path, error: ConfigError) -> SourceError:
    return SourceError(f"{folder / CONFIG_FILE} describes no model that can be built: {error.message}", hint=error.hint)
