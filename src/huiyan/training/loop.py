"""The one training loop: batches in, a trained model out, with its best weights, its history and a way to go on."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from huiyan.core.devices import resolve_precision, wait_for
from huiyan.core.errors import NonFiniteLossError
from huiyan.core.files import write_json
from huiyan.core.processes import (
    add_gradients,
    agreed,
    any_of_all,
    gathered,
    is_first,
    own_of,
    process_count,
    process_number,
    sum_of_all,
)
from huiyan.core.seeds import derive_seed
from huiyan.training import checkpoints
from huiyan.training.config import LoopConfig
from huiyan.training.interrupt import StopRequest, stop_between_steps
from huiyan.training.optimiser import build_optimiser, set_learning_rate
from huiyan.training.plan import FEW_STEPS, Step, count_steps, steps_in_time, steps_of_epoch, walk
from huiyan.training.precision import autocast, gradient_scaler
from huiyan.training.progress import Reporter
from huiyan.training.schedules import learning_rate_factor
from huiyan.training.start import Start
from huiyan.training.tracking import Tracker

LAST = "last.safetensors"
"""The checkpoint that ``--resume`` goes on from."""
_HISTORY = 5_000
"""Steps that the history keeps about, of a run that is longer: it is written with every checkpoint."""
_SAVING_SHARE = 0.05
"""The most that checkpoints between steps may take of the time."""
_START_AGAIN = "start again with a lower --learning-rate, or with --precision fp32, and --overwrite."


class Objective(Protocol):
    """What a task gives the loop."""

    @property
    def model(self) -> nn.Module:
        """What is trained."""
        ...

    @property
    def lengths(self) -> Sequence[int]:
        """Tokens in each training row."""
        ...

    def batches(self, epoch: int, *, batch_tokens: int, seed: int) -> list[list[int]]:
        """The batches of an epoch, as row numbers, in order; the same again for the same arguments."""
        ...

    def carried(self) -> dict[str, Tensor]:
        """What a batch leaves for the next beside weights (the memory of a stream), by name; mostly nothing."""
        ...

    def set_carried(self, tensors: dict[str, Tensor]) -> None:
        """Go on with what ``carried`` gave."""
        ...

    def layer_groups(self) -> list[list[nn.Parameter]]:
        """The model's parameters by depth, embeddings first, head last."""
        ...

    def loss_sum(self, rows: Sequence[int]) -> Tensor:
        """The weighted loss summed over rows: the loop divides by the weight of the whole step."""
        ...

    def loss_weight(self, rows: Sequence[int]) -> float:
        """What the sum over rows is to be divided by."""
        ...

    def describe(self, rows: Sequence[int]) -> list[str]:
        """Where rows came from, for an error message."""
        ...


@dataclass
class TrainingState:
    """Where a run stands: all that is neither weights nor moments."""

    total_steps: int = 0
    step: int = 0
    best_value: float | None = None
    best_loss: float = 0.0
    best_step: int = 0
    stale: int = 0
    epochs_done: float = 0.0
    tokens: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    saving_s: float = 0.0
    precision: str = "fp32"
    stopped_early: bool = False
    interrupted: bool = False
    history: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])


@dataclass(frozen=True)
class Validation:
    """How a model is judged while it trains.

    Args:
        run: gives the figures of the model on the validation rows, ``loss`` among them.
        tokens: tokens in those rows, to foresee how long a look takes.
        metric: the figure that picks the best weights; ``loss`` is better the lower it is.
    """

    run: Callable[[], dict[str, float]]
    tokens: int
    metric: str = "macro_f1"


class TrainingLoop:
    """Trains an objective's model.

    Args:
        objective: the task: rows, model, loss.
        validation: how to judge the model.
        config: how to train.
        reporter: who is told.
        folder: where checkpoints go; None keeps none (then a run cannot go on after an interruption).
        identity: what the checkpoint belongs to, beside the configuration: a data fingerprint, the model's name.
        tracker: also told of every step.
    """

    def __init__(
        self,
        objective: Objective,
        validation: Validation,
        config: LoopConfig,
        *,
        reporter: Reporter,
        folder: Path | None = None,
        identity: dict[str, str] | None = None,
        tracker: Tracker | None = None,
    ) -> None:
        self.objective, self.validation, self.config = objective, validation, config
        self.reporter, self.folder, self.tracker = reporter, folder, tracker
        self.identity = {**(identity or {}), **{key: repr(value) for key, value in config.to_dict().items()}}
        if process_count() > 1:
            self.identity["processes"] = str(process_count())
        self.model = objective.model
        self.device = next(self.model.parameters()).device
        self.state = TrainingState(precision=resolve_precision(config.precision, self.device))
        self.names: dict[Tensor, str] = {parameter: name for name, parameter in self.model.named_parameters()}
        self.optimiser = build_optimiser(
            objective.layer_groups(),
            learning_rate=config.learning_rate,
            weight_decay=config.weight_decay,
            layer_decay=config.layer_decay,
        )
        self.scaler = gradient_scaler(self.state.precision, self.device)
        self.best_weights: dict[str, Tensor] | None = None
        self._epoch: tuple[int, list[Step]] = (-1, [])
        self._saved_at, self._saving_s = 0.0, 0.0

    def run(self, *, resume: bool = False) -> TrainingState:
        """Train to the end, to an early stop or to an interruption; the model then holds its best weights.

        Raises:
            NonFiniteLossError: the loss or the gradient became NaN or infinite; names the step and the rows.
            ConfigError: the checkpoint to resume from is of another configuration or other data.
        """
        try:
            self._run(resume=resume)
        finally:
            # Whatever ended the run. Before the first validation there is no best yet: what was learned is kept.
            if self.best_weights is not None:
                checkpoints.set_weights(self.model, self.best_weights)
        return self.state

    def _run(self, *, resume: bool) -> None:
        with _own_randomness(self.device):
            number = process_number()
            torch.manual_seed(derive_seed(self.config.seed, "training", *([number] if number else [])))
            if not (resume and self._restore()):
                self._begin()
            # A run that was killed while it was being judged has no step left to do.
            if not self._is_over:
                # Without a folder nothing could go on later: Ctrl-C then is what it is everywhere else.
                with stop_between_steps() if self.folder else nullcontext(StopRequest()) as stop:
                    self._train(stop)

    def _train(self, stop: StopRequest) -> None:
        state = self.state
        self._saved_at = time.monotonic()
        self.reporter.begin(state.total_steps, state.step)
        if self.tracker is not None:
            self.tracker.begin(state.history)
        try:
            for number, step in walk(self._steps, start=state.step, total=state.total_steps):
                began, began_on_cores = time.monotonic(), time.process_time()
                loss, rate, tokens = self._step(number, step)
                state.step, state.tokens = number, state.tokens + tokens
                state.epochs_done = step.epoch + step.epoch_done
                state.seconds += time.monotonic() - began
                state.cpu_seconds += time.process_time() - began_on_cores
                self._record(loss, rate, keep=step.validate)
                if step.validate:
                    self._validate(number)
                if self.tracker is not None:
                    self.tracker.tell(state.history[-1])
                asked, due = any_of_all([stop.asked, is_first() and self._checkpoint_is_due()], self.device)
                if asked or self._is_over or due:
                    self._save()
                if asked or self._is_over:
                    state.interrupted = asked and not self._is_over
                    break
        finally:
            self.reporter.end()
            if self.tracker is not None:
                self.tracker.end()

    def _step(self, number: int, step: Step) -> tuple[float, float, int]:
        """One optimiser step: its mean loss, learning rate and tokens."""
        self.model.train()
        config = self.config
        factor = learning_rate_factor(
            number - 1, total=self.state.total_steps, warmup=config.warmup, schedule=config.schedule
        )
        rate = set_learning_rate(self.optimiser, factor)
        loss = sum_of_all(sum(self._accumulate(step.batches, number)), self.device)
        add_gradients(list(self.names))
        self.scaler.unscale_(self.optimiser)
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), config.clip or float("inf"))
        # With fp16 an overflow is expected now and then: the scaler leaves that step out and scales less.
        if self.state.precision != "fp16" and not torch.isfinite(norm):
            self._stop_on_non_finite("gradient", float(norm), number, step.batches)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.optimiser.zero_grad(set_to_none=True)
        tokens = sum(self.objective.lengths[row] for batch in step.batches for row in batch)
        return loss, rate, round(sum_of_all(tokens, self.device))

    def _accumulate(self, batches: list[list[int]], number: int) -> Iterator[float]:
        """Add up the gradients of batches; gives each batch's share of the mean loss of the step."""
        # The weight of the whole step divides every part, so k batches of one step equal one batch k times as large.
        weight = sum_of_all(sum(self.objective.loss_weight(batch) for batch in batches), self.device)
        for batch in batches:
            with autocast(self.state.precision, self.device):
                loss = self.objective.loss_sum(batch) / weight
            value = float(loss.detach())
            # Of several processes all learn of it from the gradient.
            if process_count() == 1 and not math.isfinite(value):
                self._stop_on_non_finite("loss", value, number, [batch])
            self.scaler.scale(loss).backward()
            yield value

    def _stop_on_non_finite(self, what: str, value: float, number: int, batches: list[list[int]]) -> None:
        rows = [source for batch in batches for source in self.objective.describe(batch)]
        kept = ""
        if self.folder is not None:
            path = self.folder / "failed-batch.json"
            write_json(path, {"step": number, "what": what, "rows": rows})
            kept = f" All {len(rows)} are listed in {path}."
        raise NonFiniteLossError(
            f"The {what} became {value} at step {number}, in the batch with the rows {', '.join(rows[:5])}"
            f"{' …' if len(rows) > 5 else ''}.{kept}",
            hint=f"Look at those rows; {_START_AGAIN}",
        )

    def _record(self, loss: float, rate: float, *, keep: bool) -> None:
        state = self.state
        every = max(1, state.total_steps // _HISTORY)
        if state.history and not keep and state.history[-1]["step"] % every and not state.history[-1]["validation"]:
            del state.history[-1]
        state.history.append(
            {
                "step": state.step,
                "epoch": round(state.epochs_done, 4),
                "learning_rate": rate,
                "train_loss": loss,
                "validation_loss": None,
                "validation": None,
            }
        )
        recent = [entry["train_loss"] for entry in state.history[-20:]]
        self.reporter.step(
            state.step,
            loss=sum(recent) / len(recent),
            learning_rate=rate,
            tokens_per_second=state.tokens / max(state.seconds, 1e-9),
            left_s=state.seconds / state.step * (state.total_steps - state.step),
        )

    def _validate(self, number: int) -> None:
        state = self.state
        metric = self.validation.metric
        self.model.eval()
        found = self.validation.run()
        figures = dict(zip(found, agreed(list(found.values()), self.device), strict=True))
        if not math.isfinite(figures["loss"]):
            raise NonFiniteLossError(
                f"The validation loss became {figures['loss']} after step {number}.",
                hint=_START_AGAIN[0].upper() + _START_AGAIN[1:],
            )
        state.history[-1]["validation_loss"] = figures["loss"]
        state.history[-1]["validation"] = {name: value for name, value in figures.items() if name != "loss"}
        value = -figures["loss"] if metric == "loss" else figures[metric]
        # On few validation rows figures are often equal; the lower loss then tells which model is the surer one.
        best = state.best_value is None or (value, -figures["loss"]) > (state.best_value, -state.best_loss)
        if best:
            state.best_value, state.best_loss = value, figures["loss"]
            state.best_step, state.stale = number, 0
            self.best_weights = checkpoints.weights_of(self.model)
        else:
            state.stale += 1
            state.stopped_early = 0 < self.config.patience <= state.stale
        self.reporter.validation(number, figures, metric=metric, best=best)

    @property
    def _is_over(self) -> bool:
        return self.state.stopped_early or self.state.step >= self.state.total_steps

    def _checkpoint_is_due(self) -> bool:
        # What came since the last one is computed again after a kill, to the same bits: no step needs one of its own.
        since = time.monotonic() - self._saved_at
        return since > max(60 * self.config.checkpoint_minutes, self._saving_s / _SAVING_SHARE)

    def _best_path(self, folder: Path) -> Path:
        # Named by its step: the state in last.safetensors finds the best it knew, whenever the process was killed.
        return folder / f"best-{self.state.best_step}.safetensors"

    def _save(self) -> None:
        """Write the checkpoint; the moments only where there are steps left to do."""
        if self.folder is None:
            return
        own = {f"carried.{name}": tensor for name, tensor in self.objective.carried().items()}
        own["random.cpu"] = torch.get_rng_state()
        if self.device.type == "cuda":
            own["random.cuda"] = torch.cuda.get_rng_state(self.device)
        own = gathered(own, self.device)
        if not is_first():
            return
        began = time.monotonic()
        best, state = self._best_path(self.folder), asdict(self.state)
        if self.best_weights is not None and not best.exists():
            checkpoints.write_checkpoint(best, self.best_weights, {"step": self.state.best_step})
        tensors = {f"model.{name}": tensor for name, tensor in checkpoints.weights_of(self.model).items()}
        if not self._is_over:
            tensors |= checkpoints.optimiser_tensors(self.optimiser, self.names)
        tensors |= own
        checkpoints.write_checkpoint(self.folder / LAST, tensors, {"state": state, "scaler": self.scaler.state_dict()})
        for path in self.folder.glob("best-*.safetensors"):
            if path != best:
                path.unlink()
        self._saved_at = time.monotonic()
        took = self._saved_at - began
        self._saving_s = max(self._saving_s, took)
        self.state.saving_s += took

    def check_start(self) -> None:
        """Check that the run begun in the folder, if there is one, can go on with this configuration, data and machine.

        Raises:
            ConfigError: it cannot.
        """
        start = None if self.folder is None else Start.read(self.folder)
        if start is not None:
            start.check(self.identity, self.device)

    def _begin(self) -> None:
        """Decide how many steps there are, and write down all that is decided now."""
        self.state.total_steps = self._plan_steps()
        if self.folder is not None:
            precision, total = self.state.precision, self.state.total_steps
            start = Start.here(self.device, identity=self.identity, precision=precision, total_steps=total)
            if is_first():
                # Before it is said what they would belong to.
                checkpoints.start_afresh(self.folder)
                start.write(self.folder)

    def _restore(self) -> bool:
        """Take up what was begun in the folder; False when nothing was."""
        start = None if self.folder is None else Start.read(self.folder)
        if start is None or self.folder is None:
            return False
        for remark in start.check(self.identity, self.device):
            self.reporter.note(f"note: {remark}")
        self.state = TrainingState(total_steps=start.total_steps, precision=start.precision)
        self.scaler = gradient_scaler(start.precision, self.device)
        if is_first():
            checkpoints.remove_unfinished(self.folder)
        if (self.folder / LAST).exists():
            self._take_up(self.folder)
        self.reporter.note(f"going on from step {self.state.step} of {self.state.total_steps}")
        return True

    def _take_up(self, folder: Path) -> None:
        """Read the checkpoint into model, optimiser, scaler, random numbers and state."""
        tensors, saved = checkpoints.read_checkpoint(folder / LAST)
        self.state = TrainingState(**saved["state"])
        self.state.interrupted = False
        weights = {name.removeprefix("model."): t for name, t in tensors.items() if name.startswith("model.")}
        checkpoints.set_weights(self.model, weights)
        checkpoints.set_optimiser_tensors(self.optimiser, self.names, tensors)
        self.scaler.load_state_dict(saved["scaler"])
        own = own_of(tensors)
        torch.set_rng_state(own["random.cpu"])
        if "random.cuda" in own:
            torch.cuda.set_rng_state(own["random.cuda"], self.device)
        begin = "carried."
        carried = {name.removeprefix(begin): tensor for name, tensor in own.items() if name.startswith(begin)}
        self.objective.set_carried(carried)
        if self.state.best_step:
            self.best_weights, _ = checkpoints.read_checkpoint(self._best_path(folder))

    def _steps(self, epoch: int) -> list[Step]:
        if self._epoch[0] != epoch:
            config = self.config
            steps = steps_of_epoch(
                epoch,
                self.objective.batches(epoch, batch_tokens=config.batch_tokens, seed=config.seed),
                accumulate=config.accumulate,
                validations_per_epoch=config.validations_per_epoch,
            )
            self._epoch = (epoch, steps)
        return self._epoch[1]

    def _plan_steps(self) -> int:
        wanted = count_steps(self._steps, self.config.epochs)
        if self.config.max_minutes is None:
            return wanted
        self.model.train()

        def run_batch(batch: list[int]) -> None:
            with autocast(self.state.precision, self.device):
                loss = self.objective.loss_sum(batch)
            loss.backward()
            self.optimiser.zero_grad(set_to_none=True)
            wait_for(self.device)

        # How many batches are timed depends on the clock; the dropout they draw must not shift the run's.
        with _own_randomness(self.device):
            fitting = steps_in_time(
                run_batch,
                self._steps(0),
                self.objective.lengths,
                validation_tokens=self.validation.tokens,
                minutes=self.config.max_minutes,
            )
        (first,) = agreed([fitting], self.device)
        total = min(wanted, round(first))
        fit = f"{total} of the {wanted} steps of {self.config.epochs} epochs fit into {self.config.max_minutes:g} min"
        few = total < min(wanted, FEW_STEPS)
        self.reporter.note(fit + (": few; give it more time, or a quieter machine" if few else ""))
        return total


def _own_randomness(device: torch.device) -> Any:
    """A run draws from its own random numbers and leaves the caller's as they were."""
    return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])
