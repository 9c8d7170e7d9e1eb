"""The one attention function. Every module, every model and every bridge calls it."""

from typing import Literal, get_args

from jaxtyping import Float, Int
from torch import Tensor

from huiyan.attention.kernels.packed import attend_packed
from huiyan.attention.kernels.sdpa import attend_dense
from huiyan.attention.masks import Keys, Mask
from huiyan.attention.oracle import attend_by_formula, attend_each_by_formula
from huiyan.attention.shapes import check_lengths, check_mask, check_pairs, check_tensors
from huiyan.core.errors import ConfigError, ShapeError, closest

Kernel = Literal["auto", "oracle", "sdpa", "packed"]


def attend(
    q: Float[Tensor, "b h q d"] | Float[Tensor, "t h d"],
    k: Float[Tensor, "b g k d"] | Float[Tensor, "s g d"],
    v: Float[Tensor, "b g k d"] | Float[Tensor, "s g d"],
    *,
    lengths: Int[Tensor, " b"] | None = None,
    key_lengths: Int[Tensor, " b"] | None = None,
    mask: Mask | None = None,
    scale: float | None = None,
    kernel: Kernel = "auto",
) -> Float[Tensor, "b h q d"] | Float[Tensor, "t h d"]:
    """Scaled dot-product attention, softmax(scale · q kᵀ) v, over a dense batch or over packed sequences.

    Source: Vaswani et al. 2017, eq. 1. Differs: ``scale`` may be 1 (the unscaled form); key heads may be fewer than
    query heads (grouped-query attention, Ainslie et al. 2023); a row that may attend to nothing gives 0.

    Args:
        q: queries, `b h q d`; or packed `t h d`, with ``lengths``.
        k: keys, `b g k d`, or packed `s g d`; g divides h, and each key head serves h / g neighbouring query heads.
        v: values, of the shape of ``k``.
        lengths: tokens in each packed sequence, `b`, int64, on the CPU; a query sees its own sequence only.
        key_lengths: the same for keys, where they are not as many as the queries.
        mask: what may attend to what: ``Causal()``, ``Keys(...)`` (dense only), or both joined with ``&``.
        scale: what the scores are multiplied by; None is 1/√d.
        kernel: "oracle" is the formula itself, "sdpa" and "packed" are the fast paths for dense and packed input,
            "auto" takes the one that fits. All are exact.
    Returns:
        The shape and the dtype of ``q``.
    Raises:
        ShapeError: tensors that do not fit together, in shape, dtype or device.
        ConfigError: a kernel that is unknown or does not take this input, or a mask that does not.
    """
    check_tensors(q, k, v, packed=lengths is not None)
    by_formula = _choose(kernel, packed=lengths is not None) == "oracle"
    factor = q.shape[-1] ** -0.5 if scale is None else scale

    if lengths is None:
        if key_lengths is not None:
            raise ShapeError("key_lengths are for packed input, and need lengths beside them. Got key_lengths alone.")
        if mask is not None:
            check_mask(mask, q, k)
        dense = attend_by_formula if by_formula else attend_dense
        return dense(q, k, v, mask=mask, scale=factor)

    key_lengths = lengths if key_lengths is None else key_lengths
    check_lengths(lengths, len(q), name="lengths", of="q")
    check_lengths(key_lengths, len(k), name="key_lengths", of="k")
    check_pairs(lengths, key_lengths)
    if mask is not None and any(isinstance(part, Keys) for part in mask.parts()):
        raise ConfigError(
            "A Keys mask belongs to a dense batch. Packed sequences have no padding to hide.",
            hint="Leave the hidden keys out of the packed row.",
        )
    packed = attend_each_by_formula if by_formula else attend_packed
    return packed(q, k, v, lengths=lengths, key_lengths=key_lengths, mask=mask, scale=factor)


def _choose(kernel: str, *, packed: bool) -> str:
    if kernel not in get_args(Kernel):
        raise ConfigError(f"There is no attention kernel {kernel!r}.", hint=closest(kernel, get_args(Kernel)))
    fitting = "packed" if packed else "sdpa"
    if kernel not in ("auto", "oracle", fitting):
        given = "packed input, `t h d` with lengths" if packed else "dense input, `b h q d`"
        raise ConfigError(f"The kernel {kernel!r} does not take {given}.", hint=f"Choose {fitting!r} or 'auto'.")
    return fitting if kernel == "auto" else kernel
