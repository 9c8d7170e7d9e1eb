"""`huiyan config`."""

import sys
from typing import Annotated

from cyclopts import Parameter

from huiyan.cli.train import DEFAULT_ANSWERS, DEFAULT_MODEL, DEFAULT_REPEATS, DEFAULT_TRAINING
from huiyan.training.config import TrainingConfig
from huiyan.workflows.config import AnswersConfig, DataConfig, ModelConfig, RepeatConfig, TrainRun


def config(
    file: str,
    /,
    *,
    data: Annotated[DataConfig, Parameter(name="*", group="Data")],
    out: str,
    model: Annotated[ModelConfig, Parameter(name="*", group="Model")] = DEFAULT_MODEL,
    training: Annotated[TrainingConfig, Parameter(name="*", group="Training")] = DEFAULT_TRAINING,
    answers: Annotated[AnswersConfig, Parameter(name="*", group="Answers")] = DEFAULT_ANSWERS,
    repeats: Annotated[RepeatConfig, Parameter(name="*", group="Repeats")] = DEFAULT_REPEATS,
) -> None:
    """Print what `huiyan train` would do with these options, as YAML that --config reads; nothing is done.

    Options come from the command line, else from the environment (HUIYAN_TRAIN_EPOCHS=3), else from --config FILE, else
    they have their defaults.

    Args:
        file: The table.
        data: Columns and splits.
        out: Folder for the model and the report.
        model: The pretrained encoder.
        training: How to train.
        answers: When to answer, and when to say that one is not sure.
        repeats: How often to train.
    """
    import yaml

    run = TrainRun(file=file, out=out, data=data, model=model, training=training, answers=answers, repeats=repeats)
    values = {"file": run.file, "out": run.out}
    for part in (run.data, run.model, run.training, run.answers, run.repeats):
        values |= {name: list(value) if isinstance(value, tuple) else value for name, value in part.to_dict().items()}
    yaml.safe_dump(values, sys.stdout, sort_keys=False, allow_unicode=True)
