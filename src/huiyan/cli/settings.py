"""Options from a YAML file (``--config``) and from the environment, put among the words of the command line.

What stands on the command line counts most, then the environment (``HUIYAN_TRAIN_EPOCHS=3``), then the file.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, cast

from huiyan.core.errors import ConfigError, closest
from huiyan.training.config import TrainingConfig
from huiyan.workflows.config import AnswersConfig, DataConfig, ModelConfig, RepeatConfig
from huiyan.workflows.language.config import LanguageOptions, LanguageTrainingConfig, TextConfig, preset

CONFIG = "--config"
MAX_BYTES = 1_000_000
_PARTS = (DataConfig, ModelConfig, TrainingConfig, AnswersConfig, RepeatConfig)
_TRAIN = ("file", "out", *(field.name for part in _PARTS for field in fields(part)))
OPTIONS: dict[str, tuple[str, ...]] = {
    "train": (*_TRAIN, "resume", "overwrite", "json"),
    "config": _TRAIN,
    "check": (
        "file",
        *(field.name for field in fields(DataConfig)),
        "model",
        "max_length",
        "skip_doubts",
        "seed",
        "json",
    ),
    "lm train": (
        *("texts", "out", "preset"),
        *(field.name for part in (TextConfig, LanguageOptions, LanguageTrainingConfig) for field in fields(part)),
        *("resume", "overwrite", "json"),
    ),
}
"""The commands that take options from elsewhere, and which."""
YES_OR_NO = ("freeze_words",)
"""Options with a choice that YAML reads as a boolean unless it is in quotes."""
FLAGS = ("own_projections", "early_exit", "trim_vocabulary", "resume", "overwrite", "skip_doubts")


def with_settings(words: Sequence[str], environment: Mapping[str, str]) -> list[str]:
    """The words with the options from the file that ``--config`` names and from the environment.

    Raises:
        ConfigError: the file is not there, is no YAML mapping, or has a key that is no option; the closest is named.
    """
    command = command_of(words)
    if command not in OPTIONS:
        return list(words)
    known = OPTIONS[command]
    words, path = _without_config(words)
    # One file may serve `check` and `train`: what is train's alone is passed over.
    readable = known if command == "train" else tuple(dict.fromkeys([*known, *OPTIONS["train"]]))
    read = {} if path is None else _read(path, readable)
    values = {name: value for name, value in read.items() if name in known}
    # `huiyan config` shows what `huiyan train` would take.
    prefix = f"HUIYAN_{'train' if command == 'config' else command.replace(' ', '_')}_".upper()
    for name in known:
        if prefix + name.upper() in environment:
            values[name] = environment[prefix + name.upper()]
    values = _with_preset(values, words)
    begin = len(command.split())
    file = values.pop("file", values.pop("texts", None))
    has_file = len(words) > begin and (words[begin] == "-" or not words[begin].startswith("-"))
    files = cast("list[Any]", file) if isinstance(file, list) else [file]
    front = [str(one) for one in files] if file is not None and not has_file else []
    given = {word.partition("=")[0] for word in words}
    more = [
        word
        for name, value in values.items()
        if f"--{name.replace('_', '-')}" not in given and f"--{name}" not in given
        for word in _words_of(name, value)
    ]
    return [*words[:begin], *front, *words[begin:], *more]


def command_of(words: Sequence[str]) -> str:
    """The command that words begin with: one of two words where there is such a one."""
    pair = " ".join(words[:2])
    return pair if pair in OPTIONS else " ".join(words[:1])


def _with_preset(values: dict[str, Any], words: Sequence[str]) -> dict[str, Any]:
    """The options of the preset that is asked for, under all others."""
    name: Any = values.get("preset")
    for place, word in enumerate(words):
        if word == "--preset" and place + 1 < len(words):
            name = words[place + 1]
        elif word.startswith("--preset="):
            name = word.partition("=")[2]
    return values if name is None else {**preset(str(name)), **values}


def _without_config(words: Sequence[str]) -> tuple[list[str], Path | None]:
    kept: list[str] = []
    path: Path | None = None
    rest = iter(words)
    for word in rest:
        if word == CONFIG:
            name = next(rest, "")
            if not name:
                raise ConfigError(f"{CONFIG} needs a file.", hint=f"For example: {CONFIG} run.yaml")
            path = Path(name)
        elif word.startswith(f"{CONFIG}="):
            path = Path(word.partition("=")[2])
        else:
            kept.append(word)
    return kept, path


def _read(path: Path, known: Sequence[str]) -> dict[str, Any]:
    import yaml

    try:
        if path.stat().st_size > MAX_BYTES:
            raise ConfigError(f"{CONFIG} {path} is over {MAX_BYTES:,} bytes, which is no list of options.")
        found: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{CONFIG} {path} cannot be read: {getattr(error, 'strerror', None) or error}.") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{CONFIG} {path} is not YAML: {' '.join(str(error).split())}.") from error
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise ConfigError(f"{CONFIG} {path} must hold option: value lines.", hint="For example: epochs: 3")
    values: dict[str, Any] = {}
    for key, value in cast("dict[Any, Any]", found).items():
        name = str(key).replace("-", "_")
        if name not in known:
            raise ConfigError(f"{path} has the key {str(key)!r}, which is no option.", hint=closest(name, known))
        values[name] = value
    return values


def _words_of(name: str, value: Any) -> list[str]:
    option = f"--{name.replace('_', '-')}"
    if name in FLAGS:
        is_on = value is True or str(value).lower() in ("true", "1", "yes", "on")
        is_off = value is False or str(value).lower() in ("false", "0", "no", "off", "")
        if not is_on and not is_off:
            raise ConfigError(f"The {name} option must be true or false. Got {value!r} instead.")
        return [option] if is_on else []
    if value is None:
        return []
    if isinstance(value, bool) and name in YES_OR_NO:
        value = "yes" if value else "no"
    items = cast("list[Any]", value) if isinstance(value, list) else [value]
    if any(isinstance(item, bool) for item in items):
        raise ConfigError(
            f"The {name} option has a value that YAML reads as true or false, such as yes, no, on or off.",
            hint='Put it in quotes, for example: "no"',
        )
    return [word for item in items for word in (option, str(item))]
