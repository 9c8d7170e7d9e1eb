"""`huiyan predict`."""

import json as json_module
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.console import Console
from rich.table import Table
from rich.text import Text

from huiyan.core.errors import ConfigError
from huiyan.workflows.config import DEFAULT_COMPUTE, ComputeConfig
from huiyan.workflows.wording import printable


def predict(
    run: Path,
    /,
    *texts: str,
    file: str | None = None,
    out: str | None = None,
    probabilities: bool = False,
    prefix: str = "",
    encoding: str | None = None,
    compute: Annotated[ComputeConfig, Parameter(name="*", group="Computing")] = DEFAULT_COMPUTE,
    overwrite: bool = False,
    json: bool = False,
) -> None:
    """Answer texts given on the command line, or every row of a table.

    Args:
        run: Folder that `huiyan train` wrote.
        texts: Texts to answer, two by two for a model of text pairs; put -- before them where one begins with a hyphen.
        file: Table whose rows to answer; - for standard input, answered row by row when --out is - too.
        out: Table to write: .csv .tsv or .jsonl; - for JSON lines on standard output (the default).
        probabilities: Also give the probability of every class.
        prefix: Put before the names of the added columns, where the table has one called prediction.
        encoding: Text encoding of the file; without it, it is recognised.
        compute: How the model answers.
        overwrite: Replace OUT if it is there.
        json: Print JSON lines instead of a table for texts on the command line.
    """
    from huiyan.workflows.predict import predict_file, predict_texts

    if bool(texts) == (file is not None):
        raise ConfigError(
            "Give either texts or --file.",
            hint='For example: huiyan predict RUN "a text", or --file - for standard input.',
        )
    if file is None:
        for option, given in (("--out", out), ("--encoding", encoding), ("--overwrite", overwrite)):
            if given:
                raise ConfigError(f"{option} goes with --file; texts were given.", hint=f"Leave {option} away.")
        answers = predict_texts(
            run,
            texts,
            all_classes=probabilities,
            prefix=prefix,
            compute=compute,
        )
        _print_answers(texts, answers, json=json or not sys.stdout.isatty())
        return
    predict_file(
        run,
        file,
        out or "-",
        all_classes=probabilities,
        prefix=prefix,
        encoding=encoding,
        compute=compute,
        overwrite=overwrite,
        console=Console(stderr=True),
    )


def _print_answers(texts: Sequence[str], answers: Sequence[dict[str, Any]], *, json: bool) -> None:
    keys = ("text", "text_pair")[: len(texts) // len(answers)]
    each = len(keys)
    rows = [dict(zip(keys, texts[each * place : each * (place + 1)], strict=True)) for place in range(len(answers))]
    if json:
        for row, answer in zip(rows, answers, strict=True):
            print(json_module.dumps(row | answer, ensure_ascii=False))
        return
    table = Table(box=None, pad_edge=False)
    for name in (*keys, *answers[0]):
        table.add_column(name, overflow="ellipsis" if name in keys else "fold", max_width=60)
    for row, answer in zip(rows, answers, strict=True):
        shown = map(_shown, answer.values())
        table.add_row(*(Text(printable(cell)) for cell in (*row.values(), *shown)))
    Console().print(table)


def _shown(value: Any) -> str:
    if value is None:
        return "not sure"
    if isinstance(value, list):
        return ", ".join(value) or "none"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
