"""`huiyan evaluate`."""

from pathlib import Path

from rich.console import Console

from huiyan.core.files import write_json


def evaluate(
    run: Path, file: str, /, *, encoding: str | None = None, device: str = "auto", json: Path | None = None
) -> None:
    """Measure a trained model on a table with known labels.

    Args:
        run: Folder that `huiyan train` wrote.
        file: Table with the columns the model was trained on; - for standard input.
        encoding: Text encoding of the file; without it, it is recognised.
        device: auto, cpu, cuda, cuda:N or mps.
        json: Also write the figures as JSON to this file.
    """
    from huiyan.training.progress import progress_for
    from huiyan.workflows.evaluate import evaluate as evaluate_workflow
    from huiyan.workflows.report import figures_table

    figures = evaluate_workflow(
        run, file, encoding=encoding, device=device, say=progress_for(Console(stderr=True)).note
    )
    if json is not None:
        write_json(json, figures)
    Console().print(figures_table(figures))
