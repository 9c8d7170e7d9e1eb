"""The base of every configuration: a frozen dataclass that reads from a mapping and rejects what it does not know.

This file imports no torch, so that configurations load instantly.
"""

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, Self

from huiyan.core.errors import ConfigError, closest


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """A part of a configuration. Subclasses are frozen, keyword-only dataclasses and validate in ``__post_init__``."""

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Build from a mapping, as read from JSON or YAML; nested configurations are mappings too.

        Raises:
            ConfigError: a key is unknown (the closest known one is named), or a nested part is not a mapping.
        """
        fields = {field.name: field for field in dataclasses.fields(cls)}
        hints = typing.get_type_hints(cls)
        arguments: dict[str, Any] = {}
        for key, value in values.items():
            if key not in fields:
                raise ConfigError(f"{cls.__name__} has no key {key!r}.", hint=closest(key, fields))
            arguments[key] = _build(hints[key], value, f"{cls.__name__}.{key}")
        missing = [
            name
            for name, field in fields.items()
            if name not in arguments
            and field.default is dataclasses.MISSING
            and field.default_factory is dataclasses.MISSING
        ]
        if missing:
            raise ConfigError(f"{cls.__name__} needs the key {missing[0]!r}, and it is not there.")
        return cls(**arguments)

    def to_dict(self) -> dict[str, Any]:
        """The configuration as plain values: what ``from_dict`` reads and JSON can hold."""
        return dataclasses.asdict(self)


def _build(hint: Any, value: Any, where: str) -> Any:
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    for option in options:
        if isinstance(option, type) and issubclass(option, Config) and value is not None:
            if not isinstance(value, Mapping):
                raise ConfigError(f"{where} must be a mapping of keys to values. Got {value!r} instead.")
            return option.from_dict(typing.cast("Mapping[str, Any]", value))
        if typing.get_origin(option) is tuple and isinstance(value, list):
            return tuple(typing.cast("list[Any]", value))
    return value


def require(condition: bool, name: str, expected: str, value: object) -> None:
    """Raise the house's message for a value that is not usable.

    Raises:
        ConfigError: ``condition`` is false: "The NAME option must be EXPECTED. Got VALUE instead."
    """
    if not condition:
        raise ConfigError(f"The {name} option must be {expected}. Got {value!r} instead.")
