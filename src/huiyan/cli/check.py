"""`huiyan check`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console

from huiyan.cli.json_file import check_json
from huiyan.core.files import write_json
from huiyan.workflows.config import DataConfig


def check(
    file: str,
    /,
    *,
    data: Annotated[DataConfig, Parameter(name="*", group="Data")],
    model: str = "auto",
    max_length: int = 256,
    skip_doubts: bool = False,
    seed: int = 0,
    json: Path | None = None,
) -> None:
    """Look at labelled data before a model learns from it: lengths, duplicates, leaks, damage, labels in doubt.

    Args:
        file: The table: .csv .tsv .jsonl .parquet .xlsx, also .gz or .zst, or - for standard input.
        data: Columns and splits.
        model: Whose tokens lengths are counted in; auto, package:NAME (see `huiyan models`), a folder, or OWNER/NAME.
        max_length: Tokens a text would be cut to, special tokens included.
        skip_doubts: Do not cross-validate a model to find labels that are probably wrong.
        seed: Seed of the cross-validation.
        json: Also write what was found as JSON to this file.
    """
    from huiyan.training.progress import progress_for
    from huiyan.workflows.check import check as check_workflow
    from huiyan.workflows.check_summary import check_summary

    check_json(json)
    say = progress_for(Console(stderr=True)).note
    found = check_workflow(file, data, model=model, max_length=max_length, doubts=not skip_doubts, seed=seed, say=say)
    if json is not None:
        write_json(json, found)
    Console().print(check_summary(found))
