"""What must hold of the tensors given to ``attend``, and what to say when it does not."""

import torch
from torch import Tensor

from huiyan.attention.masks import Keys, Mask, Segments
from huiyan.attention.positions.relative import TABLES, TENSORS, RelativeTerms
from huiyan.core.errors import ConfigError, ShapeError


def check_tensors(q: Tensor, k: Tensor, v: Tensor, *, packed: bool) -> None:
    """Raise unless q, k and v fit together, dense `b h q d` or packed `t h d`.

    Raises:
        ShapeError: saying which two do not fit, with all three shapes.
    """
    layout, n_dims, heads = ("`t h d` with lengths", 3, 1) if packed else ("`b h q d`", 4, 1)

    def got() -> str:  # told only where it is needed: a short text waits for this more than for its arithmetic
        return f"Got q {tuple(q.shape)}, k {tuple(k.shape)}, v {tuple(v.shape)}."

    if not q.dim() == k.dim() == v.dim() == n_dims:
        hint = {(True, 4): "Leave lengths out for a dense batch.", (False, 3): "Packed input needs lengths."}
        raise ShapeError(f"attend takes q, k and v as {layout}. {got()}", hint=hint.get((packed, q.dim()), ""))
    if k.shape != v.shape:
        raise ShapeError(f"Every key needs a value: k and v must have one shape. {got()}")
    if q.shape[-1] != k.shape[-1] or q.shape[-1] == 0:
        raise ShapeError(f"Queries and keys must have one head width, the last dimension, of at least 1. {got()}")
    if k.shape[heads] == 0 or q.shape[heads] % k.shape[heads]:
        raise ShapeError(f"The query heads (dimension {heads}) must be a multiple of the key heads. {got()}")
    if not packed and q.shape[0] != k.shape[0]:
        raise ShapeError(f"Queries and keys must come from one batch, the first dimension. {got()}")
    if not q.is_floating_point() or not q.dtype == k.dtype == v.dtype:
        raise ShapeError(f"q, k and v must have one floating dtype. Got {q.dtype}, {k.dtype} and {v.dtype}.")
    if not q.device == k.device == v.device:
        raise ShapeError(f"q, k and v must be on one device. Got {q.device}, {k.device} and {v.device}.")


def check_lengths(lengths: Tensor, *, name: str) -> None:
    """Raise unless ``lengths`` can be those of packed sequences; ``check_sum`` looks at the numbers.

    Raises:
        ShapeError: they are not int64 on the CPU.
    """
    if not isinstance(lengths, Tensor):
        raise ShapeError(
            f"{name} must be a tensor, one int64 number a sequence. Got {type(lengths).__name__}.",
            hint=f"Write torch.tensor({name}).",
        )
    if lengths.dim() != 1 or lengths.dtype != torch.int64 or lengths.device.type != "cpu":
        raise ShapeError(
            f"{name} must be one int64 number a sequence, `b`, on the CPU. "
            f"Got {lengths.dtype} of shape {tuple(lengths.shape)} on {lengths.device}."
        )


def check_sum(lengths: Tensor, n_tokens: int, *, name: str, of: str) -> None:
    """Raise unless ``lengths`` are those of sequences with ``n_tokens`` tokens together.

    Raises:
        ShapeError: one is below 0, or they do not add up.
    """
    numbers: list[int] = lengths.tolist()
    if min(numbers, default=0) < 0 or sum(numbers) != n_tokens:
        raise ShapeError(
            f"{name} must be at least 0 and add up to the {n_tokens} tokens of {of}. "
            f"Got a smallest of {min(numbers, default=0)} and a sum of {sum(numbers)}."
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


def check_is_mask(mask: object) -> None:
    """Raise unless ``mask`` is a mask, or None.

    Raises:
        ConfigError: it is a tensor, the class of a mask, or something else.
    """
    if mask is None or isinstance(mask, Mask):
        return
    if isinstance(mask, Tensor):
        got = f"a tensor, {mask.dtype} {tuple(mask.shape)}"
        hint = "Give Keys(x) for booleans `b k`, or Where(lambda row, column: x[row, column]) for `q k`."
    elif isinstance(mask, type):
        got, hint = f"the class {mask.__name__}", f"Call it: {mask.__name__}(…)."
    else:
        got, hint = type(mask).__name__, "Give Causal(), say, or Where(rule)."
    raise ConfigError(f"The mask option must be a mask, or None. Got {got}.", hint=hint)


def check_mask(mask: Mask, q: Tensor, k: Tensor) -> None:
    """Raise unless every part of ``mask`` that holds tensors is for this dense batch.

    Raises:
        ShapeError: one is of another batch, or another number of queries or keys.
    """
    b, n_queries, n_keys = q.shape[0], q.shape[2], k.shape[2]
    got = f"with q {tuple(q.shape)} and k {tuple(k.shape)}"
    for part in mask.parts():
        if isinstance(part, Keys) and part.keys.shape != (b, n_keys):
            raise ShapeError(f"The Keys mask must be `b k`, here {(b, n_keys)}. Got {tuple(part.keys.shape)}, {got}.")
        if isinstance(part, Segments):
            for name, ids, n in zip(("queries", "keys"), part.ids(), (n_queries, n_keys), strict=True):
                if ids.shape not in ((n,), (1, n), (b, n)):
                    raise ShapeError(
                        f"The {name} of Segments must be `{name[0]}` or `b {name[0]}`, here {(n,)} or {(b, n)}. "
                        f"Got {tuple(ids.shape)}, {got}."
                    )


def check_packed_mask(mask: Mask) -> None:
    """Raise unless ``mask`` can be used inside packed sequences.

    Raises:
        ConfigError: it names the tokens of a dense batch.
    """
    for part in mask.parts():
        if isinstance(part, Keys):
            raise ConfigError(
                "A Keys mask belongs to a dense batch. Packed sequences have no padding to hide.",
                hint="Leave the hidden keys out of the packed row.",
            )
        if isinstance(part, Segments):
            raise ConfigError(
                "A Segments mask belongs to a dense batch. Packed sequences are segments already.",
                hint="Give the length of every segment in lengths.",
            )


def check_terms(terms: RelativeTerms, q: Tensor) -> None:
    """Raise unless relative terms are for the heads, the head width and the device of ``q``, packed or dense.

    Raises:
        ShapeError: naming the table that does not fit.
    """
    h, d = q.shape[-2 if q.dim() == 3 else 1], q.shape[-1]
    tables = {name: x.shape[1] for name in TABLES if (x := getattr(terms, name)) is not None}
    if any(n != terms.n_rows for n in tables.values()):  # not a set: hashing makes a traced number a constant
        raise ShapeError(f"The tables of a position must have equally many rows, one an offset. Got {tables}.")
    for name in TENSORS:
        x: Tensor | None = getattr(terms, name)
        if x is None:
            continue
        heads_fit = x.shape[0] == h or (x.shape[0] == 1 and name in ("keys", "queries", "values"))
        if not heads_fit or (name != "bias" and x.shape[-1] != d):
            raise ShapeError(
                f"The position's {name} must be for {h} heads of width {d}, as q {tuple(q.shape)} has. "
                f"Got {tuple(x.shape)}."
            )
        if x.device != q.device:
            raise ShapeError(
                f"The position must be on the device of q, {q.device}. Got {name} on {x.device}.",
                hint="Move the position module with .to(device).",
            )


def check_sinks(sinks: Tensor, q: Tensor) -> None:
    """Raise unless ``sinks`` hold one number for each query head of ``q``, on its device.

    Raises:
        ShapeError: they do not.
    """
    h = q.shape[-2 if q.dim() == 3 else 1]
    if sinks.shape != (h,) or sinks.device != q.device or not sinks.is_floating_point():
        raise ShapeError(
            f"sinks must hold one floating number a query head, `h`, here {(h,)}, on {q.device}. "
            f"Got {sinks.dtype} of shape {tuple(sinks.shape)} on {sinks.device}."
        )
