"""The state of a run on disk: one safetensors file, whole or not there, nothing pickled."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from huiyan.core.errors import ArtifactError
from huiyan.core.files import atomic_path

FORMAT = "3"
STATE = "state.json"


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """A copy, on the CPU, of every parameter that is trained and every buffer by name, each shared tensor once."""
    return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in _changing(model).items()}


def set_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Copy weights, named as ``weights_of`` names them, into a model.

    Raises:
        ArtifactError: the names are not those of the model.
    """
    named = _changing(model)
    if named.keys() != weights.keys():
        difference = sorted(named.keys() ^ weights.keys())
        raise ArtifactError(f"The checkpoint is of another model: {difference[0]!r} is in one and not in the other.")
    with torch.no_grad():
        for name, tensor in named.items():
            tensor.copy_(weights[name])


def _changing(model: nn.Module) -> dict[str, Tensor]:
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    return {**trained, **dict(model.named_buffers())}


def write_checkpoint(path: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Write tensors and a JSON state into one file, atomically."""
    # A tensor of bytes and not the header's metadata, which safetensors limits: a history has a line for every step.
    text = torch.frombuffer(bytearray(json.dumps(state, allow_nan=False).encode()), dtype=torch.uint8)
    with atomic_path(path) as temporary:
        save_file({**tensors, STATE: text}, temporary, metadata={"format": FORMAT})


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the state that ``write_checkpoint`` wrote.

    Raises:
        ArtifactError: the file is damaged, or of another format.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError) as error:
        raise ArtifactError(
            f"The checkpoint {path} cannot be read: {error}.", hint="Start again with --overwrite."
        ) from error
    if metadata.get("format") != FORMAT:
        raise ArtifactError(
            f"The checkpoint {path} has format {metadata.get('format')!r}; this version reads {FORMAT!r}.",
            hint="Start again with --overwrite, or use the version of Huiyan that wrote it.",
        )
    return tensors, _state_of(tensors.pop(STATE))


def _state_of(text: Tensor) -> dict[str, Any]:
    return json.loads(bytes(text.tolist()))


def start_afresh(folder: Path) -> None:
    """Remove the checkpoints of an earlier run."""
    for path in folder.glob("*.safetensors"):
        path.unlink()
    remove_unfinished(folder)


def remove_unfinished(folder: Path) -> None:
    """Remove what a process that was killed had begun to write."""
    for path in folder.glob(".*.safetensors.*"):
        path.unlink()


def optimiser_tensors(optimiser: torch.optim.Optimizer, names: Mapping[Tensor, str]) -> dict[str, Tensor]:
    """The optimiser's state, ``optimiser.<parameter>.<what>``."""
    return {
        f"optimiser.{names[parameter]}.{key}": value.detach().to("cpu").contiguous()
        for parameter, values in optimiser.state.items()
        for key, value in values.items()
        if isinstance(value, Tensor)
    }


def set_optimiser_tensors(
    optimiser: torch.optim.Optimizer, names: Mapping[Tensor, str], tensors: Mapping[str, Tensor]
) -> None:
    """Put back what ``optimiser_tensors`` took."""
    by_name = {name: parameter for parameter, name in names.items()}
    for key, value in tensors.items():
        if not key.startswith("optimiser."):
            continue
        name, what = key.removeprefix("optimiser.").rsplit(".", 1)
        parameter = by_name[name]
        # Fused AdamW wants its step count, too, on the device of the parameter.
        optimiser.state[parameter][what] = value.to(parameter.device)
