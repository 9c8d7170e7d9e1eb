"""Where a run happens and in what precision, decided once and said aloud."""

import os
import platform
from pathlib import Path
from typing import Any, Literal

import torch

from huiyan.core.errors import ConfigError

Precision = Literal["fp32", "bf16", "fp16"]


def device_named(name: torch.device | str) -> torch.device:
    """The device of that name, whether it is on this machine or not.

    Raises:
        ConfigError: there is no such kind of device.
    """
    try:
        return torch.device(name)
    except RuntimeError as error:
        # All of them, not the nearest: that of "gpu" would be "cpu".
        raise ConfigError(f"There is no device {name!r}.", hint="Choose cpu, cuda, cuda:N or mps.") from error


def pick_device(name: str = "auto") -> torch.device:
    """The device to run on.

    Args:
        name: ``auto`` (the first GPU, else the CPU), ``cpu``, ``cuda``, ``cuda:1``, ``mps``. Under ``torchrun`` a GPU
            without a number is that of the process.
    Raises:
        ConfigError: the device is unknown or not on this machine.
    """
    if name in ("auto", "cuda") and torch.cuda.is_available():
        own = os.environ.get("LOCAL_RANK")
        return torch.device("cuda") if own is None else torch.device("cuda", int(own))
    if name == "auto":
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    device = device_named(name)
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise ConfigError(f"The device {name!r} cannot be used here: {reason}.", hint="Try auto or cpu.") from error
    return device


def resolve_precision(precision: str, device: torch.device) -> Precision:
    """What ``auto`` means on this device: bf16 where the hardware multiplies bf16 natively, else fp32.

    Raises:
        ConfigError: the precision is unknown, or fp16 is asked for where there is no GPU.
    """
    if precision == "auto":
        return "bf16" if multiplies_bf16(device) else "fp32"
    if precision not in ("fp32", "bf16", "fp16"):
        raise ConfigError(f"The precision option must be auto, fp32, bf16 or fp16. Got {precision!r} instead.")
    if precision == "fp16" and device.type == "cpu":
        raise ConfigError("The precision fp16 needs a GPU, and this is the CPU.", hint="Use bf16 or fp32.")
    return precision


def multiplies_bf16(device: torch.device) -> bool:
    """Whether the device has bf16 matrix instructions, so that bf16 is faster than fp32 and not emulated."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type != "cpu":
        return False
    flags = _cpu_flags()
    return "avx512_bf16" in flags or "amx_bf16" in flags


def multiplies_int8(device: torch.device) -> bool:
    """Whether the processor is known to have instructions for products of 8-bit integers that add up in 32 bits.

    They are VNNI and AMX, and only Linux tells. Without them oneDNN adds up in 16 bits, which can overflow.
    """
    return device.type == "cpu" and not _cpu_flags().isdisjoint({"avx512_vnni", "avx_vnni", "amx_int8"})


def wait_for(device: torch.device) -> None:
    """Wait until a device has done what it was given, so that a clock can be read."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def peak_memory_bytes(device: torch.device) -> int:
    """The most memory this process has held: GPU memory on a GPU, else resident memory, in bytes."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows has no such module
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if platform.system() == "Darwin" else peak * 1024


def describe_machine(device: torch.device) -> dict[str, Any]:
    """What a reader needs to know about the machine to judge a timing."""
    described: dict[str, Any] = {
        "system": platform.platform(),
        "processor": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": str(device),
    }
    if device.type == "cuda":
        described["gpu"] = torch.cuda.get_device_name(device)
    return described


def _cpu_info(key: str) -> str:
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8") as file:
            for line in file:
                name, _, value = line.partition(":")
                if name.strip() == key:
                    return value.strip()
    except OSError:  # only Linux has the file
        pass
    return ""


def _cpu_flags() -> set[str]:
    return set(_cpu_info("flags").split())


def _cpu_name() -> str:
    return _cpu_info("model name") or platform.processor() or platform.machine()
