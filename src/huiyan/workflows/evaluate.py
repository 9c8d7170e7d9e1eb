"""`huiyan evaluate`: a trained model on another table with known labels."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from huiyan.core.errors import DataError, OutputError
from huiyan.data.examples import read_examples
from huiyan.data.labels import LabelReader
from huiyan.data.rejected import RejectedRows
from huiyan.data.splits import read_splits, text_sha256
from huiyan.workflows.answering import load_to_answer
from huiyan.workflows.config import DEFAULT_COMPUTE, ComputeConfig
from huiyan.workflows.deciding import answered
from huiyan.workflows.judging.judge import Answers
from huiyan.workflows.judging.kinds import judge_of
from huiyan.workflows.tables import SPLITS, with_known_labels


def evaluate(
    run: Path,
    file: str,
    *,
    encoding: str | None = None,
    compute: ComputeConfig = DEFAULT_COMPUTE,
    rejected: Path | None = None,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Measure a trained model on a table.

    Args:
        run: the folder of a trained model; column names are read from it.
        file: the table; ``-`` is standard input.
        encoding: of a text file; None recognises it.
        compute: device, precision, and how patient to be with early exits.
        rejected: where to list the rows set aside, as JSON lines with file, line and reason; replaced if it is there.
        say: told what was found.
    Returns:
        ``task``, ``classes``, ``precision`` and the ``test`` part of a report: rows, metrics with intervals, and what
        else there is for the kind of label; ``rejected_reasons``; and ``seen_in_training``, how many of the texts the
        model was trained on, None when the folder has no splits to tell.
    Raises:
        OutputError: ``rejected`` is the table itself, or cannot be written.
        DataError: the table cannot be read, lacks a column the model was trained on, or has no usable row.
    """
    artifact = load_to_answer(run, compute)
    manifest = artifact.manifest
    _check_rejected(rejected, file)
    with RejectedRows(rejected) as aside:
        examples = read_examples(
            file,
            text=manifest.text_columns,
            text_pair=manifest.text_pair_columns,
            label=manifest.label_column,
            labels=LabelReader(manifest.task, manifest.label_separator),
            encoding=encoding,
            rejected=aside,
            of_model=True,
        )
        examples = with_known_labels(examples, set(manifest.classes), aside, file)
    if aside.count:
        why = ", ".join(f"{reason} ({count})" for reason, count in aside.reasons.items())
        where = "; --rejected FILE lists them" if rejected is None else f"; they are listed in {rejected}"
        say(f"set aside {aside.count} rows: {why}{where}")
    if len(examples) == 0:
        knows = f"The model knows the labels {', '.join(manifest.classes)}." if manifest.classes else ""
        raise DataError(f"{file} has no usable row.", hint=knows)
    seen = seen_in_training(run, examples.plain)
    if seen:
        say(f"warning: the model was trained on {seen} of these {len(examples)} texts, so the figures flatter it")
    say(f"answering {len(examples):,} rows in {artifact.precision}")
    judge = judge_of(manifest.as_task())
    targets = judge.task.targets(examples.labels)
    logits = artifact.logits(examples.texts, patience=compute.patience)
    answers = Answers.read(logits, manifest.decision, judge.task)
    figures = judge.figures(targets, answers)
    if manifest.task == "classify" and manifest.decision.thresholds:
        figures["answered"] = answered(targets, answers.chosen, answers.is_sure)
    return {
        "file": file,
        "task": manifest.task,
        "classes": list(manifest.classes),
        "precision": artifact.precision,
        "test": figures,
        "rejected_reasons": dict(aside.reasons),
        "seen_in_training": seen,
    }


def _check_rejected(rejected: Path | None, file: str) -> None:
    if rejected is not None and file != "-" and rejected.exists() and Path(file).exists() and rejected.samefile(file):
        raise OutputError(f"--rejected {rejected} is the input file.", hint="Name another file.")


def seen_in_training(run: Path, texts: list[str]) -> int | None:
    """How many of the texts the model of a run was trained on; None where the folder has no splits to tell."""
    path = run / SPLITS
    if not path.is_file():
        return None
    trained = {sha256 for _, split, sha256 in read_splits(path) if split == "train"}
    return sum(text_sha256(text) in trained for text in texts)
