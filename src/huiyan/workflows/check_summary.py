"""What `huiyan check` found, as a terminal shows it."""

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from rich import box
from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from huiyan.workflows import wording

MOST_CLASSES = 20
MOST_EXAMPLES = 5
WHERE_WIDTH = 24
LEAST_WIDTH = 6
_BAR = "▏▎▍▌▋▊▉█"


def check_summary(found: Mapping[str, Any]) -> RenderableType:
    """Findings first, then what they rest on; every text is shown as it is, never as markup."""
    parts: list[RenderableType] = [_findings(found["findings"])]
    parts += [_classes(found["class_counts"]), _tokens(found["tokens"])]
    parts.append(Text(f"scripts: {wording.scripts(found['scripts'])}"))
    overlap = found["overlap"]
    for title, groups in (
        ("one text, several labels", overlap["conflicts"]),
        ("alike", overlap["clusters"]),
        *((f"in {leak['part']} and in {leak['of']}", leak["examples"]) for leak in overlap["leaks"]),
    ):
        if groups:
            parts.append(_alike(title, groups))
    for one in found["suspicious"]:
        rows = [(_where(example["source"]), example["text"]) for example in one["examples"][:MOST_EXAMPLES]]
        parts.append(_table(f"{one['kind']} ({wording.count(one['rows'])})", ("where", "text"), rows))
    doubts = found["doubts"]
    if doubts and doubts["examples"]:
        rows = [
            (_where(one["source"]), one["label"], f"{one['likely']} ({one['probability_of_likely']:.2f})", one["text"])
            for one in doubts["examples"][: 2 * MOST_EXAMPLES]
        ]
        title = f"labels in doubt ({wording.count(doubts['rows'])} of {wording.count(doubts['of'])})"
        parts.append(_table(title, ("where", "label", "likelier", "text"), rows))
    return Group(*(item for part in parts for item in (part, Text())))


def _findings(findings: Sequence[str]) -> RenderableType:
    if not findings:
        return Text("Nothing to remark.", style="bold")
    return Group(*(Text(f"• {wording.printable(finding)}") for finding in findings))


def _classes(classes: Mapping[str, Mapping[str, int]]) -> RenderableType:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("label")
    for part in classes:
        table.add_column(part, justify="right")
    table.add_column("")
    counts = classes["train"]
    names = [*counts, *sorted({label for part in classes.values() for label in part} - counts.keys())]
    most = max(counts.values())
    for label in names[:MOST_CLASSES]:
        cells = [wording.count(part.get(label, 0)) for part in classes.values()]
        table.add_row(Text(wording.printable(label)), *cells, Text(_bar(counts.get(label, 0) / most), style="cyan"))
    if len(names) > MOST_CLASSES:
        table.add_row(Text(f"and {len(names) - MOST_CLASSES} more", style="dim"))
    return table


def _tokens(tokens: Mapping[str, Any]) -> RenderableType:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("tokens")
    table.add_column("rows", justify="right")
    table.add_column(f"median {tokens['median']}, 95 % under {tokens['p95']}, longest {tokens['max']}")
    for bar in wording.length_bars(tokens):
        style = "red" if bar["cut"] else "cyan"
        table.add_row(bar["span"], wording.count(bar["rows"]), Text(_bar(bar["share"]), style=style))
    return table


def _bar(share: float, width: int = 24) -> str:
    eighths = round(share * width * 8)
    return "█" * (eighths // 8) + (_BAR[eighths % 8 - 1] if eighths % 8 else "")


def _alike(title: str, groups: Sequence[Mapping[str, Any]]) -> RenderableType:
    rows = [
        [
            wording.count(group["rows"]),
            ", ".join(map(_where, group["sources"][:2])),
            ", ".join(dict.fromkeys(group["labels"])),
            group["text"],
        ]
        for group in groups[:MOST_EXAMPLES]
    ]
    return _table(title, ("rows", "where", "labels", "text"), rows)


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """The last column has what the others leave of the width."""
    table = Table(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        title=title,
        title_justify="left",
        expand=True,
    )
    for column in columns[:-1]:
        table.add_column(column, overflow="ellipsis", min_width=min(LEAST_WIDTH, max(map(len, columns))), no_wrap=True)
    table.add_column(columns[-1], overflow="ellipsis", no_wrap=True, ratio=1, min_width=LEAST_WIDTH)
    for row in rows:
        table.add_row(*(Text(wording.printable(cell)) for cell in row))
    return table


def _where(source: str) -> str:
    """File and line; of a long path its end says more than its beginning."""
    name = PurePath(source).name
    if cell_len(name) <= WHERE_WIDTH:
        return name
    while cell_len(name) >= WHERE_WIDTH:  # a Chinese character takes two places
        name = name[1:]
    return "…" + name
