"""`huiyan models`: which pretrained models are here, which can be had, and fetching one."""

import contextlib
import json as json_module
from pathlib import Path
from typing import Any

import cyclopts
from cyclopts import Parameter
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from huiyan.models.hub import CachedModel
from huiyan.models.sources import KnownModel, ModelSource
from huiyan.workflows.models import ModelList, fetch_model, list_models, source_to_dict

TRAIN = "huiyan train FILE --text COLUMN --label COLUMN --out FOLDER"

app = cyclopts.App(
    name="models",
    help="List the pretrained models that are here or can be had; fetch one.",
    default_parameter=Parameter(negative=(), show_default=False),
)


@app.default
def show(*, json: bool = False) -> None:
    """List the pretrained models that are here or can be had.

    Args:
        json: Print JSON instead of tables.
    """
    listing = list_models()
    if json:
        _print_json(listing.to_dict())
    else:
        _print_list(listing, Console())


@app.command
def fetch(name: str, /, *, revision: str | None = None, json: bool = False) -> None:
    """Fetch a model once, so that later runs need no network for it.

    Options can also come from a YAML file (--config FILE) and from the environment (HUIYAN_MODELS_FETCH_REVISION=main).

    Args:
        name: auto, package:NAME, or owner/name on the hub.
        revision: Branch, tag or commit of a hub model.
        json: Print JSON instead of text.
    """
    source = fetch_model(name, revision=revision)
    if json:
        _print_json(source_to_dict(source))
    else:
        _print_source(source, Console())


def _print_list(listing: ModelList, console: Console) -> None:
    for model in listing.known:
        _print_known(model, console)
    if listing.cached:
        console.print("\nIn the hub's cache on this machine:", style="bold")
        console.print(_cached_table(listing.cached))
    _print_paragraph(
        "Any other model: --model takes a folder with config.json and model.safetensors, or owner/name on the hub, "
        "such as google-bert/bert-base-chinese for Chinese (HF_ENDPOINT names a mirror). "
        f"Families: {', '.join(listing.families)}.",
        console,
    )
    here = all(model.fetched for model in listing.known if model.default)
    _print_paragraph(f"Next:  {TRAIN if here else 'huiyan models fetch auto'}", console)


def _print_known(model: KnownModel, console: Console) -> None:
    here = Text("here", style="green") if model.fetched else Text(f"{_megabytes(model.download_bytes)} to fetch")
    console.print(Text.assemble((model.name, "bold"), "  ", here, "  (--model auto)" if model.default else ""))
    facts = f"{model.title}: {model.languages}, {model.family}, {model.n_parameters / 1e6:.1f} M weights"
    rows = {"model": facts, "licence": model.licence, "note": model.note}
    rows["folder"] = _short(model.folder) if model.fetched else ""
    console.print(_facts(rows))


def _cached_table(models: list[CachedModel]) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    for model in models:
        name, family = Text(f"  {model.name}", style="bold"), Text(model.family)
        table.add_row(name, family, f"commit {model.revision[:12]}", _megabytes(model.bytes))
    return table


def _print_source(source: ModelSource, console: Console) -> None:
    console.print(Text.assemble((source.name, "bold"), "  ", ("here", "green")))
    rows = {"licence": source.licence or "not stated", "origin": source.origin, "revision": source.revision or ""}
    console.print(_facts({**rows, "folder": _short(source.folder)}))
    _print_paragraph(f"Next:  {TRAIN} --model {source.name}", console)


def _facts(rows: dict[str, str]) -> Padding:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, fact in rows.items():
        if fact:
            table.add_row(name, Text(fact))
    return Padding(table, (0, 0, 0, 2), expand=False)


def _print_paragraph(text: str, console: Console) -> None:
    console.print()
    # A command is copied: on a narrow terminal the terminal wraps it, not we.
    console.print(Text(text), soft_wrap=text.startswith("Next:"))


def _print_json(value: dict[str, Any]) -> None:
    print(json_module.dumps(value, ensure_ascii=False, indent=2))


def _short(folder: Path) -> str:
    with contextlib.suppress(ValueError, RuntimeError):  # Not below the home folder, or there is none.
        return str(Path("~") / folder.relative_to(Path.home()))
    return str(folder)


def _megabytes(size_bytes: int | None) -> str:
    return "?" if size_bytes is None else f"{size_bytes / 1e6:,.0f} MB"
