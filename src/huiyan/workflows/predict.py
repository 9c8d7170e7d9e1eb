"""`huiyan predict`: answers for texts, and for tables of any size in constant memory."""

import contextlib
import csv
import itertools
import json
import math
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeVar, cast

from rich.console import Console

from huiyan.core.errors import ConfigError, DataError, OutputError
from huiyan.core.files import atomic_path
from huiyan.core.lanes import Lanes
from huiyan.core.texts import Text
from huiyan.data.columns import require_columns
from huiyan.data.examples import text_of
from huiyan.data.rejected import RejectedRows
from huiyan.data.streams import is_stream
from huiyan.data.tables import Row, Table, open_table
from huiyan.tasks.logits import device_of
from huiyan.workflows.answering import Answering, load_to_answer
from huiyan.workflows.config import DEFAULT_COMPUTE, ComputeConfig
from huiyan.workflows.following import Follower, following

CHUNK_ROWS = 1024
"""Rows answered at a time: enough to sort them by length, few enough to hold."""
AHEAD = 2
"""Such chunks that are read, tokenised and computed while an earlier one is written."""
T = TypeVar("T")
JSON_SUFFIXES = (".jsonl", ".ndjson")
TABLE_SUFFIXES = (".csv", ".tsv", *JSON_SUFFIXES, ".parquet", ".xlsx", ".gz", ".zst")
SUFFIXES = (".csv", ".tsv", *JSON_SUFFIXES)


def predict_texts(
    run: Path,
    texts: Sequence[str],
    *,
    all_classes: bool = False,
    prefix: str = "",
    compute: ComputeConfig = DEFAULT_COMPUTE,
) -> list[dict[str, Any]]:
    """Answer texts.

    Args:
        run: the folder of a trained model.
        texts: one string each; for a model of several text columns, join them with line breaks. For a model of text
            pairs the first text belongs with the second, the third with the fourth.
        all_classes: also give the probability of every class.
        prefix: before the names in the answers.
        compute: device, precision, and how patient to be with early exits.
    Returns:
        For each text, or each two, ``prediction`` (a label, a list of labels or a number), with one of several labels
        ``probability`` and, on request, ``probability_CLASS``.
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
    artifact = load_to_answer(run, compute)
    with Lanes(device_of(artifact.model)) as lanes:
        read = pairs_of(texts) if artifact.manifest.text_pair_columns else texts
        return Answering(artifact, all_classes, prefix, compute.patience).start(read, lanes)()


def pairs_of(texts: Sequence[str]) -> list[tuple[str, str]]:
    """Texts taken two by two.

    Raises:
        ConfigError: their number is odd.
    """
    if len(texts) % 2:
        raise ConfigError(
            f"The model reads two texts together, so they are taken two by two. Got {len(texts)} instead.",
            hint='For example: huiyan predict RUN "a question" "an answer"',
        )
    return list(zip(texts[::2], texts[1::2], strict=True))


def predict_file(
    run: Path,
    file: str,
    out: str,
    *,
    all_classes: bool = False,
    prefix: str = "",
    encoding: str | None = None,
    compute: ComputeConfig = DEFAULT_COMPUTE,
    overwrite: bool = False,
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
        compute: device, precision, and how patient to be with early exits.
        overwrite: replace ``out`` if it is there.
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
    artifact = load_to_answer(run, compute)
    began = time.monotonic()
    answering = Answering(artifact, all_classes, prefix, compute.patience)
    with open_table(file, encoding=encoding) as table:
        # The columns of a live stream are those of its first row only, and in JSON lines a later one may have the text.
        if not (is_stream(file) and table.format.kind == "jsonl"):
            needed = artifact.manifest.text_columns + artifact.manifest.text_pair_columns
            require_columns(table.columns, needed, option=None, file=file)
        _require_free(table.columns, answering.columns, where=file)
        rejected_path = None if out == "-" else Path(out + ".rejected.jsonl")
        with RejectedRows() if rejected_path is None else _rejected_if_any(rejected_path) as rejected:
            separator = artifact.manifest.label_separator
            with (
                _writer(out, [*table.columns, *answering.columns], answering.columns[0], separator) as write,
                following(table, console) as follower,
            ):
                rows = _checked(table, answering.columns, out)
                live = is_stream(file) and out == "-"
                n_rows = 1 if live else CHUNK_ROWS
                chunks = iter(lambda: list(itertools.islice(rows, n_rows)), [])
                with Lanes(device_of(artifact.model)) as lanes:
                    under_way = _start_each(chunks, answering, rejected, lanes, follower)
                    answered = _finish_each(_ahead(under_way, 0 if live else AHEAD), answering, write)
            count, reasons = rejected.count, rejected.reasons
    if console is not None:
        _summarise(console, answering, out, answered, time.monotonic() - began)
        if count:
            _tell_rejected(console, count, reasons, rejected_path)
    if count and not answered:
        raise DataError(
            f"None of the {count} rows of {file} could be answered: {', '.join(reasons)}.",
            hint=f"The model reads the columns {', '.join(map(repr, artifact.manifest.text_columns))}.",
        )
    return answered


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


class _Started(NamedTuple):
    """Rows, which of them have a text, and what waits for the answers of those."""

    rows: list[Row]
    usable: list[bool]
    wait: Callable[[], list[dict[str, Any]]]


def _start_each(
    chunks: Iterable[list[Row]], answering: Answering, rejected: RejectedRows, lanes: Lanes, follower: Follower
) -> Iterator[_Started]:
    manifest = answering.artifact.manifest
    for chunk in chunks:
        follower.read(chunk)
        texts = [_text(row, manifest.text_columns, manifest.text_pair_columns, rejected) for row in chunk]
        usable = [text for text in texts if text]
        follower.answered(len(chunk) - len(usable))
        wait = answering.start(usable, lanes, on_rows=follower.answered) if usable else list
        yield _Started(chunk, [bool(text) for text in texts], wait)
    follower.all_read()


def _ahead(items: Iterable[T], count: int) -> Iterator[T]:
    """The items in order, with so many of the following ones taken before: they are under way already."""
    waiting: deque[T] = deque()
    try:
        for item in items:
            waiting.append(item)
            if len(waiting) > count:
                yield waiting.popleft()
    except Exception:  # of the items: what came before is not lost
        yield from waiting
        raise
    yield from waiting


def _finish_each(under_way: Iterable[_Started], answering: Answering, write: Callable[[dict[str, Any]], None]) -> int:
    nothing = dict.fromkeys(answering.columns)
    answered = 0
    for rows, usable, wait in under_way:
        answers = iter(wait())
        for row, has_text in zip(rows, usable, strict=True):
            write(row.values | (next(answers) if has_text else nothing))
        answered += sum(usable)
    return answered


def _text(row: Row, columns: Sequence[str], pair: Sequence[str], rejected: RejectedRows) -> Text | None:
    """What the model reads of a row; None where there is nothing, with the reason written down."""
    reason = row.problem
    if reason is None:
        try:
            return text_of(row.values, columns, pair)
        except DataError as error:
            reason = error.message
    rejected.add(row.file, row.line, reason, row.values)
    return None


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
def _writer(
    out: str, columns: list[str], answer: str, separator: str | None
) -> Iterator[Callable[[dict[str, Any]], None]]:
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
        yield lambda row: table.writerow(
            {name: _cell(value, separator if name == answer else None) for name, value in row.items()}
        )


def _cell(value: Any, separator: str | None) -> Any:
    """A list as JSON; an answer's as the labels stood that the model learned from, where they had a separator.

    No labels are an empty list in either case: an empty cell is a row that was not answered.
    """
    if not isinstance(value, list):
        return value
    items = cast("list[Any]", value)
    return separator.join(map(str, items)) if items and separator is not None else json.dumps(items, ensure_ascii=False)


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


def _summarise(console: Console, answering: Answering, out: str, answered: int, seconds: float) -> None:
    place = "standard output" if out == "-" else out
    rate = f"{answered / max(seconds, 1e-9):,.0f} a second, {answering.artifact.precision}"
    console.print(f"answered {answered:,} rows ({rate}): {place}", highlight=False, markup=False, soft_wrap=True)
    if answering.n_at_limit:
        console.print(
            f"{answering.n_at_limit:,} texts fill the {answering.artifact.manifest.max_length} tokens the model reads; "
            "what comes after them was not read",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )


def _tell_rejected(console: Console, rejected: int, reasons: dict[str, int], path: Path | None) -> None:
    why = ", ".join(f"{reason} ({count})" for reason, count in reasons.items())
    listed = "" if path is None else f", listed in {path}"
    console.print(f"rows without an answer: {rejected:,}{listed}: {why}", highlight=False, markup=False, soft_wrap=True)
