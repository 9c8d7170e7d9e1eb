"""What a checkpoint family is: two ways to write the same model down, ours and theirs. No torch in this room."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from huiyan.core.errors import SourceError
from huiyan.models.config import HeadConfig, TransformerConfig

CheckpointConfig = Mapping[str, Any]  # a config.json, as read
OWN_PREFIX = "huiyan-"  # before the family in model_type, where `transformers` has no such architecture
KeyTable = tuple[tuple[str, str, Any], ...]  # ours, theirs, and what a config.json may leave out (None: nothing)


@dataclass(frozen=True, kw_only=True)
class Family:
    """A checkpoint family.

    Args:
        name: its ``model_type``.
        architecture: the class that `transformers` names in ``architectures`` for a classifier.
        prefix: what stands before the encoder's weights in a classifier's file; base checkpoints may leave it out.
        read_encoder: config.json → our encoder.
        read_head: config.json → the family's own head.
        write: our encoder and head → config.json, without class names.
        modules: the names of an encoder's modules, ours → theirs (theirs without the prefix).
        head_modules: the same for the family's own head (theirs in full).
        other_heads: how weights begin that belong to other heads: passed over in a pretrained checkpoint.
    """

    name: str
    architecture: str
    prefix: str
    read_encoder: Callable[[CheckpointConfig], TransformerConfig]
    read_head: Callable[[CheckpointConfig], HeadConfig]
    write: Callable[[TransformerConfig, HeadConfig], dict[str, Any]]
    modules: Callable[[TransformerConfig], dict[str, str]]
    head_modules: Mapping[str, str]
    other_heads: tuple[str, ...] = ()


def read_keys(values: CheckpointConfig, table: KeyTable) -> dict[str, Any]:
    """The values of a config.json under our names.

    Raises:
        SourceError: a key is not there that the family gives no default for.
    """
    found: dict[str, Any] = {}
    for ours, theirs, default in table:
        value = values.get(theirs)
        found[ours] = default if value is None else value
        if found[ours] is None:
            raise SourceError(
                f"This checkpoint's config.json has no {theirs!r}, without which the model cannot be built.",
                hint="Fetch the checkpoint again, or choose another.",
            )
    return found


def write_keys(encoder: TransformerConfig, table: KeyTable) -> dict[str, Any]:
    """The values of an encoder under the family's names."""
    return {theirs: getattr(encoder, ours) for ours, theirs, _ in table}


def carry(values: CheckpointConfig, *keys: str) -> dict[str, Any]:
    """The keys that change nothing we compute, to be written back as they were."""
    return {key: values[key] for key in keys if key in values}


def layer_modules(n_layers: int, names: Mapping[str, str], place: Callable[[int], str]) -> dict[str, str]:
    """The names of every layer's modules, ours → theirs, from those of one.

    Args:
        n_layers: distinct layers.
        names: within a layer, ours → theirs.
        place: the index of a layer → what the family calls it.
    """
    return {
        f"stack.layers.{layer}.{ours}": f"{place(layer)}.{theirs}"
        for layer in range(n_layers)
        for ours, theirs in names.items()
    }


def refuse_unless(values: CheckpointConfig, **expected: Any) -> None:
    """Refuse a variant of the family that computes something else than we do.

    Raises:
        SourceError: a key is there with another value than the one expected.
    """
    for key, only in expected.items():
        if values.get(key, only) != only:
            raise SourceError(
                f"This checkpoint's config.json says {key} = {values[key]!r}, and Huiyan reads {only!r} only.",
                hint="Choose another checkpoint.",
            )
