"""Folders of language models that read streams: written, and read again, also those of others.

| ``model_type`` | model | files |
|---|---|---|
| transfo-xl | Transformer-XL | as `transformers` 4 had them, ``pytorch_model.bin`` too, as tensors alone |
| huiyan-lstm | LSTM | our own names |
| any decoder | a decoder that reads each segment by itself | ``language_checkpoint`` |
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file  # pyright: ignore[reportUnknownVariableType] - PathLike is left open there
from torch import Tensor, nn

from huiyan.core.errors import ConfigError, SourceError, WeightsError
from huiyan.core.files import atomic_path, write_json
from huiyan.core.weightless import weightless
from huiyan.models.config_file import CONFIG_FILE, read_config
from huiyan.models.families import transfo_xl
from huiyan.models.language_checkpoint import load_language_model, save_language_model
from huiyan.models.lstm import LSTMLanguageModel
from huiyan.models.naming import apart, check_shapes, refuse_missing, refuse_unknown, together
from huiyan.models.segment_config import LSTMConfig
from huiyan.models.segments import SegmentedDecoder, SegmentModel
from huiyan.models.transformer_xl import TransformerXL
from huiyan.models.weights import SINGLE_FILE, read_weights_or_old

LSTM = "huiyan-lstm"


@dataclass(frozen=True)
class _Kind:
    """How a kind of model is written down.

    Args:
        architecture: its class in `transformers`; none where it has no such model.
        build: config.json → the model.
        write: the model → config.json.
        names: of parameters, ours → the file's.
        in_full: a name of the file → the same as it is written today.
        shared: what a name of the file is called where all layers share it.
        constants: endings of what files hold and nobody needs.
        reversed: what has its rows in the opposite order in files.
    """

    architecture: str
    build: Callable[[Mapping[str, Any]], SegmentModel]
    write: Callable[[Any], dict[str, Any]]
    names: Callable[[list[str]], dict[str, str]]
    in_full: Callable[[str], str] = str
    shared: Callable[[str], str] = str
    constants: tuple[str, ...] = ()
    reversed: tuple[str, ...] = ()


_KINDS = {
    transfo_xl.NAME: _Kind(
        "TransfoXLLMHeadModel",
        lambda values: TransformerXL(transfo_xl.read(values)),
        lambda model: transfo_xl.write(model.config),
        transfo_xl.names,
        transfo_xl.in_full,
        transfo_xl.shared,
        transfo_xl.CONSTANTS,
        transfo_xl.REVERSED,
    ),
    LSTM: _Kind(
        "",
        lambda values: LSTMLanguageModel(
            LSTMConfig.from_dict({key: value for key, value in values.items() if key != "model_type"})
        ),
        lambda model: model.config.to_dict(),
        lambda names: {name: name for name in names},
    ),
}


def load_segment_model(folder: str | Path, *, dtype: torch.dtype = torch.float32) -> SegmentModel:
    """The language model of a folder, in evaluation mode, for streams of text.

    Nothing is filled in and nothing passed over.

    Args:
        folder: config.json and weights.
        dtype: of the parameters.
    Raises:
        UnknownFamilyError: it is of a family we do not read.
        SourceError: config.json is missing, broken or of a variant we do not read.
        WeightsError: weights are missing, left over, of another shape, or cannot be read safely.
    """
    folder = Path(folder)
    values = read_config(folder)
    kind = _KINDS.get(str(values.get("model_type", "")))
    if kind is None:
        model = load_language_model(folder, dtype=dtype)
        if model.encoder is not None:
            raise SourceError(
                f"{folder} is a model that writes from a source, and not one of streams of text.",
                hint="Name a decoder, a Transformer-XL or an LSTM.",
            )
        return SegmentedDecoder(model).eval()
    try:
        with weightless():
            model = kind.build(values)
    except (ConfigError, TypeError) as error:
        told = error.message if isinstance(error, ConfigError) else str(error)
        raise SourceError(f"{folder / CONFIG_FILE} describes no model that can be built: {told}") from error
    weights = {kind.in_full(name): tensor for name, tensor in read_weights_or_old(folder).items()}
    _fill(model, weights, kind, str(folder), dtype)
    return model.eval()


def save_segment_model(model: SegmentModel, folder: Path) -> None:
    """Write config.json and model.safetensors.

    Raises:
        OutputError: the folder cannot be written.
    """
    if isinstance(model, SegmentedDecoder):
        save_language_model(model.model, folder)
        return
    name = LSTM if isinstance(model, LSTMLanguageModel) else transfo_xl.NAME
    kind = _KINDS[name]
    own = dict(model.named_parameters())
    names = kind.names(list(own))
    tensors = _turned({names[ours]: tensor.detach().cpu().contiguous() for ours, tensor in own.items()}, kind)
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_path(folder / SINGLE_FILE) as path:
        save_file(together(tensors), path, metadata={"format": "pt"})
    named = {"architectures": [kind.architecture]} if kind.architecture else {}
    write_json(folder / CONFIG_FILE, {"model_type": name, **named, **kind.write(model)})


def is_segment_folder(folder: Path) -> bool:
    """Whether its model carries a memory from segment to segment."""
    return (folder / CONFIG_FILE).is_file() and str(read_config(folder).get("model_type", "")) in _KINDS


def _fill(model: SegmentModel, weights: dict[str, Tensor], kind: _Kind, where: str, dtype: torch.dtype) -> None:
    """Put a file's weights into a model without any."""
    own = dict(model.named_parameters())
    every = dict(model.named_parameters(remove_duplicate=False))
    names = kind.names(list(every))
    first = {id(parameter): ours for ours, parameter in own.items()}
    found = _turned(weights, kind)
    found = {name: tensor for name, tensor in found.items() if not name.endswith(kind.constants or ("\0",))}
    wanted = {names[ours] for ours in own}
    kept_as = {names[ours]: names[first[id(parameter)]] for ours, parameter in every.items()}
    # What two parts share has two names, and a file may hold it under either or both.
    for theirs in list(found):
        kept = kept_as.get(theirs, kind.shared(theirs))
        if theirs in wanted or kept not in wanted:
            continue
        again = found.pop(theirs)
        if not torch.equal(found.setdefault(kept, again), again):
            raise WeightsError(
                f"{where} has other numbers in {theirs} than in {kept}, which its config.json says are one.",
                hint="Correct tie_word_embeddings, tie_projs or untie_r, or fetch the model again.",
            )
    found = apart(found, {names[ours]: parameter.shape for ours, parameter in own.items()})
    refuse_missing(wanted - found.keys(), where)
    refuse_unknown(found.keys() - wanted, where)
    state = {ours: found[names[ours]] for ours in own}
    check_shapes(model, state, names, where)
    # One parameter under all the names of what is shared.
    ours_only = {ours: nn.Parameter(tensor.to(dtype)) for ours, tensor in state.items()}
    model.load_state_dict({ours: ours_only[first[id(parameter)]] for ours, parameter in every.items()}, assign=True)


def _turned(tensors: Mapping[str, Tensor], kind: _Kind) -> dict[str, Tensor]:
    return {name: tensor.flip(0) if name in kind.reversed else tensor for name, tensor in tensors.items()}
