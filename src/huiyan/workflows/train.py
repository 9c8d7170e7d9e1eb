"""`huiyan train`: a table of labelled text becomes a trained, evaluated, saved and reported model."""

import shlex
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from huiyan.core.devices import peak_memory_bytes
from huiyan.core.errors import OutputError
from huiyan.core.files import write_json
from huiyan.models.sources import ModelSource
from huiyan.training.loop import TrainingState
from huiyan.training.progress import Reporter, Silent, clock
from huiyan.workflows import run_folder
from huiyan.workflows.assess import compare_with_baselines, figures_with_intervals, hardest_mistakes
from huiyan.workflows.config import TrainRun
from huiyan.workflows.fit import Fitted, fingerprint_of, fit_classifier
from huiyan.workflows.models import fetch_model
from huiyan.workflows.provenance import describe_run
from huiyan.workflows.report import write_report
from huiyan.workflows.tables import Tables, joined, read_tables


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
        HuiyanError: the data, the model, the options or the folder cannot be used. Nothing is overwritten before the
            data and the model have been found usable.
    """
    say = reporter or Silent()
    out = Path(run.out)
    run_folder.check_out(out, resume=resume, overwrite=overwrite)
    if resume and (out / "report.json").is_file():
        raise OutputError(
            f"The run in {out} is finished: there is nothing to resume.",
            hint="Use --overwrite to train again, or name another folder.",
        )
    began = time.monotonic()
    # Nothing in --out is touched before the data and the model are known to be usable.
    with tempfile.TemporaryDirectory(prefix="huiyan-") as waiting:
        tables = read_tables(run.file, run.data, seed=run.training.seed, folder=Path(waiting), say=say.note)
        source = fetch_model(run.model.model, revision=run.model.revision)
        say.note(f"model: {source.name} {source.revision or ''} ({source.licence or 'licence not stated'})")
        checkpoints = run_folder.begin(out, overwrite=overwrite)
        tables.write(out)
    described = _describe(run, tables)
    write_json(out / run_folder.RUN, described | {"status": "training"})
    fitted = fit_classifier(
        tables.train,
        tables.validation,
        source,
        columns=(run.data.text, run.data.label),
        model_config=run.model,
        training=run.training,
        reporter=say,
        checkpoint_folder=checkpoints,
        resume=resume,
    )
    fitted.artifact.save(out)
    described |= describe_run(fitted.device)
    if fitted.state.interrupted:
        write_json(out / run_folder.RUN, described | {"status": "interrupted", "step": fitted.state.step})
        return None
    trained = time.monotonic()
    report = _report(run, tables, source, fitted, say)
    described |= {
        "status": "finished",
        "timings_s": {"total": time.monotonic() - began, "training": fitted.state.seconds},
    }
    described["timings_s"]["evaluation"] = time.monotonic() - trained
    report["run"] = described
    write_report(out, report)
    write_json(out / run_folder.RUN, described)
    # The best weights are in the folder now; the state for --resume has served.
    for path in checkpoints.iterdir():
        path.unlink()
    checkpoints.rmdir()
    say.note(f"finished in {clock(time.monotonic() - began)}: {out}")
    return report


def _describe(run: TrainRun, tables: Tables) -> dict[str, Any]:
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command_line(run),
        "config": run.to_dict(),
        "seed": run.training.seed,
        "data_fingerprint": {
            "train": fingerprint_of(tables.train),
            "validation": fingerprint_of(tables.validation),
            "test": fingerprint_of(tables.test),
        },
    }


def _report(run: TrainRun, tables: Tables, source: ModelSource, fitted: Fitted, say: Reporter) -> dict[str, Any]:
    """Look at the test rows, this once, and gather what there is to tell."""
    classes = fitted.artifact.manifest.classes
    index = {label: number for number, label in enumerate(classes)}
    say.note(f"evaluating once on {len(tables.test)} test rows, and training the baselines")
    probabilities = fitted.artifact.probabilities(tables.test.texts)
    labels = np.array([index[label] for label in tables.test.labels])
    return {
        "format": 1,
        "task": "classify",
        "question": f"Which {run.data.label} does a text ({', '.join(run.data.text)}) have?",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "classes": list(classes),
        "data": tables.describe(run, fitted.token_lengths, fitted.artifact.manifest.max_length),
        "model": {
            "source": source.name,
            "origin": source.origin,
            "licence": source.licence,
            "revision": source.revision,
            "family": fitted.artifact.manifest.family,
            "parameters": sum(parameter.numel() for parameter in fitted.artifact.model.parameters()),
            "pooling": run.model.pooling,
        },
        "training": _describe_training(run, fitted, fitted.state),
        "test": figures_with_intervals(labels, probabilities, classes, seed=run.training.seed),
        "baselines": compare_with_baselines(
            joined(tables.train, tables.validation), tables.test, probabilities, classes, seed=run.training.seed
        ),
        "mistakes": hardest_mistakes(tables.test, probabilities, classes),
        "warnings": tables.warnings,
        "reproduce": command_line(run),
    }


def _describe_training(run: TrainRun, fitted: Fitted, state: TrainingState) -> dict[str, Any]:
    machine = describe_run(fitted.device)["machine"]
    return {
        "seconds": state.seconds,
        "steps": state.step,
        "epochs": state.epochs_done,
        "best_step": state.best_step,
        "selection_metric": run.training.metric,
        "stopped_early": state.stopped_early,
        "precision": state.precision,
        "device": str(fitted.device),
        "threads": machine["threads"],
        "tokens_per_second": state.tokens / max(state.seconds, 1e-9),
        "peak_memory_bytes": peak_memory_bytes(fitted.device),
        "history": state.history,
    }


def command_line(run: TrainRun) -> str:
    """The command that does this run again: every option that is not at its default."""
    words = ["huiyan", "train", run.file]
    for part in (run.data, run.model, run.training):
        defaults = {name: field.default for name, field in type(part).__dataclass_fields__.items()}
        for name, value in part.to_dict().items():
            if value == defaults[name]:
                continue
            for item in value if isinstance(value, tuple) else (value,):
                words += [f"--{name.replace('_', '-')}", str(item)]
    return shlex.join([*words, "--out", run.out])
