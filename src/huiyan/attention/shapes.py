"""What must hold of the tensors given to ``attend``, and what to say when it does not."""

import torch
from torch import Tensor

from huiyan.attention.masks import Keys, Mask
from huiyan.core.errors import ShapeError


def check_tensors(q: Tensor, k: Tensor, v: Tensor, *, packed: bool) -> None:
    """Raise unless q, k and v fit together, dense `b h q d` or packed `t h d`.

    Raises:
        ShapeError: saying which two do not fit, with all three shapes.
    """
    layout, n_dims, heads = ("`t h d` with lengths", 3, 1) if packed else ("`b h q d`", 4, 1)
    got = f"Got q {tuple(q.shape)}, k {tuple(k.shape)}, v {tuple(v.shape)}."
    if not q.dim() == k.dim() == v.dim() == n_dims:
        hint = {(True, 4): "Leave lengths out for a dense batch.", (False, 3): "Packed input needs lengths."}
        raise ShapeError(f"attend takes q, k and v as {layout}. {got}", hint=hint.get((packed, q.dim()), ""))
    if k.shape != v.shape:
        raise ShapeError(f"Every key needs a value: k and v must have one shape. {got}")
    if q.shape[-1] != k.shape[-1] or q.shape[-1] == 0:
        raise ShapeError(f"Queries and keys must have one head width, the last dimension, of at least 1. {got}")
    if k.shape[heads] == 0 or q.shape[heads] % k.shape[heads]:
        raise ShapeError(f"The query heads (dimension {heads}) must be a multiple of the key heads. {got}")
    if not packed and q.shape[0] != k.shape[0]:
        raise ShapeError(f"Queries and keys must come from one batch, the first dimension. {got}")
    if not q.is_floating_point() or len({q.dtype, k.dtype, v.dtype}) > 1:
        raise ShapeError(f"q, k and v must have one floating dtype. Got {q.dtype}, {k.dtype} and {v.dtype}.")
    if len({q.device, k.device, v.device}) > 1:
        raise ShapeError(f"q, k and v must be on one device. Got {q.device}, {k.device} and {v.device}.")


def check_lengths(lengths: Tensor, n_tokens: int, *, name: str, of: str) -> None:
    """Raise unless ``lengths`` are those of packed sequences with ``n_tokens`` tokens.

    Raises:
        ShapeError: they are not int64 on the CPU, below 0, or do not add up.
    """
    if lengths.dim() != 1 or lengths.dtype != torch.int64 or lengths.device.type != "cpu":
        raise ShapeError(
            f"{name} must be one int64 number a sequence, `b`, on the CPU. "
            f"Got {lengths.dtype} of shape {tuple(lengths.shape)} on {lengths.device}."
        )
    if bool((lengths < 0).any()) or int(lengths.sum()) != n_tokens:
        raise ShapeError(
            f"{name} must be at least 0 and add up to the {n_tokens} tokens of {of}. "
            f"Got a smallest of {int(lengths.min()) if len(lengths) else 0} and a sum of {int(lengths.sum())}."
        )


def check_pairs(lengths: Tensor, key_lengths: Tensor) -> None:
    """Raise unless queries and keys come from equally many sequences.

    Raises:
        ShapeError: they do not.
    """
    if len(lengths) != len(key_lengths):
        raise ShapeError(
            "lengths and key_lengths must name the same sequences. "
            f"Got {len(lengths)} lengths and {len(key_lengths)} key_lengths."
        )


def check_mask(mask: Mask, q: Tensor, k: Tensor) -> None:
    """Raise unless every key mask in ``mask`` is for this dense batch.

    Raises:
        ShapeError: one is of another batch or another number of keys.
    """
    for part in mask.parts():
        if isinstance(part, Keys) and part.keys.shape != (k.shape[0], k.shape[2]):
            raise ShapeError(
                f"The Keys mask must be `b k`, here {(k.shape[0], k.shape[2])}. "
                f"Got {tuple(part.keys.shape)}, with q {tuple(q.shape)} and k {tuple(k.shape)}."
            )
