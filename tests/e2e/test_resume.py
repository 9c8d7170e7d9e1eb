"""A run that is killed goes on to the same weights, bit for bit: real processes, real SIGKILL, every kind of moment."""

import json
import multiprocessing
import os
import signal
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest

from huiyan.core import files
from huiyan.core.files import sha256_of
from huiyan.tasks.artifact import Artifact
from huiyan.training import checkpoints
from huiyan.training.loop import TrainingLoop
from huiyan.training.start import Start
from huiyan.training.tracking import steps_in_events
from huiyan.workflows import train as train_module
from huiyan.workflows.config import TrainRun
from huiyan.workflows.train import train

MOMENTS = {
    "before the first step": (Start, "write", 1, "after"),
    "in a step, before any checkpoint": (TrainingLoop, "_accumulate", 4, "before"),
    "in the middle of the first checkpoint": (checkpoints, "save_file", 1, "half-way"),
    "before a checkpoint has its name": (files.Path, "replace", 4, "before"),
    "between the best weights and the state": (checkpoints, "write_checkpoint", 2, "after"),
    "while the validation rows are looked at": (TrainingLoop, "_validate", 2, "before"),
    "after a checkpoint": (TrainingLoop, "_save", 3, "after"),
    "when training is over": (Artifact, "save", 1, "before"),
    "when the model is saved": (Artifact, "save", 1, "after"),
    "while it is judged": (train_module, "_report", 1, "before"),
    "before the report is whole": (train_module, "write_report", 1, "before"),
}
"""What is called, the how-manieth call of this process it dies in, and when in the call."""


@pytest.fixture(scope="module")
def processes() -> ForkServerContext:
    """Processes that have imported everything when they start."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def dying(function: Callable[..., Any], number: int, when: str) -> Callable[..., Any]:
    """The function, whose so-manieth call kills the process."""
    calls = 0

    def called(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == number and when == "before":
            die()
        result = function(*args, **kwargs)
        if calls == number and when == "half-way":
            written = Path(args[1])
            os.truncate(written, written.stat().st_size // 2)
            die()
        if calls == number:
            die()
        return result

    return called


def run_and_die(run: TrainRun, moment: str | None) -> None:
    """Go on with a run until the moment."""
    if moment is not None:
        owner, name, number, when = MOMENTS[moment]
        setattr(owner, name, dying(getattr(owner, name), number, when))
    train(run, resume=True)


def outcome(out: Path) -> tuple[str, list[dict[str, Any]], Any]:
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    return sha256_of(out / "model.safetensors"), report["training"]["history"], report["test"]


@pytest.fixture
def run_in(
    tiny_model: Path, write_reviews: Callable[..., Path], tiny_options: Callable[..., TrainRun], tmp_path: Path
) -> Callable[..., TrainRun]:
    """A run with accumulation and early stopping, whose checkpoints come as often as they may."""
    write_reviews(tmp_path / "reviews.csv", 240)
    often = {"accumulate": 2, "patience": 3, "epochs": 6, "batch_tokens": 256, "checkpoint_minutes": 1e-6}

    def options(name: str, **more: Any) -> TrainRun:
        return tiny_options(tmp_path / "reviews.csv", tiny_model, tmp_path / name, **(often | more))

    return options


def test_killed_at_every_kind_of_moment(
    run_in: Callable[..., TrainRun], processes: ForkServerContext, tmp_path: Path
) -> None:
    # Each process goes on where the one before was killed, and is killed in turn.
    for moment in [*MOMENTS, None]:
        process = processes.Process(target=run_and_die, args=(run_in("killed", track="tensorboard"), moment))
        process.start()
        process.join()
        assert process.exitcode == (0 if moment is None else -signal.SIGKILL), moment
    train(run_in("whole"))
    assert outcome(tmp_path / "killed") == outcome(tmp_path / "whole")
    assert not list((tmp_path / "killed").rglob(".*"))
    history, steps = outcome(tmp_path / "killed")[1], steps_in_events(tmp_path / "killed" / "tracking")
    assert sorted(steps["train/loss"]) == [entry["step"] for entry in history]
    assert sorted(steps["validation/loss"]) == [entry["step"] for entry in history if entry["validation"]]


def test_killed_whenever_it_happens(
    run_in: Callable[..., TrainRun], processes: ForkServerContext, tmp_path: Path
) -> None:
    killed = 0
    for wait_s in (0.4, 0.7, 1.0, 1.3, None):
        process = processes.Process(target=run_and_die, args=(run_in("killed", epochs=12, patience=0), None))
        process.start()
        process.join(wait_s)
        if process.is_alive():
            process.kill()
            killed += 1
        process.join()
        if (tmp_path / "killed" / "report.json").exists():
            break
    assert killed
    train(run_in("whole", epochs=12, patience=0))
    assert outcome(tmp_path / "killed") == outcome(tmp_path / "whole")
