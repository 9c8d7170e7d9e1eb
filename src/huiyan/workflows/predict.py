"""`huiyan predict`: answers for texts, and for tables of any size in constant memory."""

import contextlib
import csv
import itertools
import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from huiyan.core.devices import pick_device
from huiyan.core.errors import ConfigError, DataError, OutputError
from huiyan.core.files import atomic_path
from huiyan.data.columns import require_columns
from huiyan.data.examples import text_of
from huiyan.data.rejected import RejectedRows
from huiyan.data.streams import is_stream
from huiyan.data.tables import Row, Table, open_table
from huiyan.tasks.artifact import Artifact, Patience

CHUNK_ROWS = 1024
"""Rows answered at a time: enough to sort them by length, few enough to hold."""
JSON_SUFFIXES = (".jsonl", ".ndjson")
TABLE_SUFFIXES = (".csv", ".tsv", *JSON_SUFFIXES, ".parquet", ".xlsx", ".gz", ".zst")
SUFFIXES = (".csv", ".tsv", *JSON_SUFFIXES)


@dataclass(frozen=True)
class Answering:
    """How answers are written beside a row.

    Args:
        artifact: the model.
        all_classes: also give the probability of every class.
        prefix: before the names of the added columns.
        patience: how many layers in a row have to agree before a text leaves; None is full depth.
    """

    artifact: Artifact
    all_classes: bool
    prefix: str
    patience: Patience = None

    @property
    def columns(self) -> list[str]:
        """Names of the added columns."""
        classes = self.artifact.manifest.classes if self.all_classes else ()
        return [
            f"{self.prefix}prediction",
            f"{self.prefix}probability",
            *(f"{self.prefix}probability_{name}" for name in classes),
        ]

    def answers(self, texts: Sequence[str]) -> list[dict[str, Any]]:
        """The added columns of each text, in order; probabilities to six places."""
        manifest = self.artifact.manifest
        probabilities = self.artifact.probabilities(texts, patience=self.patience)
        answers: list[dict[str, Any]] = []
        for row, choice in zip(probabilities, manifest.decision.choose(probabilities), strict=True):
            shown = [round(float(row[choice]), 6)]
            if self.all_classes:
                shown += [round(float(value), 6) for value in row]
            answers.append(dict(zip(self.columns, [manifest.classes[int(choice)], *shown], strict=True)))
        return answers


def predict_texts(
    run: Path,
    texts: Sequence[str],
    *,
    all_classes: bool = False,
    prefix: str = "",
    device: str = "auto",
    patience: Patience = None,
) -> list[dict[str, Any]]:
    """Answer texts.

    Args:
        run: the folder of a trained model.
        texts: one string each; for a model of several text columns, join them with line breaks.
        all_classes: also give the probability of every class.
        prefix: before the names in the answers.
        device: where to compute.
        patience: how many layers in a row have to agree before a text leaves early, or "auto" for the number that
            the run chose; None is full depth.
    Returns:
        For each text ``prediction``, ``probability`` and, on request, ``probability_CLASS``.
    Raises:
        ConfigError: a text is blank, or the name of a table; ``patience`` is below 1, or the model has no exits.
    """
    if len(texts) == 1 and Path(texts[0]).suffix.lower() in TABLE_SUFFIXES and Path(texts[0]).is_file():
        raise ConfigError(f"{texts[0]} is a file, and texts were expected.", hint=f"Say --file {texts[0]}")
    for number, text in enumerate(texts, start=1):
        if not text.strip():
            raise ConfigError(
                f"Text {number} of {len(texts)} is blank.", hint="Give a text with at least one visible character."
            )
    artifact = Artifact.load(run, device=pick_device(device))
    return _answering(artifact, all_classes, prefix, patience).answers(texts)


def predict_file(
    run: Path,
    file: str,
    out: str,
    *,
    all_classes: bool = False,
    prefix: str = "",
    encoding: str | None = None,
    device: str = "auto",
    overwrite: bool = False,
    patience: Patience = None,
    console: Console | None = None,
) -> int:
    """Answer every row of a table, as a stream: memory does not grow with the file.

    Every row and every column of the input is in the output, in order. A row that cannot be answered has an empty
    answer there, and is listed with its reason in ``OUT.rejected.jsonl``. From a stream to standard output every row
    is answered as it comes.

    Args:
        run: the folder of a trained model.
        file: the table; ``-`` is standard input.
        out: ``.csv``, ``.tsv`` or ``.jsonl``, written whole or not at all; ``-`` is JSON lines on standard output.
        all_classes: also give the probability of every class.
        prefix: before the names of the added columns.
        encoding: of a text file; None recognises it.
        device: where to compute.
        overwrite: replace ``out`` if it is there.
        patience: how many layers in a row have to agree before a text leaves early, or "auto" for the number that
            the run chose; None is full depth.
        console: where progress is shown.
    Returns:
        How many rows were answered.
    Raises:
        OutputError: ``out`` is taken or of an unknown kind, or an added column is in the table already.
        DataError: the table cannot be read, lacks a column the model needs, has a row of JSON lines with a key that a
            CSV or TSV output has no column for, or none of its rows could be answered.
        ConfigError: ``patience`` is below 1, or the model has no early exits.
    """
    _check_out(out, file, overwrite=overwrite)
    artifact = Artifact.load(run, device=pick_device(device))
    answering = _answering(artifact, all_classes, prefix, patience)
    with open_table(file, encoding=encoding) as table:
        # The columns of a live stream are those of its first row only, and in JSON lines a later one may have the text.
        if not (is_stream(file) and table.format.kind == "jsonl"):
            require_columns(table.columns, artifact.manifest.text_columns, option="of the model", file=file)
        _require_free(table.columns, answering.columns, where=file)
        rejected_path = None if out == "-" else Path(out + ".rejected.jsonl")
        with RejectedRows() if rejected_path is None else _rejected_if_any(rejected_path) as rejected:
            with _writer(out, [*table.columns, *answering.columns]) as write, _progress(table, console) as tick:
                rows = _checked(table, answering.columns, out)
                n_rows = 1 if is_stream(file) and out == "-" else CHUNK_ROWS
                chunks = iter(lambda: list(itertools.islice(rows, n_rows)), [])
                answered = _stream(chunks, answering, write, rejected, tick)
            count, reasons = rejected.count, rejected.reasons
    if console is not None:
        _summarise(console, out, answered, count, reasons, rejected_path)
    if count and not answered:
        raise DataError(
            f"None of the {count} rows of {file} could be answered: {', '.join(reasons)}.",
            hint=f"The model reads the columns {', '.join(map(repr, artifact.manifest.text_columns))}.",
        )
    return answered


def _answering(artifact: Artifact, all_classes: bool, prefix: str, patience: Patience) -> Answering:
    # Told now: a stream whose first row is long in coming should not be waited for.
    artifact.patience_of(patience)
    return Answering(artifact, all_classes, prefix, patience)


def _checked(table: Table, added: Sequence[str], out: str) -> Iterator[Row]:
    """The rows of a table; in JSON lines a later row may have keys of its own, and none of them may get lost."""
    has_columns = out != "-" and Path(out).suffix.lower() not in JSON_SUFFIXES
    known = set(table.columns)
    for row in table.rows():
        if not row.values.keys() <= known:
            _require_free(row.values, added, where=f"Line {row.line} of {row.file}")
            if has_columns:
                new = next(key for key in row.values if key not in known)
                raise DataError(
                    f"Line {row.line} of {row.file} has the key {new!r}, for which {out} has no column: its columns "
                    "are the keys of the first rows.",
                    hint=f"Write JSON lines instead: --out {Path(out).with_suffix('.jsonl')}",
                )
        yield row


def _require_free(names: Iterable[str], added: Sequence[str], *, where: str) -> None:
    taken = sorted(set(names) & set(added))
    if taken:
        raise OutputError(
            f"{where} has a column {taken[0]!r} already.", hint="Name the new ones otherwise, say --prefix my_"
        )


def _stream(
    chunks: Iterable[list[Row]],
    answering: Answering,
    write: Callable[[dict[str, Any]], None],
    rejected: RejectedRows,
    tick: Callable[[int], None],
) -> int:
    columns = answering.artifact.manifest.text_columns
    nothing = dict.fromkeys(answering.columns)
    answered = 0
    for chunk in chunks:
        texts = [_text(row, columns, rejected) for row in chunk]
        usable = [text for text in texts if text]
        answers = iter(answering.answers(usable) if usable else [])
        for row, text in zip(chunk, texts, strict=True):
            write(row.values | (next(answers) if text else nothing))
        answered += len(usable)
        tick(len(chunk))
    return answered


def _text(row: Row, columns: Sequence[str], rejected: RejectedRows) -> str:
    """The text of a row, or nothing, with the reason written down."""
    reason = row.problem
    text = ""
    if reason is None:
        try:
            text = text_of(row.values, columns)
            reason = None if text else "no text"
        except DataError as error:
            reason = error.message
    if reason is not None:
        rejected.add(row.file, row.line, reason, row.values)
        return ""
    return text


def _check_out(out: str, file: str, *, overwrite: bool) -> None:
    if out == "-":
        return
    path = Path(out)
    if path.suffix.lower() not in SUFFIXES:
        raise OutputError(f"--out {out} is of a kind that is not written.", hint=f"Use one of: {', '.join(SUFFIXES)}.")
    if file != "-" and path.exists() and Path(file).exists() and path.samefile(file):
        raise OutputError(f"--out {out} is the input file.", hint="Name another file.")
    if path.exists() and not overwrite:
        raise OutputError(f"--out {out} exists already.", hint="Use --overwrite to replace it, or name another file.")


@contextlib.contextmanager
def _writer(out: str, columns: list[str]) -> Iterator[Callable[[dict[str, Any]], None]]:
    """A function that writes one row; the file appears, whole, when the block ends well."""
    if out == "-":
        yield _json_writer(sys.stdout, flush=True)
        return
    path = Path(out)
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="", errors="replace") as target:
        if path.suffix.lower() in JSON_SUFFIXES:
            yield _json_writer(target)
            return
        delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
        table = csv.DictWriter(target, columns, delimiter=delimiter, lineterminator="\n", extrasaction="ignore")
        table.writeheader()
        yield table.writerow


def _json_writer(target: IO[str], *, flush: bool = False) -> Callable[[dict[str, Any]], None]:
    def write(row: dict[str, Any]) -> None:
        line = _json_line(row)
        # A lone surrogate (an undecodable byte of the input) has no UTF-8 form.
        target.write(line.encode("utf-8", "replace").decode("utf-8") + "\n")
        if flush:
            target.flush()

    return write


def _json_line(row: dict[str, Any]) -> str:
    try:
        return json.dumps(row, ensure_ascii=False, default=str, allow_nan=False)
    except ValueError:
        return json.dumps(_without_nan(row), ensure_ascii=False, default=str, allow_nan=False)


def _without_nan(value: Any) -> Any:
    """The value with None for the numbers JSON has not: NaN and the infinities."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return value


@contextlib.contextmanager
def _rejected_if_any(path: Path) -> Iterator[RejectedRows]:
    """Rejected rows beside the output; the file goes again when there were none, or when there is no output."""
    rejected = RejectedRows(path)
    keep = False
    try:
        with rejected:
            yield rejected
        keep = rejected.count > 0
    finally:
        if not keep:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def _progress(table: Table, console: Console | None) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal, by bytes where their number is known; nothing in a log."""
    if console is None or not console.is_terminal:
        yield lambda _: None
        return
    columns = (
        TextColumn("predicting"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[rows]:,} rows"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("predicting", total=table.bytes_total, rows=0)
        done = 0

        def tick(rows: int) -> None:
            nonlocal done
            done += rows
            bar.update(task, completed=table.bytes_read or 0, rows=done)

        yield tick


def _summarise(
    console: Console, out: str, answered: int, rejected: int, reasons: dict[str, int], path: Path | None
) -> None:
    place = "standard output" if out == "-" else out
    console.print(f"answered {answered:,} rows: {place}", highlight=False, markup=False, soft_wrap=True)
    if rejected:
        why = ", ".join(f"{reason} ({count})" for reason, count in reasons.items())
        listed = "" if path is None else f", listed in {path}"
        console.print(f"{rejected:,} rows have no answer{listed}: {why}", highlight=False, markup=False, soft_wrap=True)
