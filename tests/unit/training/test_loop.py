"""The training loop on a model small enough to reason about."""

import os
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from huiyan.core.errors import ConfigError, NonFiniteLossError
from huiyan.data.packing import training_batches
from huiyan.training import checkpoints
from huiyan.training.checkpoints import read_checkpoint, weights_of
from huiyan.training.config import TrainingConfig
from huiyan.training.loop import TrainingLoop, TrainingState, Validation
from huiyan.training.progress import Silent

N_ROWS = 24


class Toy:
    """Two linear layers on random inputs, with dropout, so that randomness matters."""

    def __init__(self, *, dropout: float = 0.5, poison: int | None = None) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 3))
            self.inputs = torch.randn(N_ROWS, 5)
            self.labels = torch.randint(3, (N_ROWS,))
        self.lengths: Sequence[int] = [2 + row % 5 for row in range(N_ROWS)]
        if poison is not None:
            self.inputs[poison] = float("nan")
        self.seen: list[list[int]] = []

    def batches(self, epoch: int, *, batch_tokens: int, seed: int) -> list[list[int]]:
        return training_batches(self.lengths, batch_tokens=batch_tokens, seed=seed, epoch=epoch)

    def carried(self) -> dict[str, Tensor]:
        return {}

    def set_carried(self, tensors: dict[str, Tensor]) -> None:
        assert not tensors

    def layer_groups(self) -> list[list[nn.Parameter]]:
        return [list(self.model[0].parameters()), list(self.model[3].parameters())]

    def loss_sum(self, rows: Sequence[int]) -> Tensor:
        self.seen.append(list(rows))
        picked = torch.tensor(list(rows))
        return F.cross_entropy(self.model(self.inputs[picked]), self.labels[picked], reduction="sum")

    def loss_weight(self, rows: Sequence[int]) -> float:
        return float(len(rows))

    def describe(self, rows: Sequence[int]) -> list[str]:
        return [f"toy.csv:{row + 2}" for row in rows]

    def figures(self) -> dict[str, float]:
        known = ~self.inputs.isnan().any(dim=1)
        with torch.inference_mode():
            loss = float(F.cross_entropy(self.model(self.inputs[known]), self.labels[known]))
        return {"loss": loss, "accuracy": 1 - loss, "macro_f1": 1 - loss, "mcc": 1 - loss}


class StopAfter(Silent):
    """Sends this process the signal a person's Ctrl-C sends, after a number of steps."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def step(self, step: int, **_: float) -> None:
        if step == self.steps:
            os.kill(os.getpid(), signal.SIGINT)


def loop_for(toy: Toy, folder: Path | None = None, reporter: Silent | None = None, **options: object) -> TrainingLoop:
    settings = {"batch_tokens": 12, "learning_rate": 0.05, "precision": "fp32", "device": "cpu", "patience": 0}
    return TrainingLoop(
        toy,
        Validation(toy.figures, tokens=sum(toy.lengths)),
        TrainingConfig(**(settings | options)),  # pyright: ignore[reportArgumentType] (a mapping of options)
        reporter=reporter or Silent(),
        folder=folder,
        identity={"data": "toy"},
    )


def equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_training_lowers_the_loss() -> None:
    toy = Toy(dropout=0.0)
    before = toy.figures()["loss"]
    loop_for(toy, epochs=10).run()
    assert toy.figures()["loss"] < 0.7 * before


@pytest.mark.parametrize("accumulate", [2, 3])
def test_accumulated_batches_equal_one_batch(accumulate: int) -> None:
    # Batches of unequal size, weighted by their rows: the mean of the batches' means would be another number.
    small, large = Toy(dropout=0.0), Toy(dropout=0.0)
    rows = list(range(7 * accumulate + 1))
    parts = [rows[start : start + 7] for start in range(0, len(rows), 7)]
    for toy, batches in ((small, parts), (large, [rows])):
        loop = loop_for(toy)
        losses = list(loop._accumulate(batches, 1))  # pyright: ignore[reportPrivateUsage] (the sum is what is tested)
        assert len(losses) == len(batches)
    for one, other in zip(small.model.parameters(), large.model.parameters(), strict=True):
        assert one.grad is not None and other.grad is not None
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-5, atol=1e-7)


def test_accumulation_makes_fewer_steps() -> None:
    assert loop_for(Toy(), epochs=1, accumulate=3).run().step * 3 >= loop_for(Toy(), epochs=1).run().step


def test_the_same_seed_gives_the_same_run_and_another_does_not() -> None:
    runs = [Toy(), Toy(), Toy()]
    for toy, seed in zip(runs, (4, 4, 5), strict=True):
        loop_for(toy, seed=seed).run()
    assert equal(weights_of(runs[0].model), weights_of(runs[1].model))
    assert runs[0].seen == runs[1].seen
    assert runs[0].seen != runs[2].seen


def test_the_caller_keeps_its_random_numbers() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    loop_for(Toy()).run()
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("stop_at", [1, 5, 9])
def test_an_interrupted_run_goes_on_to_the_same_weights(tmp_path: Path, stop_at: int) -> None:
    whole, broken = Toy(), Toy()
    expected = loop_for(whole, tmp_path / "whole").run()
    first = loop_for(broken, tmp_path / "broken", reporter=StopAfter(stop_at)).run()
    assert first.interrupted and first.step == stop_at
    resumed_toy = Toy()
    resumed = loop_for(resumed_toy, tmp_path / "broken").run(resume=True)
    assert not resumed.interrupted and resumed.step == expected.step
    assert equal(weights_of(resumed_toy.model), weights_of(whole.model))
    assert [entry["train_loss"] for entry in resumed.history] == [entry["train_loss"] for entry in expected.history]


def test_resume_without_a_checkpoint_starts_afresh(tmp_path: Path) -> None:
    fresh, resumed = Toy(), Toy()
    loop_for(fresh, tmp_path / "a").run()
    loop_for(resumed, tmp_path / "b").run(resume=True)
    assert equal(weights_of(fresh.model), weights_of(resumed.model))


def test_resume_refuses_other_options(tmp_path: Path) -> None:
    loop_for(Toy(), tmp_path, reporter=StopAfter(3)).run()
    with pytest.raises(ConfigError, match=r"started with learning_rate = 0.05, and now has 0.01.*--overwrite"):
        loop_for(Toy(), tmp_path, learning_rate=0.01).run(resume=True)


def test_interrupted_before_the_first_validation_keeps_what_was_learned(tmp_path: Path) -> None:
    toy = Toy()
    untrained = weights_of(toy.model)
    loop_for(toy, tmp_path, reporter=StopAfter(1), validations_per_epoch=1).run()
    assert not equal(weights_of(toy.model), untrained)


def test_the_best_weights_are_kept_and_patience_stops(tmp_path: Path) -> None:
    toy = Toy(dropout=0.0)
    scores = iter([0.1, 0.9, 0.5, 0.4, 0.3, 0.2])
    at_best: dict[str, Tensor] = {}

    def figures() -> dict[str, float]:
        value = next(scores)
        if value == 0.9:
            at_best.update(weights_of(toy.model))
        return {"loss": 1.0, "accuracy": value, "macro_f1": 0.0, "mcc": 0.0}

    loop = loop_for(toy, tmp_path, patience=2, epochs=9, validations_per_epoch=1)
    loop.validation = Validation(figures, tokens=1, metric="accuracy")
    state = loop.run()
    assert state.stopped_early and not state.interrupted
    assert len([entry for entry in state.history if entry["validation"]]) == 4
    assert equal(weights_of(toy.model), at_best)
    (best,) = tmp_path.glob("best-*.safetensors")
    kept, described = read_checkpoint(best)
    assert equal(kept, at_best) and described == {"step": state.best_step}
    _, last = read_checkpoint(tmp_path / "last.safetensors")
    assert last["state"]["best_step"] == state.best_step


@pytest.mark.parametrize("steps", [3, 5])
def test_an_interrupted_run_stops_early_where_it_would_have(tmp_path: Path, steps: int) -> None:
    falling = iter([0.9, 0.5, 0.4, 0.3, 0.2, 0.1])

    def loop(reporter: Silent | None = None) -> TrainingLoop:
        loop = loop_for(Toy(), tmp_path, reporter, patience=2, epochs=9, batch_tokens=48, validations_per_epoch=1)
        figures = lambda: {"loss": 1.0, "accuracy": next(falling), "macro_f1": 0.0, "mcc": 0.0}  # noqa: E731 - named
        loop.validation = Validation(figures, tokens=1, metric="accuracy")
        return loop

    assert not loop(StopAfter(steps)).run().stopped_early
    state = loop().run(resume=True)
    assert state.stopped_early and next(falling) == 0.3  # after three looks, those before the interruption counted


def test_equal_figures_are_told_apart_by_the_loss() -> None:
    toy, losses = Toy(), iter([0.5, 0.2, 0.3, 0.4, 0.5, 0.6])
    loop = loop_for(toy)
    loop.validation = Validation(lambda: {"loss": next(losses), "accuracy": 1.0, "macro_f1": 1.0, "mcc": 1.0}, tokens=1)
    state = loop.run()
    assert (state.best_value, state.best_loss) == (1.0, 0.2)


def test_a_loss_is_better_when_it_is_lower() -> None:
    toy, losses = Toy(), iter([0.5, 0.2, 0.9, 0.9, 0.9, 0.9])
    loop = loop_for(toy)
    loop.validation = Validation(lambda: {"loss": next(losses)}, tokens=1, metric="loss")
    state = loop.run()
    assert state.best_value == -0.2


def test_a_nan_loss_names_the_step_and_the_rows(tmp_path: Path) -> None:
    toy = Toy(poison=17)
    with pytest.raises(NonFiniteLossError, match=r"loss became nan at step \d+, .*--learning-rate"):
        loop_for(toy, tmp_path).run()
    assert "toy.csv:19" in (tmp_path / "failed-batch.json").read_text()


def test_a_nan_loss_leaves_the_best_weights(tmp_path: Path) -> None:
    toy, figures = Toy(), iter([0.5, float("nan")])
    at_best: dict[str, Tensor] = {}

    def validate() -> dict[str, float]:
        loss = next(figures)
        if loss == 0.5:
            at_best.update(weights_of(toy.model))
        return {"loss": loss, "accuracy": 0.5, "macro_f1": 0.5, "mcc": 0.0}

    loop = loop_for(toy, tmp_path)
    loop.validation = Validation(validate, tokens=1)
    with pytest.raises(NonFiniteLossError):
        loop.run()
    assert equal(weights_of(toy.model), at_best)


def test_without_a_folder_an_interrupt_is_an_interrupt() -> None:
    # A shell starts its background jobs with SIGINT ignored, and Python leaves it so.
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            loop_for(Toy(), reporter=StopAfter(2)).run()
    finally:
        signal.signal(signal.SIGINT, previous)


def test_a_nan_validation_loss_stops() -> None:
    loop = loop_for(Toy())
    loop.validation = Validation(lambda: {"loss": float("nan"), "macro_f1": 0.0}, tokens=1)
    with pytest.raises(NonFiniteLossError, match="validation loss became nan after step"):
        loop.run()


def test_max_minutes_caps_the_steps_before_the_first_one(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    toy = Toy()
    original = toy.loss_sum

    def slow(rows: Sequence[int]) -> Tensor:
        now[0] += 10.0
        return original(rows)

    toy.loss_sum = slow  # pyright: ignore[reportAttributeAccessIssue] (a slower version of the same)
    monkeypatch.setattr("huiyan.training.plan.time.perf_counter", lambda: now[0])
    loop = loop_for(toy, epochs=50, max_minutes=2.0)
    loop.validation = Validation(toy.figures, tokens=4)
    state = loop.run()
    # 120 s at 10 s a step, less a tenth and the validations: between 6 and 11 steps of the hundreds asked for.
    assert 6 <= state.total_steps <= 11
    assert state.step == state.total_steps
    assert state.history[-1]["validation"] is not None


class Killed(Silent):
    """Dies in the first step, as from a SIGKILL: nothing is written any more."""

    def step(self, step: int, **_: float) -> None:
        raise KeyboardInterrupt


def test_the_number_of_steps_is_not_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = iter([5, 9])
    monkeypatch.setattr("huiyan.training.loop.steps_in_time", lambda *_args, **_kwargs: next(counts))
    with pytest.raises(KeyboardInterrupt):
        loop_for(Toy(), tmp_path, reporter=Killed(), max_minutes=1.0).run()
    assert not (tmp_path / "last.safetensors").exists()
    assert loop_for(Toy(), tmp_path, max_minutes=1.0).run(resume=True).total_steps == 5


def test_checkpoints_take_a_twentieth_of_the_time_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("huiyan.training.loop.time.monotonic", lambda: now[0])
    original = checkpoints.write_checkpoint

    def slow(path: Path, *rest: object) -> None:
        now[0] += 10.0
        original(path, *rest)  # pyright: ignore[reportArgumentType] (what it was called with)

    monkeypatch.setattr(checkpoints, "write_checkpoint", slow)
    toy = Toy()
    loss_sum = toy.loss_sum

    def work(rows: Sequence[int]) -> Tensor:
        now[0] += 7.0
        return loss_sum(rows)

    toy.loss_sum = work  # pyright: ignore[reportAttributeAccessIssue] (a slower version of the same)
    state = loop_for(toy, tmp_path, epochs=60, checkpoint_minutes=1e-6).run()
    assert 3 < state.saving_s / 10 < 60  # several were written
    assert state.saving_s <= 0.05 * now[0] + 40  # the first with best weights, and the one at the very end


def test_checkpoints_of_another_run_do_not_outlive_the_start_of_this_one(tmp_path: Path) -> None:
    loop_for(Toy(), tmp_path, seed=1).run()
    with pytest.raises(KeyboardInterrupt):
        loop_for(Toy(), tmp_path, reporter=Killed()).run()
    assert not list(tmp_path.glob("*.safetensors"))


def test_max_minutes_never_adds_steps() -> None:
    assert loop_for(Toy(), max_minutes=60.0).run().step == loop_for(Toy()).run().step


def test_the_timing_leaves_no_trace() -> None:
    timed, plain = Toy(), Toy()
    loop_for(timed, max_minutes=60.0).run()
    loop_for(plain).run()
    assert equal(weights_of(timed.model), weights_of(plain.model))


def test_gradients_are_clipped() -> None:
    # Adam divides the size of a gradient out, so what clipping did is seen in the moments it keeps.
    moments = []
    for clip in (0.0, 1e-3):
        loop = loop_for(Toy(dropout=0.0), epochs=1, clip=clip)
        loop.run()
        moments.append(max(float(state["exp_avg"].norm()) for state in loop.optimiser.state.values()))
    assert moments[1] < 1e-3 < moments[0]


def test_bf16_learns_with_float32_weights() -> None:
    toy = Toy(dropout=0.0)
    before = toy.figures()["loss"]
    state = loop_for(toy, epochs=10, precision="bf16").run()
    assert state.precision == "bf16"
    assert all(parameter.dtype == torch.float32 for parameter in toy.model.parameters())
    assert toy.figures()["loss"] < 0.8 * before


def test_history_has_a_line_for_every_step() -> None:
    state: TrainingState = loop_for(Toy(), epochs=2).run()
    assert [entry["step"] for entry in state.history] == list(range(1, state.step + 1))
    assert state.history[-1]["epoch"] == 2.0
