"""Where pretrained models come from: a folder, the hub or a mirror of it, or a registry package."""

import importlib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from huiyan.core.errors import ConfigError, SourceError, closest
from huiyan.core.fetch import OnProgress, fetch_carried, is_there, is_whole
from huiyan.models.carried import CARRIED, DEFAULT_MODEL, CarriedModel
from huiyan.models.config_file import CONFIG_FILE, read_config
from huiyan.models.families.registry import family_of
from huiyan.models.hub import WEIGHTS, fetch_from_hub, is_hub_name

ROUTES = (
    "A model is 'auto', 'package:NAME' (see: huiyan models), a folder with config.json and model.safetensors, "
    "or 'owner/name' on the hub (HF_ENDPOINT names a mirror)."
)
"""The choices, for error messages."""
CONVERSION = 1
"""Goes up when what is made from a fetched file is to be made again."""


@dataclass(frozen=True, kw_only=True)
class ModelSource:
    """A pretrained model that is on this machine.

    Args:
        folder: holds config.json, the tokenizer's files and safetensors weights.
        name: as the user wrote it, "auto" resolved.
        kind: the route it came by.
        revision: the hub's commit hash or the package's version; None for a folder.
        licence: as far as it is known: an SPDX identifier, or what the model card calls it.
        origin: a sentence for the model card.
    """

    folder: Path
    name: str
    kind: Literal["folder", "hub", "package"]
    revision: str | None
    licence: str | None
    origin: str


@dataclass(frozen=True, kw_only=True)
class KnownModel:
    """A model that a registry package carries, fetched or not.

    Args:
        name, title, languages, family, n_parameters, licence, origin, note, folder: as in ``CarriedModel``.
        download_bytes: the size of the archive to fetch.
        default: whether "auto" means this one.
        fetched: whether its files are on this machine.
    """

    name: str
    title: str
    languages: str
    family: str
    n_parameters: int
    download_bytes: int | None
    licence: str
    origin: str
    note: str
    default: bool
    fetched: bool
    folder: Path


def find_model(
    name: str, *, revision: str | None = None, offline: bool | None = None, on_progress: OnProgress | None = None
) -> ModelSource:
    """Find a pretrained model by its name and have it on this machine.

    Args:
        name: "auto", "package:NAME", an existing folder, or "owner/name" on the hub.
        revision: branch, tag or commit on the hub, "main" when None. The answer holds the commit it stood for.
        offline: use what is on this machine and no network. None asks ``HF_HUB_OFFLINE``, which is about the hub only.
        on_progress: told the bytes of a package received and expected. The hub's client draws its own bars.
    Raises:
        SourceError: the model cannot be had; the choices are named.
        UnknownFamilyError: it is of an architecture we do not read; found out before its weights are fetched.
        HashError: what came is not what is pinned.
        ConfigError: a revision is given for what has none.
        OutputError: the cache cannot be written.
    """
    try:
        return _find(DEFAULT_MODEL if name == "auto" else name, revision, offline, on_progress)
    except SourceError as error:
        raise type(error)(error.message, hint=f"{error.hint} {ROUTES}".strip()) from error


def known_models() -> list[KnownModel]:
    """The models that registry packages carry, and whether each is on this machine already; no network."""
    return [
        KnownModel(
            name=model.name,
            title=model.title,
            languages=model.languages,
            family=model.family,
            n_parameters=model.n_parameters,
            download_bytes=model.file.archive_bytes,
            licence=model.licence,
            origin=model.origin,
            note=model.note,
            default=model.name == DEFAULT_MODEL,
            fetched=is_there(model.file, model.folder),
            folder=model.folder,
        )
        for model in CARRIED.values()
    ]


def _find(name: str, revision: str | None, offline: bool | None, on_progress: OnProgress | None) -> ModelSource:
    if name.startswith("package:"):
        return _from_package(name, revision, offline=bool(offline), on_progress=on_progress)
    folder = Path(name).expanduser()
    if name and folder.exists():
        return _from_folder(name, folder, revision)
    if is_hub_name(name):
        return _from_hub(name, revision, offline=offline)
    near = closest(f"package:{name}", CARRIED)
    raise SourceError(
        f"There is no model {name!r}: no folder of that name is here, and models on the hub are named owner/name.",
        hint=near if near.startswith("Did you mean") else "",
    )


def _from_package(name: str, revision: str | None, *, offline: bool, on_progress: OnProgress | None) -> ModelSource:
    model = CARRIED.get(name)
    if model is None:
        raise SourceError(f"No package model {name!r} is known.", hint=closest(name, CARRIED))
    if revision not in (None, model.file.version):
        raise ConfigError(
            f"{name} is pinned to its version {model.file.version}. Got the revision {revision!r} instead.",
            hint="Leave the revision out.",
        )
    if offline and not is_whole(model.file, model.folder):
        raise SourceError(
            f"{name} is not on this machine, and offline nothing is fetched.",
            hint=f"Fetch it once with a network: huiyan models fetch {name}",
        )
    fetched = fetch_carried(model.file, folder=model.folder, on_progress=on_progress)
    return ModelSource(
        folder=_converted(model, fetched) if model.converter else fetched,
        name=name,
        kind="package",
        revision=model.file.version,
        licence=model.licence,
        origin=f"{model.origin} {model.note}".strip(),
    )


def _converted(model: CarriedModel, fetched: Path) -> Path:
    """The checkpoint folder made from what was fetched, once."""
    folder = fetched.with_name(f"{fetched.name}-checkpoint-{CONVERSION}")
    if not folder.is_dir():
        module, _, function = model.converter.partition(":")
        convert: Callable[[Path, Path], None] = getattr(importlib.import_module(module), function)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=fetched.parent) as work:
            made = Path(work) / "checkpoint"
            made.mkdir()
            convert(fetched, made)
            try:
                made.rename(folder)
            except OSError:
                if not folder.is_dir():  # else another process was faster
                    raise
    return folder


def _from_folder(name: str, folder: Path, revision: str | None) -> ModelSource:
    if revision is not None:
        raise ConfigError(
            f"{name} is a folder, and a folder has no revision. Got {revision!r} instead.",
            hint="Leave the revision out.",
        )
    if not folder.is_dir():
        raise SourceError(f"{name} is a file, and a model is a folder.")
    family_of(read_config(folder))
    _check_weights(folder, name)
    return ModelSource(
        folder=folder,
        name=name,
        kind="folder",
        revision=None,
        licence=_licence(folder),
        # Its name only: a model card is published, and a path tells about the machine it was written on.
        origin=f"A checkpoint in a local folder named {folder.resolve().name}.",
    )


def _from_hub(name: str, revision: str | None, *, offline: bool | None) -> ModelSource:
    # The configuration first: gigabytes of a model that cannot be read need not come.
    folder, commit = fetch_from_hub(name, revision=revision, offline=offline, files=(CONFIG_FILE,))
    family_of(read_config(folder))
    folder, commit = fetch_from_hub(name, revision=commit, offline=offline)
    _check_weights(folder, name)
    return ModelSource(
        folder=folder,
        name=name,
        kind="hub",
        revision=commit,
        licence=_licence(folder),
        origin=f"{name} on the Hugging Face hub, commit {commit}.",
    )


def _check_weights(folder: Path, name: str) -> None:
    if not any((folder / weights).is_file() for weights in WEIGHTS):
        raise SourceError(
            f"{name} has no model.safetensors, and other weights are not read: a pickle may run code when opened.",
            hint=(
                "Choose a model with safetensors, or convert this one once, if you trust it, with transformers: "
                "AutoModel.from_pretrained(...).save_pretrained(FOLDER), the same for AutoTokenizer, and give FOLDER."
            ),
        )


def _licence(folder: Path) -> str | None:
    card = folder / "README.md"
    if not card.is_file():
        return None
    # Imported here: slow to import, and not needed for the default model.
    from huggingface_hub import metadata_load  # pyright: ignore[reportUnknownVariableType]  # It gives a bare dict.

    try:
        values = cast("dict[str, Any]", metadata_load(card) or {})
    except Exception:  # Somebody's card that is not valid YAML, in one of many ways, is no reason not to train.
        return None
    licence = values.get("license_name") or values.get("license")
    return licence if isinstance(licence, str) else None
