"""Pretrained models from the Hugging Face hub, or a mirror of it: one commit, safetensors only."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from huiyan.core.errors import SourceError
from huiyan.core.json_files import read_object
from huiyan.text.older_files import PIECE_FILES

if TYPE_CHECKING:
    from huggingface_hub import CachedRevisionInfo

WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
"""A checkpoint folder has one of these."""

HUB_FILES = (
    "config.json",
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.txt", "vocab.json", "merges.txt", "target_vocab.json", *PIECE_FILES),
    "generation_config.json",
    *WEIGHTS,
    "model-?????-of-?????.safetensors",
    "README.md",  # The model card states the licence.
)
"""What is fetched from a repository, and nothing else: no pickles, no code, no second copy in another format."""

_LOGIN = "If it is private, log in with: hf auth login (or set HF_TOKEN)."
_NETWORK = "Check the network."


@dataclass(frozen=True, kw_only=True)
class CachedModel:
    """A model that the hub's client keeps on this machine already.

    Args:
        name: "owner/name".
        revision: the commit, in full.
        family: the ``model_type`` its config.json states.
        bytes: what it takes on disk.
        folder: where it lies.
    """

    name: str
    revision: str
    family: str
    bytes: int
    folder: Path


def fetch_from_hub(
    name: str, *, revision: str | None = None, offline: bool | None = None, files: Sequence[str] = HUB_FILES
) -> tuple[Path, str]:
    """Have one commit of a repository on this machine, in the cache of the hub's own client.

    ``HF_ENDPOINT``, ``HF_HUB_OFFLINE``, ``HF_HOME`` and ``HF_TOKEN`` mean what they mean to that client. When the hub
    is out of reach, what the cache holds is used.

    Args:
        name: "owner/name".
        revision: branch, tag or commit; "main" when None.
        offline: use the cache only; None asks ``HF_HUB_OFFLINE``.
        files: the names wanted, as far as the repository has them; ``?`` stands for any one character.
    Returns:
        The folder, and the commit hash that ``revision`` stood for.
    Raises:
        SourceError: the repository, the revision or the hub is not there, or access is not granted.
    """
    # Imported here: the client is slow to import, and most runs do not need it.
    from huggingface_hub import (
        constants,
        snapshot_download,  # pyright: ignore[reportUnknownVariableType]  # A bare dict among its parameters.
    )

    # Read at each call: the client reads its environment once, at import, and a notebook sets it later.
    endpoint = os.environ.get("HF_ENDPOINT") or None
    offline = hub_is_off() if offline is None else offline
    try:
        folder = snapshot_download(
            name,
            revision=revision,
            endpoint=endpoint,
            local_files_only=offline,
            allow_patterns=list(files),
            library_name="huiyan",
        )
    except Exception as error:
        # Which library speaks HTTP beneath the client, and so what it raises, changes from version to version.
        raise _explained(error, name, revision, endpoint or constants.ENDPOINT, offline) from error
    # The client names a snapshot's folder after its commit: what was asked for may be a branch that moves.
    commit = Path(folder).name
    if not re.fullmatch(r"[0-9a-f]{40}", commit):
        raise SourceError(f"The hub gave {name} without a commit hash: expected 40 hexadecimal digits, got {commit!r}.")
    return Path(folder), commit


def cached_models() -> list[CachedModel]:
    """The complete checkpoints in the cache of the hub's client, newest first for each name; no network."""
    from huggingface_hub import constants, scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        repositories = scan_cache_dir(constants.HF_HUB_CACHE).repos
    except CacheNotFound:
        return []
    return [
        found
        for repository in sorted((each for each in repositories if each.repo_type == "model"), key=lambda r: r.repo_id)
        for revision in sorted(repository.revisions, key=lambda r: -r.last_modified)
        if (found := _cached_model(repository.repo_id, revision)) is not None
    ]


def is_hub_name(name: str) -> bool:
    """Whether a name is of the form that models on the hub have: "owner/name"."""
    return re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name, re.ASCII) is not None


def hub_is_off() -> bool:
    """Whether ``HF_HUB_OFFLINE`` asks for no network, now."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}


def _cached_model(name: str, revision: "CachedRevisionInfo") -> CachedModel | None:
    folder = revision.snapshot_path
    if not any((folder / weights).is_file() for weights in WEIGHTS):
        return None
    try:
        family = str(read_object(folder / "config.json")["model_type"])
    except (SourceError, KeyError):
        return None  # Somebody else's file in a cache we share is not ours to complain of.
    return CachedModel(
        name=name, revision=revision.commit_hash, family=family, bytes=revision.size_on_disk, folder=folder
    )


def _explained(error: Exception, name: str, revision: str | None, endpoint: str, offline: bool) -> SourceError:
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return SourceError(
            f"{name} is given only to those who accept its terms.",
            hint=f"Accept them at {endpoint}/{name}, then log in with: hf auth login (or set HF_TOKEN).",
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return SourceError(f"{name} is neither a folder here nor a repository at {endpoint}.", hint=_LOGIN)
    if isinstance(error, errors.RevisionNotFoundError):
        return SourceError(f"{name} at {endpoint} has no revision {revision!r}.", hint="Give a branch, tag or commit.")
    if isinstance(error, errors.LocalEntryNotFoundError) and offline:
        return SourceError(
            f"{name} is neither a folder here nor whole in the hub's cache on this machine, and offline nothing is "
            "fetched.",
            hint="Fetch it once with a network (HF_HUB_OFFLINE unset).",
        )
    if isinstance(error, errors.LocalEntryNotFoundError):
        return SourceError(
            f"{name} is no folder here, and the hub at {endpoint} could not be reached "
            f"({_first_line(error.__cause__ or error)}).",
            hint=_NETWORK,
        )
    return SourceError(f"{name} could not be fetched from {endpoint}: {_first_line(error)}.", hint=_NETWORK)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0].rstrip('.')}" if lines else type(error).__name__
