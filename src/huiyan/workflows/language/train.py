"""`huiyan lm train`: plain text becomes a language model, trained, measured, saved and reported."""

import shutil
import time
from contextlib import nullcontext
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from huiyan.core.devices import pick_device
from huiyan.core.errors import NonFiniteLossError, OutputError
from huiyan.core.files import write_json
from huiyan.core.processes import first_alone, is_first, joined, process_count
from huiyan.models.config_file import CONFIG_FILE
from huiyan.training.loop import TrainingLoop, TrainingState, Validation
from huiyan.training.progress import Reporter, Silent, clock
from huiyan.workflows import run_folder
from huiyan.workflows.language.causal import CausalLearner
from huiyan.workflows.language.config import LanguageRun
from huiyan.workflows.language.learner import Learner
from huiyan.workflows.language.masked import MaskedLearner
from huiyan.workflows.language.models import tokenizer_to_go_on
from huiyan.workflows.language.report import write_report
from huiyan.workflows.language.texts import TOKENS, Prepared, open_prepared, prepare, unknown_warning
from huiyan.workflows.provenance import command_of, describe_run, describe_training

REPORT = "report.json"
HIGHEST_RATE_TO_GO_ON = 5e-4


def train_language_model(
    run: LanguageRun, *, reporter: Reporter | None = None, resume: bool = False, overwrite: bool = False
) -> dict[str, Any] | None:
    """Train a language model on plain text.

    Started by ``torchrun``, the processes train one model: each reads streams of its own, and the first one writes.

    Args:
        run: files, model and options.
        reporter: who is told how it goes.
        resume: go on from the last checkpoint in ``run.out``; with none there, start afresh.
        overwrite: replace a run that is in ``run.out``.
    Returns:
        The report; None when the run was interrupted (the folder then holds the best model so far, and ``resume`` goes
        on).
    Raises:
        HuiyanError: the text, the model, the options or the folder cannot be used. A run that was to be overwritten is
            still there then.
    """
    device, out = pick_device(run.training.device), Path(run.out)
    with joined(device):
        say = (reporter or Silent()) if is_first() else Silent()
        first_alone(partial(_check_out, out, run, resume=resume, overwrite=overwrite), device)
        own = run_folder.replacing(out, overwrite=overwrite, saved_as=CONFIG_FILE) if is_first() else nullcontext()
        with own:
            return _train_in(out, run, say, resume=resume)


def _check_out(out: Path, run: LanguageRun, *, resume: bool, overwrite: bool) -> None:
    named = [*run.texts, run.text.validation, run.text.test, run.model.model]
    run_folder.check_out(out, [name for name in named if name], resume=resume, overwrite=overwrite)
    if resume and (out / REPORT).is_file():
        raise OutputError(
            f"The run in {out} is finished: there is nothing to resume.",
            hint="Use --overwrite to train again, --model to go on from it, or name another folder.",
        )


def _train_in(out: Path, run: LanguageRun, say: Reporter, *, resume: bool) -> dict[str, Any] | None:
    """Prepare, train, judge and report, in a folder that is the run's own."""
    began = time.monotonic()
    tokenizer = tokenizer_to_go_on(run.model)
    device = pick_device(run.training.device)
    first_alone(partial(prepare, run, tokenizer=tokenizer, out=out, say=say.note), device)
    prepared = open_prepared(out)
    if resume and not (out / run_folder.CHECKPOINTS).is_dir():
        say.note(f"nothing to resume in {out}: training begins at the beginning")
    described = {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command_line(run),
        "config": run.to_dict(),
        "seed": run.training.seed,
        "data_fingerprint": prepared.fingerprint,
        "processes": process_count(),
    }

    def write(status: str, **more: Any) -> None:
        if is_first():
            write_json(out / run_folder.RUN, described | {"status": status} | more)

    learner: Learner = (MaskedLearner if run.model.is_masked else CausalLearner)(run, prepared, device)
    warnings = _warnings(run, prepared, going_on=tokenizer is not None)
    for text in warnings:
        say.note(f"warning: {text}")
    n_parameters = sum(parameter.numel() for parameter in learner.model.parameters())
    say.note(f"model: {run.model.architecture}, {n_parameters:,} parameters")
    write("training")
    try:
        state = _train(out, run, prepared, learner, say, resume=resume)
    except NonFiniteLossError as error:
        write("failed", error=str(error))
        raise
    described |= describe_run(device)
    if is_first():
        learner.save(out)
        prepared.tokenizer.save(out)
    if state.interrupted:
        write("interrupted", step=state.step)
        return None
    say.note("measuring the model on the test part")
    report = _report(run, prepared, learner, state)
    report["warnings"] = warnings
    timings = {"total": time.monotonic() - began, "training": state.seconds}
    report["run"] = described | {"status": "finished", "timings_s": timings}
    if is_first():
        write_report(out, report, surprise=learner.surprise())
        write("finished", timings_s=timings)
        # The best weights are in the folder now; the state for --resume and the tokens have served.
        for part in (run_folder.CHECKPOINTS, TOKENS):
            shutil.rmtree(out / part, ignore_errors=True)
        say.note(f"finished in {clock(time.monotonic() - began)}: {out}")
    return report


def _warnings(run: LanguageRun, prepared: Prepared, *, going_on: bool) -> list[str]:
    """What to keep in mind of a run's text and options."""
    found = [told for name, part in prepared.parts.items() if (told := unknown_warning(f"{name} part", part))]
    rate = run.training.learning_rate
    if going_on and rate > HIGHEST_RATE_TO_GO_ON:
        found.append(
            f"a learning rate of {rate:g} is for fresh weights, and a model to go on from may lose by it what it has "
            "learnt; try --learning-rate 1e-4"
        )
    return found


def _report(run: LanguageRun, prepared: Prepared, learner: Learner, state: TrainingState) -> dict[str, Any]:
    """Look at the test part, this once, and gather what there is to tell."""
    model = learner.model.eval()
    return {
        "format": 1,
        "task": "language-model",
        "objective": run.model.objective,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "text": {"files": list(run.texts), "tokens": run.text.tokens, "parts": prepared.describe()},
        "model": {
            "kind": run.model.architecture,
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "vocabulary": prepared.tokenizer.vocab_size,
        },
        "training": describe_training(state, next(model.parameters()).device, "loss"),
        **{name: learner.measure(prepared.parts[name]) for name in ("validation", "test")},
        "sample": learner.sample() if is_first() else None,
        "reproduce": command_line(run),
    }


def _train(
    out: Path, run: LanguageRun, prepared: Prepared, learner: Learner, say: Reporter, *, resume: bool
) -> TrainingState:
    training = run.training
    validation = prepared.parts["validation"]
    loop = TrainingLoop(
        learner.objective(),
        Validation(lambda: learner.measure(validation), len(validation), "loss"),
        training,
        reporter=say,
        folder=out / run_folder.CHECKPOINTS,
        identity={"data": prepared.fingerprint, "model options": repr(run.model.to_dict())},
        tracker=run_folder.tracker_for(out, training, run.model.model, say.note) if is_first() else None,
    )
    if resume:
        loop.check_start()
    return loop.run(resume=resume)


def command_line(run: LanguageRun) -> str:
    """The command that does this run again."""
    return command_of(["huiyan", "lm", "train", *run.texts], (run.text, run.model, run.training), run.out)
