"""`huiyan compress`."""

from pathlib import Path

from rich.console import Console

from huiyan.cli.json_file import check_json
from huiyan.core.files import write_json


def compress(
    run: Path,
    /,
    *,
    data: str,
    rank: str = "auto",
    max_loss: float | None = None,
    out: Path | None = None,
    overwrite: bool = False,
    encoding: str | None = None,
    device: str = "auto",
    json: Path | None = None,
) -> None:
    """Make a trained model smaller: its matrices become products of two thin ones.

    Half of the rows of --data choose the ranks; accuracy before and after is measured on the other half.

    Args:
        run: Folder that `huiyan train` wrote.
        data: Table with the columns the model was trained on, best one it was not trained on; - for standard input.
        rank: auto, a rank for every matrix such as 64, or a share of the full rank such as 0.25.
        max_loss: Accuracy points that --rank auto may lose on the rows it chooses by; 0.5 when not given.
        out: Folder for the smaller model; RUN-compressed when not given.
        overwrite: Replace the run in --out.
        encoding: Text encoding of the table; without it, it is recognised.
        device: auto, cpu, cuda, cuda:N or mps.
        json: Also write the report as JSON to this file.
    """
    from huiyan.training.progress import progress_for
    from huiyan.workflows.compress import CompressConfig, default_out
    from huiyan.workflows.compress import compress as compress_workflow
    from huiyan.workflows.compressed import compression_summary

    check_json(json)
    config = CompressConfig(rank=rank, max_loss=max_loss)
    say = progress_for(Console(stderr=True)).note
    folder = out or default_out(run)
    report = compress_workflow(
        run, data, config, out=folder, overwrite=overwrite, encoding=encoding, device=device, say=say
    )
    if json is not None:
        write_json(json, report)
    Console().print(compression_summary(report))
    say(f"\nModel and model card: {folder}")
