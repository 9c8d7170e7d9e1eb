"""What `huiyan models` does: list the pretrained models that are here or can be had, and fetch one."""

import contextlib
import dataclasses
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from huiyan.core.fetch import OnProgress
from huiyan.core.files import cache_folder
from huiyan.data.sample import spread
from huiyan.models.carried import DEFAULT_MODEL, MULTILINGUAL_MODEL
from huiyan.models.families.registry import FAMILIES
from huiyan.models.hub import CachedModel, cached_models
from huiyan.models.sources import KnownModel, ModelSource, find_model, known_models
from huiyan.text.scripts import script_shares

LATIN_SHARE = 0.7
"""Of the letters; with fewer of them the default English encoder would know too little of a text."""


@dataclass(frozen=True, kw_only=True)
class ModelList:
    """The models to choose from.

    Args:
        known: carried by registry packages, fetched or not.
        cached: of the families we read, in the cache of the hub's client on this machine.
        families: the names of the families we read.
        cache: where packages' models are kept.
    """

    known: list[KnownModel]
    cached: list[CachedModel]
    families: list[str]
    cache: Path

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "models": [_plain(model) for model in self.known],
            "hub_cache": [_plain(model) for model in self.cached],
            "families": self.families,
            "cache": str(self.cache),
        }


def list_models() -> ModelList:
    """The models that are on this machine or that a registry package carries; no network."""
    return ModelList(
        known=known_models(),
        cached=[model for model in cached_models() if model.family in FAMILIES],
        families=sorted(FAMILIES),
        cache=cache_folder(),
    )


def model_for(name: str, texts: Sequence[str]) -> str:
    """What a model's name means for texts: "auto" is English for Latin letters, and else for a hundred languages."""
    if name != "auto":
        return name
    shares = script_shares(spread(texts, 2000))
    return MULTILINGUAL_MODEL if shares and shares.get("Latin", 0.0) < LATIN_SHARE else DEFAULT_MODEL


def fetch_model(name: str, *, revision: str | None = None, console: Console | None = None) -> ModelSource:
    """Have a model on this machine, showing on ``console`` how the fetching goes.

    The arguments and the errors are those of ``models.sources.find_model``.
    """
    with fetching(name, console or Console(stderr=True)) as on_progress:
        return find_model(name, revision=revision, on_progress=on_progress)


@contextlib.contextmanager
def fetching(name: str, console: Console) -> Generator[OnProgress]:
    """Give a callback for ``find_model`` that shows a bar once bytes are on their way.

    Where ``console`` is no terminal (a log), it writes one line when the fetching starts.
    """
    columns = (TextColumn("Fetching {task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    progress = Progress(*columns, console=console, transient=True)
    task = progress.add_task(name, total=None)
    said = False

    def on_progress(done_bytes: int, expected_bytes: int | None) -> None:
        nonlocal said
        if not said:
            said = True
            if console.is_terminal:
                progress.start()
            else:
                size = f" ({expected_bytes / 1e6:,.0f} MB)" if expected_bytes else ""
                console.print(Text(f"Fetching {name}{size} ..."), soft_wrap=True)
        progress.update(task, completed=done_bytes, total=expected_bytes)

    try:
        yield on_progress
    finally:
        if console.is_terminal:  # Elsewhere a bar that never started would leave an empty line.
            progress.stop()


def source_to_dict(source: ModelSource) -> dict[str, Any]:
    """A fetched model as plain values for JSON."""
    return _plain(source)


def _plain(value: KnownModel | CachedModel | ModelSource) -> dict[str, Any]:
    return {key: str(field) if isinstance(field, Path) else field for key, field in dataclasses.asdict(value).items()}
