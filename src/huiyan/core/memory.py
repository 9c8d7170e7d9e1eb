"""How much memory a device has in all: the same number in every run, whatever happens to be free."""

import os
from pathlib import Path

import torch

from huiyan.core.devices import device_named
from huiyan.core.errors import ConfigError

# Version 2 of Linux' control groups, then version 1: what a container may use of the machine.
_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def total_memory_bytes(device: torch.device | str) -> int:
    """The memory of a device: what the machine has or a container's limit, or what the GPU has.

    Raises:
        ConfigError: the device is unknown or not on this machine, or its memory cannot be found out.
    """
    device = device_named(device)
    if device.type == "cuda" and torch.cuda.is_available():
        return torch.cuda.get_device_properties(device).total_memory
    if device.type == "mps" and torch.backends.mps.is_available():
        return torch.mps.recommended_max_memory()
    if device.type == "cpu":
        return least_limit(_machine_bytes(), tuple(Path(place) for place in _LIMITS))
    raise ConfigError(
        f"The memory of the device {str(device)!r} is not known: it is not on this machine.",
        hint="Say how much it has: memory_bytes, or --memory GB.",
    )


def least_limit(machine_bytes: int, places: tuple[Path, ...]) -> int:
    """The machine's memory, or the least of the limits that stand in these files; what is no number limits nothing."""
    limits = [machine_bytes]
    for place in places:
        try:
            limits.append(int(place.read_text(encoding="ascii")))
        except (OSError, ValueError):  # not Linux, no such version, or "max"
            continue
    return min(limits)


def _machine_bytes() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError) as error:
        raise ConfigError(
            "This system does not say how much memory it has.", hint="Say it: memory_bytes, or --memory GB."
        ) from error
