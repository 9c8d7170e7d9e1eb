"""Several processes that train one model together, as ``torchrun`` starts them; alone, all of this is nothing."""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import cast

import torch
from torch import Tensor, distributed

from huiyan.core.errors import HuiyanError

PATIENCE = timedelta(days=2)
"""How long a process waits: the first one may prepare a large text. When one fails, ``torchrun`` ends all of them."""


@contextlib.contextmanager
def joined(device: torch.device) -> Iterator[None]:
    """Meet the other processes that ``torchrun`` started, and part from them at the end; alone, nothing happens.

    A process that fails waits for nobody: its message is told at once.

    Args:
        device: of this process, as ``pick_device`` gives it.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or distributed.is_initialized():
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield
        distributed.barrier()
    finally:
        distributed.destroy_process_group()


def first_alone(do: Callable[[], None], device: torch.device) -> None:
    """Something that the first process does while the others wait.

    Raises:
        Exception: what it raises, in the first process.
        HuiyanError: it failed, in the others.
    """
    error: BaseException | None = None
    if is_first():
        try:
            do()
        except BaseException as raised:
            error = raised
    (failed,) = any_of_all([error is not None], device)
    if error is not None:
        raise error
    if failed:
        raise HuiyanError("The first process has failed: what it says is the reason.")


def process_count() -> int:
    """How many train together."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def process_number() -> int:
    """Which of them this is; the first, 0, is the one that writes."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def is_first() -> bool:
    """Whether this process is the one that writes."""
    return process_number() == 0


def sum_of_all(value: float, device: torch.device) -> float:
    """A number, added up over the processes."""
    if process_count() == 1:
        return value
    total = torch.tensor(value, dtype=torch.float64, device=device)
    distributed.all_reduce(total)
    return float(total)


def agreed(values: Sequence[float], device: torch.device) -> list[float]:
    """The numbers of the first process, in all of them."""
    if process_count() == 1:
        return list(values)
    first = torch.tensor(values, dtype=torch.float64, device=device)
    distributed.broadcast(first, 0)
    return first.tolist()


def any_of_all(values: Sequence[bool], device: torch.device) -> list[bool]:
    """For each, whether it is so in one of the processes."""
    if process_count() == 1:
        return list(values)
    flags = torch.tensor(values, dtype=torch.int32, device=device)
    distributed.all_reduce(flags, distributed.ReduceOp.MAX)
    return [bool(flag) for flag in flags.tolist()]


def add_gradients(parameters: Sequence[Tensor]) -> None:
    """Add up the gradients over the processes; a parameter that none of them has touched keeps none."""
    if process_count() == 1:
        return
    wanted = [parameter for parameter in parameters if parameter.requires_grad]
    has = torch.tensor([one.grad is not None for one in wanted], dtype=torch.int32, device=wanted[0].device)
    distributed.all_reduce(has, distributed.ReduceOp.MAX)
    touched = [one for one, flag in zip(wanted, has.tolist(), strict=True) if flag]
    for one in touched:
        one.grad = torch.zeros_like(one) if one.grad is None else one.grad
    for dtype in {one.dtype for one in touched}:
        gradients = [cast("Tensor", one.grad) for one in touched if one.dtype == dtype]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        distributed.all_reduce(flat)
        parts = flat.split([gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))


def gathered(tensors: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """Tensors of every process, of one shape and dtype in all, as ``process0.<name>`` and so on, on the CPU."""
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        everyone = [tensor]
        if process_count() > 1:
            here = tensor.to(device).contiguous()
            everyone = [torch.empty_like(here) for _ in range(process_count())]
            distributed.all_gather(everyone, here)
        found |= {f"process{number}.{name}": one.cpu().contiguous() for number, one in enumerate(everyone)}
    return found


def own_of(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """What ``gathered`` took from this process."""
    begin = f"process{process_number()}."
    return {name.removeprefix(begin): tensor for name, tensor in tensors.items() if name.startswith(begin)}
