"""Which models of `transformers` can attend with Huiyan; the others are refused as soon as it is known."""

import functools
import inspect
import sys
from collections.abc import Callable, Iterator
from typing import Any

from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from huiyan.core.errors import ConfigError

NAME = "huiyan"

How = str | dict[str, Any] | None  # as `transformers` takes it: for a model, or for each of its parts ("" is itself)


def watch() -> None:
    """Have `transformers` ask us wherever a model of theirs is told to attend with Huiyan.

    Their interface knows names, not models: a model that never asks for the name runs on with its own attention and
    says nothing. So three methods of ``PreTrainedModel`` ask first: the one that checks the name when a model is begun,
    the one that ends its making, and the one that changes the name. For every other name they do what they did.
    """
    _before("get_correct_attn_implementation", _begun)
    _before("post_init", _made)
    _before("set_attn_implementation", _changed)


def takes_ours(family: type[PreTrainedModel]) -> bool:
    """Whether the attention of a class goes through the interface."""
    # What a class says of itself is not always so (Whisper's): whose code asks the interface will use it.
    return family.is_backend_compatible() or any("ALL_ATTENTION_FUNCTIONS" in names for names in _files(family))


def _begun(model: PreTrainedModel, requested_attention: str | None, *_options: Any, **_more: Any) -> None:
    if requested_attention == NAME:
        _refuse_own_attention(model)


def _made(model: PreTrainedModel) -> None:
    # Private, and the only place where it can be read.
    how = model.config._attn_implementation  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - see above
    if how == NAME and not _is_part(model):
        _refuse_no_attention(model)


def _changed(model: PreTrainedModel, attn_implementation: How, *_options: Any, **_more: Any) -> None:
    asked = dict(_asked(model.config, attn_implementation))
    itself = asked[id(model.config)]
    for part in _parts(model):
        if asked.get(id(part.config), itself) == NAME:
            _refuse_own_attention(part)
    if itself == NAME:
        _refuse_no_attention(model)


def _refuse_own_attention(model: PreTrainedModel) -> None:
    """A file that has layers of attention and does not ask the interface."""
    if not takes_ours(type(model)) and any(_has_attention(names) for names in _files(type(model))):
        raise _refusal(model)


def _refuse_no_attention(model: PreTrainedModel) -> None:
    """A model whose files hold no attention is one of parts that do; or it has none at all (FNet, Mamba, ResNet)."""
    if not any(takes_ours(type(part)) for part in _parts(model)):
        raise _refusal(model)


def _refusal(model: PreTrainedModel) -> ConfigError:
    return ConfigError(
        f"The attention of {type(model).__name__} does not go through the interface of transformers: Huiyan cannot "
        "take its place.",
        hint="Use its own: attn_implementation='eager' (for this part alone, where it is one of several), or a family "
        "that Huiyan has itself.",
    )


def _files(family: type[PreTrainedModel]) -> Iterator[dict[str, Any]]:
    """The names in the files of a class and of those that it is made from."""
    for kind in family.__mro__:
        file = sys.modules.get(kind.__module__)
        # The file of PreTrainedModel itself has the interface: that says nothing of a family.
        if issubclass(kind, PreTrainedModel) and kind.__module__ != PreTrainedModel.__module__ and file is not None:
            yield vars(file)


def _has_attention(names: dict[str, Any]) -> bool:
    """Whether a file makes a layer of attention, by the names that it gives."""
    return any(
        "Attention" in name
        and inspect.isclass(kind)
        and issubclass(kind, nn.Module)
        and kind.__module__ == names["__name__"]
        for name, kind in names.items()
    )


def _parts(model: nn.Module) -> Iterator[PreTrainedModel]:
    """A model and the models in it."""
    return (part for part in model.modules() if isinstance(part, PreTrainedModel))


def _asked(config: PreTrainedConfig, how: How) -> Iterator[tuple[int, Any]]:
    """What is asked of a configuration, and of those in it, by their ids."""
    yield id(config), how.get("") if isinstance(how, dict) else how
    for key in config.sub_configs:
        part = getattr(config, key, None)
        if part is not None:
            yield from _asked(part, how.get(key) if isinstance(how, dict) else how)


def _is_part(model: PreTrainedModel) -> bool:
    """Whether another model is being made of it: a backbone without attention is nothing to refuse there."""
    frame = inspect.currentframe()
    while frame is not None:  # a part does not know its whole, and the whole does not have it yet
        maker = frame.f_locals.get("self")
        if isinstance(maker, PreTrainedModel) and maker is not model:
            return True
        frame = frame.f_back
    return False


def _before(method: str, check: Callable[..., None]) -> None:
    """Let a check go before a method of all models, once."""
    theirs = getattr(PreTrainedModel, method)
    if hasattr(theirs, "asks_huiyan"):
        return

    @functools.wraps(theirs)
    def asked(self: PreTrainedModel, *arguments: Any, **options: Any) -> Any:
        check(self, *arguments, **options)
        return theirs(self, *arguments, **options)

    vars(asked)["asks_huiyan"] = True
    setattr(PreTrainedModel, method, asked)
