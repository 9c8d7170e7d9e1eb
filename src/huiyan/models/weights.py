"""Weight files: safetensors, whole or in shards; tensors of older files. Nothing here can run code from a file."""

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from huiyan.core.errors import WeightsError
from huiyan.core.json_files import read_object

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
_PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json", "tf_model.h5", "flax_model.msgpack")


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Every tensor of a checkpoint folder by its name, on the CPU, in the dtype of the file.

    Raises:
        WeightsError: there is no safetensors file, or one that is broken or names files outside the folder.
    """
    weights: dict[str, Tensor] = {}
    for path in weight_files(folder):
        weights.update(_tensors_of(path))
    return weights


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a checkpoint folder.

    Raises:
        WeightsError: there are none, or the index does not hold.
    """
    if (folder / SINGLE_FILE).is_file():
        return [folder / SINGLE_FILE]
    if (folder / INDEX_FILE).is_file():
        return _shards(folder)
    pickled = [name for name in _PICKLED if (folder / name).is_file()]
    if pickled:
        raise WeightsError(
            f"{folder} has its weights in {pickled[0]} only. Such files can run code when they are opened, and Huiyan "
            f"reads {SINGLE_FILE} instead.",
            hint="Choose a revision that has it, or convert the checkpoint once: load it in transformers and "
            "call save_pretrained.",
        )
    raise WeightsError(f"{folder} has no {SINGLE_FILE} and no {INDEX_FILE}.", hint="Is this the folder of a model?")


def _shards(folder: Path) -> list[Path]:
    index = folder / INDEX_FILE
    try:
        table: Any = read_object(index, WeightsError)["weight_map"]
        names = sorted({str(name) for name in table.values()})
    except (KeyError, AttributeError) as error:
        raise WeightsError(f"{index} is not an index of weight files.", hint="Fetch the model again.") from error
    for name in names:
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise WeightsError(f"{index} names {name!r}, which is not a safetensors file of its own folder.")
        if not (folder / name).is_file():
            raise WeightsError(f"{index} names {name}, and it is not there.", hint="Fetch the model again.")
    return [folder / name for name in names]


def _tensors_of(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} cannot be read as safetensors: {error}.", hint="Fetch the model again.") from error


def read_weights_or_old(folder: Path) -> dict[str, Tensor]:
    """The same of a checkpoint from before safetensors, if need be: tensors alone are read, and no code can run.

    Raises:
        WeightsError: as ``read_weights``; or the old file holds more than tensors.
    """
    old = folder / _PICKLED[0]
    if (folder / SINGLE_FILE).is_file() or (folder / INDEX_FILE).is_file() or not old.is_file():
        return read_weights(folder)
    import pickle

    try:
        found: Any = torch.load(old, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
        raise WeightsError(
            f"{old} holds more than tensors, or is damaged, and is not opened.", hint="Fetch the model again."
        ) from error
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise WeightsError(f"{old} holds something else than named tensors.", hint="Fetch the model again.")
    return {str(name): tensor for name, tensor in found.items()}
