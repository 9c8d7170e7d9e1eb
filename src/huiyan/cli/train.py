"""`huiyan train`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console

from huiyan.cli.json_file import check_json
from huiyan.core.files import write_json
from huiyan.training.config import TrainingConfig
from huiyan.workflows.config import AnswersConfig, DataConfig, ModelConfig, RepeatConfig, TrainRun

DEFAULT_MODEL = ModelConfig()
DEFAULT_TRAINING = TrainingConfig()
DEFAULT_ANSWERS = AnswersConfig()
DEFAULT_REPEATS = RepeatConfig()


def train(
    file: str,
    /,
    *,
    data: Annotated[DataConfig, Parameter(name="*", group="Data")],
    out: str,
    model: Annotated[ModelConfig, Parameter(name="*", group="Model")] = DEFAULT_MODEL,
    training: Annotated[TrainingConfig, Parameter(name="*", group="Training")] = DEFAULT_TRAINING,
    answers: Annotated[AnswersConfig, Parameter(name="*", group="Answers")] = DEFAULT_ANSWERS,
    repeats: Annotated[RepeatConfig, Parameter(name="*", group="Repeats")] = DEFAULT_REPEATS,
    resume: bool = False,
    overwrite: bool = False,
    json: Path | None = None,
) -> int:
    """Turn a table of labelled text into a trained, evaluated and saved model.

    Options can also come from a YAML file (--config FILE) and from the environment (HUIYAN_TRAIN_EPOCHS=3); `huiyan
    config` prints what comes of all three.

    Args:
        file: The table: .csv .tsv .jsonl .parquet .xlsx, also .gz or .zst, or - for standard input.
        data: Columns and splits.
        out: Folder for the model and the report.
        model: The pretrained encoder.
        training: How to train.
        answers: When to answer, and when to say that one is not sure.
        repeats: How often to train.
        resume: Go on with the run in --out from its last checkpoint.
        overwrite: Replace the run in --out.
        json: Also write the report as JSON to this file.
    """
    from huiyan.training.progress import progress_for
    from huiyan.workflows.report import terminal_summary
    from huiyan.workflows.train import train as train_workflow

    check_json(json)
    run = TrainRun(file=file, out=out, data=data, model=model, training=training, answers=answers, repeats=repeats)
    reporter = progress_for(Console(stderr=True))
    report = train_workflow(run, reporter=reporter, resume=resume, overwrite=overwrite)
    if report is None:
        reporter.note(f"Interrupted. {out} holds the best model so far; the same command with --resume goes on.")
        return 130
    if json is not None:
        write_json(json, report)
    Console().print(terminal_summary(report))
    reporter.note(f"\nModel, report.html and model card: {out}")
    return 0
