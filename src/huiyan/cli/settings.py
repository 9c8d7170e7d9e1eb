"""Options from a YAML file (``--config``) and from the environment, for every command.

What stands on the command line counts most, then the environment (``HUIYAN_TRAIN_EPOCHS=3``), then the file. Which
options there are is told by the signature of the command.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast, get_args, get_origin

from cyclopts import App, Argument, ArgumentCollection, Token

from huiyan.core.errors import ConfigError, closest

CONFIG = "--config"
MAX_BYTES = 1_000_000


def without_config(words: Sequence[str]) -> tuple[list[str], Path | None]:
    """The words without ``--config FILE``, and the file; words after ``--`` are texts and stay.

    Raises:
        ConfigError: ``--config`` has no file after it.
    """
    end = words.index("--") if "--" in words else len(words)
    kept: list[str] = []
    path: Path | None = None
    rest = iter(words[:end])
    for word in rest:
        if word != CONFIG and not word.startswith(f"{CONFIG}="):
            kept.append(word)
            continue
        name = next(rest, "") if word == CONFIG else word.partition("=")[2]
        if not name:
            raise ConfigError(f"{CONFIG} needs a file.", hint=f"For example: {CONFIG} run.yaml")
        path = Path(name)
    return [*kept, *words[end:]], path


def fill_in(
    app: App,
    words: tuple[str, ...],
    arguments: ArgumentCollection,
    *,
    path: Path | None,
    environment: Mapping[str, str],
) -> None:
    """Give the arguments that are not on the command line what the environment, else the file, has for them.

    Args:
        app: The command.
        words: Its name, such as lm and train.
        arguments: What it takes; those on the command line have tokens.
        path: The file that ``--config`` names.
        environment: Variables and their values.
    Raises:
        ConfigError: the file is not there or is no YAML mapping; a key or a variable is no option, and the closest is
            named; a value is of a kind that its option does not take.
    """
    command, options = " ".join(words), _options(arguments)
    # One file may serve `check`, `config` and `train`: what is train's alone is passed over.
    trains = _trains_options() if command in ("check", "config") else {}
    # `huiyan config` shows what `huiyan train` would take.
    prefix = _prefix("train" if command == "config" else command)
    variables = {prefix + name.upper(): name for name in (trains if command == "config" else options)}
    _refuse_others(environment, variables, command, begins=(prefix, _prefix(command)), below=app)
    for variable, name in variables.items():
        if variable in environment and name in options:
            _fill(options[name], environment[variable], variable, "the environment")
    for name, value in (_read(path, {**options, **trains}, command) if path is not None else {}).items():
        if name in options:
            _fill(options[name], value, name, str(path))
    if "preset" in options and options["preset"].tokens:
        from huiyan.workflows.language.config import preset

        chosen = options["preset"].tokens[0].value
        for name, value in preset(chosen).items():
            _fill(options[name], value, name, f"the preset {chosen}")


def _options(arguments: Iterable[Argument]) -> dict[str, Argument]:
    return {argument.field_info.name: argument for argument in arguments if not argument.children}


def _trains_options() -> dict[str, Argument]:
    from huiyan.cli.train import train

    return _options(App(default_command=train).assemble_argument_collection())


def _prefix(command: str) -> str:
    return f"HUIYAN_{command.replace(' ', '_')}_".upper()


def _refuse_others(
    environment: Iterable[str], known: Collection[str], command: str, *, begins: tuple[str, ...], below: Iterable[str]
) -> None:
    """Refuse variables that begin as the command's do and are none, unless they are those of a command below it."""
    elsewhere = tuple(_prefix(f"{command} {name}") for name in below)
    for variable in environment:
        if variable.startswith(begins) and variable not in known and not variable.startswith(elsewhere):
            raise ConfigError(
                f"The environment has {variable}, which is no option of huiyan {command}.",
                hint=f"{closest(variable, known)} If you meant none, unset it.",
            )


def _read(path: Path, known: Collection[str], command: str) -> dict[str, Any]:
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
            raise ConfigError(
                f"{path} has the key {str(key)!r}, which is no option of huiyan {command}.", hint=closest(name, known)
            )
        values[name] = value
    return values


def _fill(argument: Argument, value: Any, keyword: str, source: str) -> None:
    """Give an argument a value, unless it has one from a place that counts more."""
    if argument.tokens or value is None:
        return
    name, hint = argument.field_info.name, argument.resolved_hint
    if hint is bool:
        argument.append(Token(keyword=keyword, source=source, implicit_value=_true_or_false(name, value)))
        return
    if isinstance(value, bool) and {"yes", "no"} <= set(get_args(hint)):  # YAML reads these words so without quotes
        value = "yes" if value else "no"
    items = cast("list[Any]", value) if isinstance(value, list) else [value]
    if any(isinstance(item, bool) for item in items):
        raise ConfigError(
            f"The {name} option has a value that YAML reads as true or false, such as yes, no, on or off.",
            hint='Put it in quotes, for example: "no"',
        )
    takes_several = get_origin(hint) in (list, tuple)
    if isinstance(value, dict) or (isinstance(value, list) and not takes_several):
        expected = "one value, or a list of them" if takes_several else "one value"
        raise ConfigError(f"The {name} option must be {expected}. Got {value!r} instead.")
    if not items:
        argument.append(Token(keyword=keyword, source=source, implicit_value=()))
    for item in items:
        argument.append(Token(keyword=keyword, source=source, value=str(item)))


def _true_or_false(name: str, value: Any) -> bool:
    word = str(value).lower()
    if word not in ("true", "1", "yes", "on", "false", "0", "no", "off", ""):
        raise ConfigError(f"The {name} option must be true or false. Got {value!r} instead.")
    return word in ("true", "1", "yes", "on")
