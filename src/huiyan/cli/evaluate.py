"""`huiyan evaluate`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console

from huiyan.cli.json_file import check_json
from huiyan.core.files import write_json
from huiyan.workflows.config import DEFAULT_COMPUTE, ComputeConfig


def evaluate(
    run: Path,
    file: str,
    /,
    *,
    encoding: str | None = None,
    compute: Annotated[ComputeConfig, Parameter(name="*", group="Computing")] = DEFAULT_COMPUTE,
    rejected: Path | None = None,
    json: Path | None = None,
) -> None:
    """Measure a trained model on a table with known labels.

    Args:
        run: Folder that `huiyan train` wrote.
        file: Table with the columns the model was trained on; - for standard input.
        encoding: Text encoding of the file; without it, it is recognised.
        compute: How the model answers.
        rejected: Also list the rows that are set aside in this file, as JSON lines: file, line and reason.
        json: Also write the figures as JSON to this file.
    """
    from huiyan.training.progress import progress_for
    from huiyan.workflows.evaluate import evaluate as evaluate_workflow
    from huiyan.workflows.report import figures_table

    check_json(json)
    say = progress_for(Console(stderr=True)).note
    figures = evaluate_workflow(run, file, encoding=encoding, compute=compute, rejected=rejected, say=say)
    if json is not None:
        write_json(json, figures)
    Console().print(figures_table(figures))
