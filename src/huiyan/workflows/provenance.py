"""Where a run came from: versions, machine, commit. Enough to judge it later, and to do it again."""

import importlib.metadata
import platform
import shlex
import subprocess
from collections.abc import Sequence
from typing import Any

import torch

from huiyan import __version__
from huiyan.core.config import Config
from huiyan.core.devices import describe_machine, peak_memory_bytes
from huiyan.training.loop import TrainingState

WATTS_A_CORE = 10.0
"""Of a busy core, its share of the machine included: a guess at servers of these years, for an idea of the energy."""
LIBRARIES = ("torch", "tokenizers", "safetensors", "numpy", "polars", "scikit-learn")


def describe_run(device: torch.device) -> dict[str, Any]:
    """Versions, machine and the commit of the folder the run was started in (None outside a git checkout)."""
    versions = {"huiyan": __version__, "python": platform.python_version()}
    versions |= {library: importlib.metadata.version(library) for library in LIBRARIES}
    return {"versions": versions, "machine": describe_machine(device), "commit": _commit()}


def describe_training(state: TrainingState, device: torch.device, metric: str) -> dict[str, Any]:
    """How a training went, for a report.

    Args:
        state: where it ended.
        device: where it ran.
        metric: that picked the best weights.
    """
    return {
        "seconds": state.seconds,
        "checkpoint_seconds": state.saving_s,
        "cpu_seconds": state.cpu_seconds,
        "energy_wh": state.cpu_seconds * WATTS_A_CORE / 3600 if device.type == "cpu" else None,
        "steps": state.step,
        "epochs": state.epochs_done,
        "best_step": state.best_step,
        "selection_metric": metric,
        "stopped_early": state.stopped_early,
        "precision": state.precision,
        "device": str(device),
        "threads": torch.get_num_threads(),
        "tokens_per_second": state.tokens / max(state.seconds, 1e-9),
        "peak_memory_bytes": peak_memory_bytes(device),
        "history": state.history,
    }


def command_of(words: Sequence[str], parts: Sequence[Config], out: str) -> str:
    """The command that does a run again: every option that is not at its default.

    Args:
        words: how it begins.
        parts: the options.
        out: its folder.
    """
    given = list(words)
    for part in parts:
        defaults = {name: field.default for name, field in type(part).__dataclass_fields__.items()}
        for name, value in part.to_dict().items():
            if value == defaults[name]:
                continue
            option = f"--{name.replace('_', '-')}"
            if value is True:
                given.append(option)
                continue
            for item in value if isinstance(value, tuple) else (value,):
                given += [option, str(item)]
    return shlex.join([*given, "--out", out])


def _commit() -> str | None:
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip() or None
