"""Every step once in a tracker's files, whatever happens in between."""

import json
from pathlib import Path
from typing import Any

import pytest

from huiyan.core.errors import MissingExtraError
from huiyan.training import tracking
from huiyan.training.config import TrainingConfig
from huiyan.training.tracking import Tracker, figures_of, require_tracker, steps_in_events


def entry(step: int, *, validated: bool = False) -> dict[str, Any]:
    return {
        "step": step,
        "epoch": step / 10,
        "learning_rate": 1e-4,
        "train_loss": 1 / step,
        "validation_loss": 0.5 if validated else None,
        "validation": {"accuracy": 0.75} if validated else None,
    }


HISTORY = [entry(step, validated=step % 3 == 0) for step in range(1, 13)]


def tracker(folder: Path, notes: list[str] | None = None, name: Any = "tensorboard") -> Tracker:
    said = [] if notes is None else notes
    return Tracker(name, folder, run_name="run", options={"epochs": 3}, note=said.append)


def tell(folder: Path, before: list[dict[str, Any]], after: list[dict[str, Any]]) -> None:
    one = tracker(folder)
    one.begin(before)
    for each in after:
        one.tell(each)
    one.end()


def test_tensorboards_files_hold_the_history(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    tell(tmp_path, [], HISTORY)
    read = EventAccumulator(str(tmp_path))
    read.Reload()
    for tag, count in (("train/loss", 12), ("validation/loss", 4), ("validation/accuracy", 4)):
        wanted = [(one["step"], figures_of(one)[tag]) for one in HISTORY if tag in figures_of(one)]
        found = [(event.step, event.value) for event in read.Scalars(tag)]
        assert len(found) == count and [step for step, _ in found] == [step for step, _ in wanted]
        assert [value for _, value in found] == pytest.approx([value for _, value in wanted])


@pytest.mark.parametrize(("told", "checkpoint"), [(7, 4), (4, 7), (6, 6), (0, 5)])
def test_steps_computed_again_are_told_once_and_none_is_missing(tmp_path: Path, told: int, checkpoint: int) -> None:
    """A run told of some steps, was killed, and goes on from a checkpoint before or after the last of them."""
    tell(tmp_path, [], HISTORY[:told])
    tell(tmp_path, HISTORY[:checkpoint], HISTORY[checkpoint:])
    steps = steps_in_events(tmp_path)
    assert sorted(steps["train/loss"]) == list(range(1, 13))
    assert sorted(steps["validation/accuracy"]) == [3, 6, 9, 12]


def test_what_a_kill_cut_off_is_told_again(tmp_path: Path) -> None:
    tell(tmp_path, [], HISTORY[:6])
    (events,) = tmp_path.glob("events.*")
    events.write_bytes(events.read_bytes()[:-9])
    assert max(max(steps) for steps in steps_in_events(tmp_path).values()) <= 6
    tell(tmp_path, HISTORY[:5], HISTORY[5:])
    steps = steps_in_events(tmp_path)
    # In whatever order: both files are of the same second.
    assert sorted(steps["train/loss"]) == sorted(steps["train/epoch"]) == list(range(1, 13))
    assert sorted(steps["validation/accuracy"]) == [3, 6, 9, 12]


class Recorder:
    """A tracker of accelerate's form that keeps what it is told, or fails."""

    told: list[tuple[int, dict[str, float]]]
    opened: list[dict[str, Any]]
    fails_at = 0

    def __init__(self, **given: Any) -> None:
        Recorder.opened.append(given)

    def start(self) -> None:
        pass

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        Recorder.told.append((0, values))

    def log(self, values: dict[str, float], step: int) -> None:
        if step == Recorder.fails_at:
            raise ConnectionError("the service is down")
        Recorder.told.append((step, values))

    def finish(self) -> None:
        pass


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> type[Recorder]:
    import accelerate.tracking

    monkeypatch.setattr(accelerate.tracking, "WandBTracker", Recorder)
    monkeypatch.setattr(tracking, "require_tracker", lambda _: None)
    Recorder.told, Recorder.opened, Recorder.fails_at = [], [], 0
    return Recorder


def test_a_service_is_told_each_step_once_and_the_options_first(tmp_path: Path, recorded: type[Recorder]) -> None:
    for before, after in (([], HISTORY[:7]), (HISTORY[:4], HISTORY[4:])):
        one = tracker(tmp_path, name="wandb")
        one.begin(before)
        for each in after:
            one.tell(each)
        one.end()
    assert [step for step, _ in recorded.told] == list(range(13))
    assert recorded.told[0][1] == {"epochs": 3}
    kept = json.loads((tmp_path / tracking.TOLD).read_text())
    assert kept["steps"]["train/loss"] == 12
    assert [one["id"] for one in recorded.opened] == [kept["run"]] * 2 and recorded.opened[1]["resume"] == "allow"


def test_a_service_that_fails_is_left_alone_and_the_training_goes_on(tmp_path: Path, recorded: type[Recorder]) -> None:
    notes: list[str] = []
    recorded.fails_at = 3
    one = tracker(tmp_path, notes, name="wandb")
    one.begin([])
    for each in HISTORY:
        one.tell(each)
    one.end()
    assert notes == ["warning: wandb failed, and is told no more: the service is down"]
    assert [step for step, _ in recorded.told] == [0, 1, 2]


def test_a_missing_library_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    find = tracking.importlib.util.find_spec
    monkeypatch.setattr(tracking.importlib.util, "find_spec", lambda name: None if name == "wandb" else find(name))
    with pytest.raises(MissingExtraError, match=r"pip install 'huiyan\[track\]' wandb"):
        require_tracker("wandb")
    monkeypatch.setattr(tracking.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'huiyan\[track\]'"):
        require_tracker("tensorboard")


def test_the_trackers_of_the_option_are_those_there_are() -> None:
    from typing import get_args, get_type_hints

    assert set(get_args(get_type_hints(TrainingConfig)["track"])) == {"none", *tracking._CLASSES}
