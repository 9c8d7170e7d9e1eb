"""`huiyan lm train`: plain text becomes a language model, trained, measured, saved and reported."""

import shutil
import time
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from huiyan.core.devices import pick_device
from huiyan.core.errors import NonFiniteLossError, OutputError
from huiyan.core.files import write_json
from huiyan.core.processes import (
    is_first,
    join_processes,
    leave_processes,
    process_count,
    process_number,
    sum_of_all,
    wait_for_all,
)
from huiyan.data.token_file import TokenFile
from huiyan.models.config_file import CONFIG_FILE
from huiyan.models.generation_config import GenerationConfig
from huiyan.models.segment_checkpoint import save_segment_model
from huiyan.models.segment_writer import RecurrentWriter
from huiyan.models.segments import SegmentedDecoder, SegmentModel
from huiyan.models.transformer_xl import TransformerXL
from huiyan.tasks.language_model import StreamObjective, Streams, total_loss
from huiyan.training.loop import TrainingLoop, TrainingState, Validation
from huiyan.training.progress import Reporter, Silent, clock
from huiyan.workflows import run_folder
from huiyan.workflows.language.config import LanguageRun
from huiyan.workflows.language.models import model_of, tokenizer_to_go_on
from huiyan.workflows.language.report import write_report
from huiyan.workflows.language.score import scored
from huiyan.workflows.language.score_picture import html_picture
from huiyan.workflows.language.texts import TOKENS, Prepared, figures, open_prepared, prepare, unknown_warning
from huiyan.workflows.provenance import command_of, describe_run, describe_training
from huiyan.workflows.writing import TextWriter

REPORT = "report.json"
_PROMPT, _SAMPLE, _SHOWN = 16, 200, 400  # tokens


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
    device = pick_device(run.training.device)
    join_processes(device)
    try:
        say, out = (reporter or Silent()) if is_first() else Silent(), Path(run.out)
        if is_first():
            named = [*run.texts, run.text.validation, run.text.test, run.model.model]
            run_folder.check_out(out, [name for name in named if name], resume=resume, overwrite=overwrite)
            if resume and (out / REPORT).is_file():
                raise OutputError(
                    f"The run in {out} is finished: there is nothing to resume.",
                    hint="Use --overwrite to train again, or name another folder.",
                )
        wait_for_all()
        own = run_folder.replacing(out, overwrite=overwrite, saved_as=CONFIG_FILE) if is_first() else nullcontext()
        with own:
            return _train_in(out, run, say, resume=resume)
    finally:
        leave_processes()


def _train_in(out: Path, run: LanguageRun, say: Reporter, *, resume: bool) -> dict[str, Any] | None:
    """Prepare, train, judge and report, in a folder that is the run's own."""
    began = time.monotonic()
    tokenizer = tokenizer_to_go_on(run.model)
    if is_first():
        prepare(run, tokenizer=tokenizer, out=out, say=say.note)
    wait_for_all()
    prepared = open_prepared(out)
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

    model = model_of(run.model, prepared.tokenizer, seed=run.training.seed)
    model.to(pick_device(run.training.device))
    warnings = [text for name, part in prepared.parts.items() if (text := unknown_warning(name, part))]
    for text in warnings:
        say.note(f"warning: {text}")
    say.note(f"model: {run.model.model}, {sum(parameter.numel() for parameter in model.parameters()):,} parameters")
    write("training")
    try:
        state = _train(out, run, prepared, model, say, resume=resume)
    except NonFiniteLossError as error:
        write("failed", error=str(error))
        raise
    device = next(model.parameters()).device
    described |= describe_run(device)
    if is_first():
        save_segment_model(model, out)
        prepared.tokenizer.save(out)
    if state.interrupted:
        write("interrupted", step=state.step)
        return None
    say.note("measuring the model on the test part")
    report = _report(run, prepared, model, state)
    report["warnings"] = warnings
    timings = {"total": time.monotonic() - began, "training": state.seconds}
    report["run"] = described | {"status": "finished", "timings_s": timings}
    if is_first():
        shown = html_picture(scored(model, prepared.tokenizer, _beginning(prepared)))
        write_report(out, report, surprise=shown)
        write("finished", timings_s=timings)
        # The best weights are in the folder now; the state for --resume and the tokens have served.
        for part in (run_folder.CHECKPOINTS, TOKENS):
            shutil.rmtree(out / part, ignore_errors=True)
        say.note(f"finished in {clock(time.monotonic() - began)}: {out}")
    return report


def _report(run: LanguageRun, prepared: Prepared, model: SegmentModel, state: TrainingState) -> dict[str, Any]:
    """Look at the test part, this once, and gather what there is to tell."""
    model.eval()
    return {
        "format": 1,
        "task": "language-model",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "text": {"files": list(run.texts), "tokens": run.text.tokens, "parts": prepared.describe()},
        "model": {
            "kind": run.model.model,
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "vocabulary": model.vocab_size,
        },
        "training": describe_training(state, next(model.parameters()).device, "loss"),
        **{name: measure(model, prepared.parts[name], run) for name in ("validation", "test")},
        "sample": _sample(model, prepared, run.training.seed) if is_first() else None,
        "reproduce": command_line(run),
    }


def _train(
    out: Path, run: LanguageRun, prepared: Prepared, model: SegmentModel, say: Reporter, *, resume: bool
) -> TrainingState:
    training = run.training
    objective = StreamObjective(model, streams_of(prepared.parts["train"], run, batch=training.batch_tokens))
    validation = prepared.parts["validation"]

    def judge() -> dict[str, float]:
        return measure(model, validation, run)

    loop = TrainingLoop(
        objective,
        Validation(judge, len(validation), "loss"),
        training,
        reporter=say,
        folder=out / run_folder.CHECKPOINTS,
        identity={"data": prepared.fingerprint, "model options": repr(run.model.to_dict())},
        tracker=run_folder.tracker_for(out, training, run.model.model, say.note) if is_first() else None,
    )
    if resume:
        loop.check_start()
    return loop.run(resume=resume)


def _sample(model: SegmentModel, prepared: Prepared, seed: int) -> dict[str, Any]:
    """What the model writes after the beginning of the test part."""
    ids = prepared.parts["test"].ids[:_PROMPT].tolist()
    decoder = isinstance(model, SegmentedDecoder)
    writes = model.model if isinstance(model, SegmentedDecoder) else RecurrentWriter(model)
    room = model.max_length - len(ids) if isinstance(model, SegmentedDecoder) else _SAMPLE
    if (decoder and room < 1) or (isinstance(model, TransformerXL) and not model.config.memory_length):
        return {}
    writer = TextWriter(writes, prepared.tokenizer)
    prompt = prepared.tokenizer.decode(ids)
    config = GenerationConfig(max_tokens=min(_SAMPLE, room), sample=True, top_p=0.9, seed=seed)
    return {"prompt": prompt, "seed": seed, "text": "".join(writer.follow(ids, (), config))}


def _beginning(prepared: Prepared) -> str:
    return prepared.tokenizer.decode(prepared.parts["test"].ids[:_SHOWN].tolist())


def streams_of(part: TokenFile, run: LanguageRun, *, batch: int) -> Streams:
    """A part of the text in the streams of this process: as many as a batch of tokens has segments.

    Raises:
        ConfigError: the part is too short.
    """
    length, count = run.model.segment_length, process_count()
    n_streams = max(1, min(batch // length, (len(part) - 1) // count))
    return Streams(part.ids, n_streams=n_streams, segment_length=length, number=process_number(), count=count)


def measure(model: SegmentModel, part: TokenFile, run: LanguageRun) -> dict[str, float]:
    """The figures of a model on a part of the text, all processes together.

    Args:
        model: in evaluation mode.
        part: of the text.
        run: how it is read.
    """
    # Long streams lose little at their beginnings: fewer than in training, where a part is short.
    n_segments = len(part) // (run.model.segment_length * 16)
    batch = min(run.training.batch_tokens, max(1, n_segments) * run.model.segment_length)
    device = next(model.parameters()).device
    nats, n = total_loss(model, streams_of(part, run, batch=batch))
    return figures(sum_of_all(nats, device), round(sum_of_all(n, device)), part)


def command_line(run: LanguageRun) -> str:
    """The command that does this run again."""
    return command_of(["huiyan", "lm", "train", *run.texts], (run.text, run.model, run.training), run.out)
