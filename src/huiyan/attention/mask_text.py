"""Masks that consist of numbers, as text: the form in which an operator of `torch` can take them."""

import json
from dataclasses import fields
from functools import lru_cache
from typing import Any, cast

from huiyan.attention.masks import Both, Causal, Either, Global, Mask, Not, Prefix, Window
from huiyan.core.errors import ConfigError

_PARTS: dict[str, type[Mask]] = {kind.__name__: kind for kind in (Causal, Window, Prefix, Global, Both, Either, Not)}


def mask_as_text(mask: Mask | None) -> str:
    """A mask that consists of numbers, as JSON: what an operator can take.

    Raises:
        ConfigError: the mask holds tensors or functions.
    """
    return _text(_plain(mask))


def _plain(mask: Mask | None) -> Any:
    if mask is None:
        return None
    kind = type(mask).__name__
    if _PARTS.get(kind) is not type(mask):
        raise ConfigError(f"A {kind} mask is not for packed sequences.", hint=f"Choose among {', '.join(_PARTS)}.")
    values = (getattr(mask, field.name) for field in fields(cast("Any", mask)))
    return [kind, *(_plain(value) if isinstance(value, Mask) else value for value in values)]


def _text(plain: Any) -> str:
    # As json.dumps, which torch.compile cannot trace.
    if plain is None:
        return "null"
    if isinstance(plain, str):
        return f'"{plain}"'
    return f"[{','.join([_text(part) for part in plain])}]" if isinstance(plain, list | tuple) else str(plain)


@lru_cache(maxsize=256)
def mask_from_text(text: str) -> Mask | None:
    """The mask that ``mask_as_text`` wrote."""
    return _mask(json.loads(text))


def _mask(plain: Any) -> Any:
    if not isinstance(plain, list) or not plain or not isinstance(plain[0], str):
        return plain
    kind, *values = cast("list[Any]", plain)
    return _PARTS[kind](*(_mask(value) for value in values))
