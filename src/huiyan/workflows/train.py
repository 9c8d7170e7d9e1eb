"""`huiyan train`: a table of labelled text becomes a trained, evaluated, saved and reported model."""

import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from huiyan.core.errors import DataError, NonFiniteLossError, OutputError
from huiyan.core.files import write_json
from huiyan.data.examples import Examples
from huiyan.models.carried import DEFAULT_MODEL, MULTILINGUAL_MODEL
from huiyan.models.sources import ModelSource
from huiyan.text.scripts import mostly_han
from huiyan.training.config import TrainingConfig
from huiyan.training.progress import Reporter, Silent, clock
from huiyan.workflows import run_folder
from huiyan.workflows.check import look_at
from huiyan.workflows.config import TrainRun
from huiyan.workflows.early_exit import measure_early_exit, write_early_exit
from huiyan.workflows.fit import Fitted, fingerprint_of, fit_model
from huiyan.workflows.judging.kinds import judge_of
from huiyan.workflows.models import fetch_model, model_for
from huiyan.workflows.provenance import command_of, describe_run, describe_training
from huiyan.workflows.repeats import Outcome, StoppedError, train_folds, train_once, train_seeds
from huiyan.workflows.report import write_report
from huiyan.workflows.tables import Tables, joined, read_tables

DOUBTED_ROWS = 20_000
"""Training rows up to which the report says whose labels are in doubt; it takes about a second for every thousand.
Fewer, where there are more than ten labels of which a text may have several."""


def train(
    run: TrainRun, *, reporter: Reporter | None = None, resume: bool = False, overwrite: bool = False
) -> dict[str, Any] | None:
    """Do the main job.

    Args:
        run: the files, columns, model and training options.
        reporter: who is told how it goes.
        resume: go on from the last checkpoint in ``run.out``; with none there, start afresh.
        overwrite: replace a run that is in ``run.out``.
    Returns:
        The report, as ``report.json`` holds it; None when the run was interrupted (then the folder holds the best
        model so far, and ``resume`` goes on).
    Raises:
        HuiyanError: the data, the model, the options or the folder cannot be used. A run that was to be overwritten
            is still there then.
    """
    say, out = reporter or Silent(), Path(run.out)
    inputs = [run.file, run.model.model, run.data.validation, run.data.test]
    run_folder.check_out(out, [name for name in inputs if name], resume=resume, overwrite=overwrite)
    if resume and (out / "report.json").is_file():
        raise OutputError(
            f"The run in {out} is finished: there is nothing to resume.",
            hint="Use --overwrite to train again, or name another folder.",
        )
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="huiyan-") as waiting:
        try:
            tables = read_tables(
                run.file,
                run.data,
                seed=run.training.seed,
                folder=Path(waiting),
                say=say.note,
                tested=not run.repeats.folds,
            )
        except DataError:
            kept = run_folder.keep_rejected(Path(waiting) / run_folder.REJECTED, out)
            if kept:
                say.note(kept)
            raise
        source = fetch_model(model_for(run.model.model, tables.train.plain), revision=run.model.revision)
        for warning in language_warnings(source.name, tables.train.plain):
            tables.warn(warning, say.note)
        licence = source.licence or "licence not stated"
        # What follows is the hash of the weights, which is for the model card.
        origin = source.origin.partition(", weights")[0]
        say.note(" ".join(filter(None, ["model:", source.name, source.revision, f"({licence})"])) + f"\n{origin}")
        with run_folder.replacing(out, overwrite=overwrite):
            return _train_in(out, run, tables, source, say, resume=resume, began=began)


def _train_in(
    out: Path, run: TrainRun, tables: Tables, source: ModelSource, say: Reporter, *, resume: bool, began: float
) -> dict[str, Any] | None:
    """Train, judge and report, in a folder that is the run's own."""
    described = _describe(run, tables)

    def write(status: str, **more: Any) -> None:
        write_json(out / run_folder.RUN, described | {"status": status} | more)

    def on_start() -> None:
        tables.write(out)
        write("training")

    def fit(
        train: Examples,
        validation: Examples,
        *,
        training: TrainingConfig,
        out: Path,
        all_labels: Sequence[str] | None = None,
    ) -> Fitted:
        return fit_model(
            train,
            validation,
            source,
            data=run.data,
            options=replace(run, training=training),
            reporter=say,
            out=out,
            resume=resume,
            on_start=on_start,
            all_labels=all_labels,
        )

    try:
        if run.repeats.folds:
            outcome = train_folds(fit, run, tables, out, say.note)
        elif run.repeats.seeds > 1:
            outcome = train_seeds(fit, run, tables, out, say.note)
        else:
            outcome = train_once(fit, run, tables, out)
    except NonFiniteLossError as error:
        write("failed", error=str(error))
        raise
    except StoppedError as stop:
        write("interrupted", step=stop.fitted.state.step, **describe_run(stop.fitted.device))
        return None
    fitted = outcome.fitted
    described |= describe_run(fitted.device)
    trained = time.monotonic()
    report = _report(run, tables, source, outcome, say)
    if fitted.exit_curve is not None:
        say.note("early exit: measuring speed and accuracy of every patience on the test rows")
        report["early_exit"] = measure_early_exit(fitted.artifact, outcome.pairs[0][1], fitted.exit_curve)
        write_early_exit(out, report["early_exit"])
    now = time.monotonic()
    timings = {"total": now - began, "training": outcome.seconds, "evaluation": now - trained}
    report["run"] = described | {"status": "finished", "timings_s": timings}
    write_report(out, report)
    write("finished", timings_s=timings)
    # The best weights are in the folder now; the state for --resume has served.
    for part in (run_folder.CHECKPOINTS, run_folder.PARTS):
        shutil.rmtree(out / part, ignore_errors=True)
    say.note(f"finished in {clock(now - began)}: {out}")
    return report


def language_warnings(model: str, texts: Sequence[str]) -> list[str]:
    """What to say when the encoder that was named does not know the language of the texts."""
    if model != DEFAULT_MODEL or not mostly_han(texts):
        return []
    warning = (
        f"The texts are Chinese and {DEFAULT_MODEL} is English: it knows few of the characters. Leave --model away, or "
        f"name {MULTILINGUAL_MODEL}."
    )
    return [warning]


def _describe(run: TrainRun, tables: Tables) -> dict[str, Any]:
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command_line(run),
        "config": run.to_dict(),
        "seed": run.training.seed,
        "data_fingerprint": {name: fingerprint_of(examples) for name, examples in tables.splits.items()},
    }


def _doubts_are_cheap(known: Examples) -> bool:
    models = len(known.label_names()) / 10 if known.kind == "multilabel" else 1
    return len(known) * max(1, models) <= DOUBTED_ROWS


def _report(run: TrainRun, tables: Tables, source: ModelSource, outcome: Outcome, say: Reporter) -> dict[str, Any]:
    """Look at the test rows, this once, and gather what there is to tell."""
    fitted, test, answers = outcome.fitted, outcome.test, outcome.answers
    manifest, tokenizer = fitted.artifact.manifest, fitted.artifact.tokenizer
    judge = judge_of(manifest.as_task())
    say.note(f"judging the answers to {len(test)} test rows, and training the baselines")
    targets = judge.task.targets(test.labels)
    for warning in judge.warnings(answers, manifest.decision, run.answers, fitted.state.step):
        tables.warn(warning, say.note)
    return {
        "format": 1,
        "task": manifest.task,
        "question": question(run),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "classes": list(manifest.classes),
        "data": tables.describe(run)
        | look_at(
            tables.splits,
            tables.overlap,
            count_tokens=tokenizer.count_tokens,
            max_length=manifest.max_length,
            doubted=joined(tables.train, tables.validation) if _doubts_are_cheap(tables.train) else None,
            seed=run.training.seed,
            say=say.note,
        ),
        "model": {
            "source": source.name,
            "origin": source.origin,
            "licence": source.licence,
            "revision": source.revision,
            "family": manifest.family,
            "parameters": sum(parameter.numel() for parameter in fitted.artifact.model.parameters()),
            "pooling": run.model.pooling,
        },
        "training": describe_training(fitted.state, fitted.device, fitted.metric),
        "test": judge.figures(targets, answers, seed=run.training.seed),
        "calibration": judge.calibration(targets, answers, manifest.decision),
        "repeated": outcome.repeated,
        "baselines": judge.baselines(outcome.pairs, answers, seed=run.training.seed),
        "mistakes": judge.mistakes(test, answers),
        "warnings": tables.warnings,
        "reproduce": command_line(run),
    }


def question(run: TrainRun) -> str:
    """What the model answers, as a question."""
    texts = f"a text ({', '.join(run.data.text)})"
    if run.data.text_pair:
        texts = f"two texts ({', '.join(run.data.text)}; {', '.join(run.data.text_pair)})"
    return f"Which {run.data.label} {'do' if run.data.text_pair else 'does'} {texts} have?"


def command_line(run: TrainRun) -> str:
    """The command that does this run again: every option that is not at its default."""
    parts = (run.data, run.model, run.training, run.answers, run.repeats)
    return command_of(["huiyan", "train", run.file], parts, run.out)
