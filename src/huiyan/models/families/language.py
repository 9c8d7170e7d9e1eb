"""What a family of language models is: two ways to write the same model down. No torch in this room."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from huiyan.core.errors import SourceError
from huiyan.models.config import LanguageModelConfig, LayerConfig, TransformerConfig
from huiyan.models.families.family import OWN_PREFIX, CheckpointConfig, KeyTable, layer_modules, read_keys

_NOT_CARRIED = (
    "model_type",
    "architectures",
    "torch_dtype",
    "dtype",
    "transformers_version",
    "_name_or_path",
    "huiyan",
)


@dataclass(frozen=True, kw_only=True)
class LanguageFamily:
    """A family of language models.

    Args:
        name: its ``model_type``.
        architecture: the class that `transformers` names in ``architectures``; none where it has no such model.
        read: config.json → our model.
        write: our model → config.json; the keys that nobody here reads are added to it.
        modules: the names of a model's modules, ours → theirs in full. ``^T`` behind a name stands for a matrix that
            lies transposed in the file, and ``[0]``, ``[1]`` … for parts of one that holds several of ours.
        prefix: what base checkpoints leave out before their names.
        aliases: other names of a weight that files hold a second time.
        constants: endings of what files hold and nobody needs.
    """

    name: str
    architecture: str
    read: Callable[[CheckpointConfig], LanguageModelConfig]
    write: Callable[[LanguageModelConfig], dict[str, Any]]
    modules: Callable[[LanguageModelConfig], dict[str, str]]
    prefix: str = ""
    aliases: Mapping[str, str] = field(default_factory=dict[str, str])
    constants: tuple[str, ...] = ()


def read_stack(values: CheckpointConfig, table: KeyTable, layer: LayerConfig, **options: Any) -> TransformerConfig:
    """A stack of equal layers, with nothing that only encoders of BERT's kind have.

    Args:
        values: config.json.
        table: what of it is read.
        layer: each layer; or ``layers`` among the options.
        options: further arguments of ``TransformerConfig``, in place of those read.
    Raises:
        SourceError: a key is missing.
    """
    found: dict[str, Any] = {"n_positions": None, **read_keys(values, table), **options}
    return TransformerConfig(
        family=values["model_type"].removeprefix(OWN_PREFIX),
        embedding_width=found["width"],
        n_layer_groups=found["n_layers"],
        carried={key: value for key, value in values.items() if key not in _NOT_CARRIED},
        **{"layers": (layer,) * found["n_layers"], **found},
    )


def stack_modules(
    config: TransformerConfig, ours: str, layer: Mapping[str, str], place: Callable[[int], str]
) -> dict[str, str]:
    """The names of the modules of an encoder's or a decoder's layers, ours → theirs.

    Args:
        config: of the stack.
        ours: "encoder" or "decoder".
        layer: within a layer, ours → theirs.
        place: the index of a layer → what the family calls it, in full.
    """
    return {f"{ours}.{name}": theirs for name, theirs in layer_modules(config.n_layers, layer, place).items()}


def first_id(value: Any, key: str) -> int:
    """A token's id that config.json has to name; of several, the first.

    Raises:
        SourceError: it does not.
    """
    found = value[0] if isinstance(value, list) and value else value
    if not isinstance(found, int):
        raise SourceError(f"This checkpoint's config.json has no {key!r}, without which no text can begin.")
    return found
