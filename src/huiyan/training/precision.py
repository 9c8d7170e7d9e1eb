"""Mixed precision: what is computed in fewer bits, and how small gradients survive it."""

import contextlib

import torch


def autocast(precision: str, device: torch.device) -> contextlib.AbstractContextManager[object]:
    """The context a forward pass runs in: matrix products in bf16 or fp16, weights and sums in float32."""
    if precision == "fp32":
        return contextlib.nullcontext()
    dtype = torch.bfloat16 if precision == "bf16" else torch.float16
    return torch.autocast(device.type, dtype=dtype)


def gradient_scaler(precision: str, device: torch.device) -> torch.amp.GradScaler:
    """Scales the loss for fp16, whose small gradients would round to zero; does nothing for the others."""
    return torch.amp.GradScaler(device.type, enabled=precision == "fp16")
