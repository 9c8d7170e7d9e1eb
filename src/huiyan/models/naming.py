"""Weights under our names and under a family's: who is who, what is missing, what does not fit."""

import re
from collections.abc import Collection, Iterable, Mapping

import torch
from torch import Tensor, nn

from huiyan.core.errors import WeightsError
from huiyan.models.config import TransformerConfig
from huiyan.models.families.family import Family

_SHOWN = 4  # names in a message
_BUFFERS = ("embeddings.position_ids", "embeddings.token_type_ids")  # old files hold them; they are 0, 1, 2 … and 0s
_PLACED = re.compile(r"(.+?)(\^T)?(?:\[(\d+)\])?\.(weight|bias)")
_FACTORS = ("down", "up")  # of a LowRankLinear
_OLD_ENDINGS = {"gamma": "weight", "beta": "bias"}  # of LayerNorm, in files converted from TensorFlow

OTHER_MODELS = (
    "They do not belong together. Fetch the model again, or name another one: a folder, package:NAME, or owner/name on "
    "the hub (HF_ENDPOINT names a mirror)."
)


def family_names(parameters: Iterable[str], config: TransformerConfig, family: Family) -> dict[str, str]:
    """The name of every parameter of a ``SequenceClassifier`` in the family's files.

    Args:
        parameters: our names, beginning with ``encoder.`` or ``head.``.
        config: of the encoder.
        family: whose names are wanted.
    Returns:
        Ours → theirs. The two factors of a low-rank projection stand below the name of the whole, as ``.down`` and
        ``.up``. Parts that the family does not have (our own pooling) are called ``huiyan.`` and our name.
    """
    modules = {f"encoder.{ours}": family.prefix + theirs for ours, theirs in family.modules(config).items()}
    modules |= {f"head.{ours}": theirs for ours, theirs in family.head_modules.items()}
    modules |= {
        f"encoder.{ours}.{part}": f"{modules[f'encoder.{ours}']}.{part}" for ours in config.ranks for part in _FACTORS
    }
    return {name: called(name, modules) or f"huiyan.{name}" for name in parameters}


def called(parameter: str, modules: Mapping[str, str]) -> str | None:
    """What a family calls a parameter.

    Args:
        parameter: our name.
        modules: ours → theirs; of modules, or of a parameter that is a module there.
    """
    module, _, leaf = parameter.rpartition(".")
    if parameter in modules:
        return modules[parameter]
    return f"{modules[module]}.{leaf}" if module in modules else None


def apart(weights: Mapping[str, Tensor], sizes: Mapping[str, torch.Size]) -> dict[str, Tensor]:
    """A file's weights with those taken apart that hold several of ours, and those turned that lie transposed.

    A family calls our parts ``NAME[0]``, ``NAME[1]`` … where its file has one matrix NAME (a fused projection of
    queries, keys and values), one below the other; and ``NAME^T`` what its file has transposed.

    Args:
        weights: by the file's names.
        sizes: shapes of our parameters, by the family's names.
    """
    places = _places(sizes)
    found = {name: tensor for name, tensor in weights.items() if name not in places}
    for whole, names in places.items():
        if whole not in weights:
            continue
        rows = [sizes[name][0] for name in names]
        tensor = _turned(weights[whole], names[0])
        if sum(rows) == len(tensor):
            found |= dict(zip(names, tensor.split(rows), strict=True))
        else:  # of another shape, as the message will say
            found |= {names[0]: tensor, **dict.fromkeys(names[1:], tensor[:0])}
    return found


def together(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The opposite of ``apart``."""
    places = _places(tensors)
    joined = {
        whole: _turned(torch.cat([tensors[name] for name in names]), names[0]).contiguous()
        for whole, names in places.items()
    }
    placed = {name for names in places.values() for name in names}
    return {name: tensor for name, tensor in tensors.items() if name not in placed} | joined


def _places(names: Iterable[str]) -> dict[str, list[str]]:
    """What a file holds fused or transposed → our names of its parts, in order."""
    found: dict[str, dict[int, str]] = {}
    for name in names:
        match = _PLACED.fullmatch(name)
        if match and (match[2] or match[3]):
            found.setdefault(f"{match[1]}.{match[4]}", {})[int(match[3] or 0)] = name
    return {whole: [parts[number] for number in sorted(parts)] for whole, parts in found.items()}


def _turned(tensor: Tensor, name: str) -> Tensor:
    return tensor.T if "^T" in name and tensor.dim() == 2 else tensor


def in_full(weights: Mapping[str, Tensor], family: Family) -> dict[str, Tensor]:
    """A file's weights under the names a classifier's file has today.

    Base checkpoints leave the family's prefix out, files converted from TensorFlow say gamma and beta, and old ones
    hold constant buffers.
    """
    kept = {_modern(name): tensor for name, tensor in weights.items() if not name.endswith(_BUFFERS)}
    if any(name.startswith(family.prefix) for name in kept):
        return kept
    return {name if _is_a_head(name, family) else family.prefix + name: tensor for name, tensor in kept.items()}


def encoder_leftovers(names: Iterable[str], used: Collection[str], family: Family) -> list[str]:
    """Names below the family's prefix that nothing uses: the encoder is not the one its config.json describes."""
    return [
        name for name in names if name not in used and name.startswith(family.prefix) and not _is_a_head(name, family)
    ]


def refuse_unknown(names: Collection[str], where: str) -> None:
    """Raise for weights that nothing in the model uses.

    Raises:
        WeightsError: there is at least one.
    """
    if names:
        raise WeightsError(
            f"{where} has weights that the model of its config.json does not: {_listed(names)}.",
            hint=OTHER_MODELS,
        )


def refuse_missing(names: Collection[str], where: str) -> None:
    """Raise for weights that the model needs and the file does not have.

    Raises:
        WeightsError: there is at least one.
    """
    if names:
        raise WeightsError(
            f"{where} lacks weights that the model of its config.json needs: {_listed(names)}.",
            hint=OTHER_MODELS,
        )


def check_shapes(model: nn.Module, weights: Mapping[str, Tensor], names: Mapping[str, str], where: str) -> None:
    """Raise for the first tensor whose shape is not that of its parameter.

    Args:
        model: what the weights are for.
        weights: by our names.
        names: ours → theirs, for the message.
        where: the folder, for the message.
    Raises:
        WeightsError: naming the tensor and both shapes.
    """
    for ours, parameter in model.named_parameters():
        if ours in weights and weights[ours].shape != parameter.shape:
            raise WeightsError(
                f"{names[ours]} in {where} has the shape {tuple(weights[ours].shape)}, and the model of its "
                f"config.json needs {tuple(parameter.shape)}.",
                hint=OTHER_MODELS,
            )


def _modern(name: str) -> str:
    stem, dot, leaf = name.rpartition(".")
    return f"{stem}{dot}{_OLD_ENDINGS.get(leaf, leaf)}"


def _is_a_head(name: str, family: Family) -> bool:
    own = tuple(f"{module}." for module in family.head_modules.values())
    return name.startswith((*own, *family.other_heads))


def _listed(names: Collection[str]) -> str:
    shown = ", ".join(sorted(names)[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN} more"
