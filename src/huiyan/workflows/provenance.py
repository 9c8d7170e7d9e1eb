"""Where a run came from: versions, machine, commit. Enough to judge it later, and to do it again."""

import importlib.metadata
import platform
import subprocess
from typing import Any

import torch

from huiyan import __version__
from huiyan.core.devices import describe_machine

LIBRARIES = ("torch", "tokenizers", "safetensors", "numpy", "polars", "scikit-learn")


def describe_run(device: torch.device) -> dict[str, Any]:
    """Versions, machine and the commit of the folder the run was started in (None outside a git checkout)."""
    versions = {"huiyan": __version__, "python": platform.python_version()}
    versions |= {library: importlib.metadata.version(library) for library in LIBRARIES}
    return {"versions": versions, "machine": describe_machine(device), "commit": _commit()}


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
