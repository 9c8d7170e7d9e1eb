"""A training's figures in an experiment tracker, each step once, also after a kill.

The trackers are those of accelerate. A run that goes on computes steps again that it had told of, to the same bits:
what was told is known, and is not told twice; what was computed and not told is, from the checkpoint's history.
"""

import importlib.util
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol
from uuid import uuid4

from huiyan.core.errors import MissingExtraError
from huiyan.core.files import write_json
from huiyan.core.json_files import read_object

TrackerName = Literal["none", "tensorboard", "wandb", "mlflow", "trackio"]
TOLD = "told.json"
"""The run's id in the tracker, and the last step of every figure told, where the tracker's own files do not say."""
_CLASSES = {
    "tensorboard": "TensorBoardTracker",
    "wandb": "WandBTracker",
    "mlflow": "MLflowTracker",
    "trackio": "TrackioTracker",
}


class _Backend(Protocol):
    def log(self, values: dict[str, float], step: int) -> None: ...

    def finish(self) -> None: ...


class Tracker:
    """Tells a tracker of the entries of a training's history.

    Whatever a tracker does, the training goes on: its first failure is told once, and then it is left alone. A training
    that is resumed goes on in the same run of the tracker. A kill in the instant between telling a service and writing
    that down has it told of that one step again.

    Args:
        name: which tracker.
        folder: where its files go, and where ``told.json`` does.
        run_name: what the run is called there.
        options: what is kept of the run beside its figures, told when it begins.
        note: told of a failure.
    Raises:
        MissingExtraError: its library is not installed.
    """

    def __init__(
        self,
        name: TrackerName,
        folder: Path,
        *,
        run_name: str,
        options: Mapping[str, Any],
        note: Callable[[str], None],
    ) -> None:
        require_tracker(name)
        self._name, self._folder, self._run_name = name, folder, run_name
        self._options, self._note = dict(options), note
        self._backend: _Backend | None = None
        self._run_id = ""
        self._told: dict[str, int] = {}
        self._failed = False

    def begin(self, history: list[dict[str, Any]]) -> None:
        """Open the tracker, and tell what it has missed of the steps that lie behind."""
        self._try(self._open)
        for entry in history:
            self.tell(entry)

    def tell(self, entry: Mapping[str, Any]) -> None:
        """Tell of a step, unless it has been told of."""
        if self._backend is None or self._failed:
            return
        step = int(entry["step"])
        new = {name: value for name, value in figures_of(entry).items() if step > self._told.get(name, 0)}
        if new:
            self._try(lambda: self._log(new, step))

    def end(self) -> None:
        """Close the tracker."""
        if self._backend is not None:
            self._try(self._backend.finish)
        self._backend = None

    def _open(self) -> None:
        import accelerate
        from accelerate import tracking

        accelerate.PartialState()  # whose logger the trackers use
        self._folder.mkdir(parents=True, exist_ok=True)
        is_new = self._take_up()
        made = getattr(tracking, _CLASSES[self._name])
        project = "huiyan"
        run_id = self._run_id or uuid4().hex[:12]
        arguments: dict[str, Any] = {
            "tensorboard": {"run_name": "", "logging_dir": str(self._folder)},
            "wandb": {
                "run_name": project,
                "name": self._run_name,
                "dir": str(self._folder),
                "id": run_id,
                "resume": "allow",
            },
            "mlflow": {
                "experiment_name": project,
                "logging_dir": str(self._folder),
                "run_name": self._run_name,
                "run_id": self._run_id or None,
            },
            # A run is known by its name there.
            "trackio": {"run_name": project, "name": f"{self._run_name}-{run_id}", "resume": "allow"},
        }[self._name]
        backend: Any = made(**arguments)
        backend.start()
        self._run_id = backend.tracker.info.run_id if self._name == "mlflow" else run_id
        self._keep()
        if is_new and self._name != "tensorboard":  # TensorBoard would make a run of its own of them
            backend.store_init_configuration(self._options)
        self._backend = backend

    def _log(self, values: dict[str, float], step: int) -> None:
        if self._backend is None:
            return
        self._backend.log(values, step)
        self._told |= dict.fromkeys(values, step)
        self._keep()

    def _keep(self) -> None:
        if self._name != "tensorboard":
            write_json(self._folder / TOLD, {"run": self._run_id, "steps": self._told})

    def _take_up(self) -> bool:
        """Find out what was told already; True if there was no run yet."""
        path = self._folder / TOLD
        if self._name == "tensorboard":
            self._told = {tag: max(steps) for tag, steps in steps_in_events(self._folder).items()}
        elif path.is_file():
            kept = read_object(path)
            self._run_id = str(kept["run"])
            self._told = {str(tag): int(step) for tag, step in kept["steps"].items()}
        return not self._run_id

    def _try(self, action: Callable[[], Any]) -> None:
        if self._failed:
            return
        try:
            action()
        except Exception as error:
            self._failed = True
            self._note(f"warning: {self._name} failed, and is told no more: {error}")


def require_tracker(name: TrackerName) -> None:
    """Check that a tracker can be used.

    Raises:
        MissingExtraError: its library, or accelerate, is not installed.
    """
    for library in ("accelerate", name):
        if importlib.util.find_spec(library) is None:
            own = "" if name == "tensorboard" else name
            raise MissingExtraError(f"--track {name}", extra="track", library=own)


def figures_of(entry: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of an entry of the history, by what trackers call them."""
    found = {
        "train/loss": entry["train_loss"],
        "train/learning_rate": entry["learning_rate"],
        "train/epoch": entry["epoch"],
        "validation/loss": entry["validation_loss"],
        **{f"validation/{name}": value for name, value in (entry["validation"] or {}).items()},
    }
    return {name: float(value) for name, value in found.items() if value is not None and math.isfinite(value)}


def steps_in_events(folder: Path) -> dict[str, list[int]]:
    """The steps of every figure in TensorBoard's files of a folder, in the order they were written.

    What a kill cut off at the end of a file is no figure.
    """
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    steps: dict[str, list[int]] = {}
    for path in sorted(folder.glob("events.out.tfevents.*")):
        for event in EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                steps.setdefault(value.tag, []).append(event.step)
    return steps
