"""The loop, the optimiser, schedules, precision, checkpoints and progress."""

from typing import TYPE_CHECKING

from huiyan.core.lazy import lazy_exports

if TYPE_CHECKING:
    from huiyan.training.config import TrainingConfig
    from huiyan.training.loop import Objective, TrainingLoop, TrainingState, Validation

__all__ = ["Objective", "TrainingConfig", "TrainingLoop", "TrainingState", "Validation"]

_LOOP = ("Objective", "TrainingLoop", "TrainingState", "Validation")

__getattr__, __dir__ = lazy_exports(
    __name__, {"TrainingConfig": "huiyan.training.config"} | dict.fromkeys(_LOOP, "huiyan.training.loop")
)
