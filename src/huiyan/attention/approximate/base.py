"""What every approximation has in common: what it takes, what it refuses, in what precision it computes."""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from huiyan.core.errors import ShapeError


class Approximation(nn.Module, ABC):
    """Attention among the tokens of each sequence, approximately.

    It stands where exact self-attention stands: queries, keys and values of the same tokens, heads first. float32 and
    float64 are computed as they come; half precision is computed in float32, inside autocast too, because running
    sums and a pseudo-inverse do not survive 8 bits of mantissa.

    Attributes:
        causal: whether a query sees its own position and what came before, and nothing else.
    """

    causal: bool = False

    def forward(
        self,
        q: Float[Tensor, "b h l d"],
        k: Float[Tensor, "b h l d"],
        v: Float[Tensor, "b h l d"],
        keys: Bool[Tensor, "b l"] | None = None,
    ) -> Float[Tensor, "b h l d"]:
        """What each query takes from the values.

        Args:
            q: queries.
            k: keys, one head for each query head.
            v: values.
            keys: True for a real token, False for padding, whose key and value are as if they were not there. A query
                that may see nothing gives 0, and its gradients are finite.
        Returns:
            The shape and the dtype of ``q``.
        Raises:
            ShapeError: tensors that do not fit together, or longer than the module was built for.
        """
        check_inputs(q, k, v, keys)
        if not q.numel():
            return q
        if keys is not None:
            # Whatever stands in the padding, NaN too, must not get into a sum.
            k, v = (x.masked_fill(~keys[:, None, :, None], 0.0) for x in (k, v))
        wide = torch.promote_types(q.dtype, torch.float32)
        with torch.autocast(q.device.type, enabled=False):
            out = self.meet(q.to(wide), k.to(wide), v.to(wide), keys)
        return out.to(q.dtype)

    @abstractmethod
    def meet(self, q: Tensor, k: Tensor, v: Tensor, keys: Tensor | None) -> Tensor:
        """The approximation itself, on checked tensors in which hidden keys and values are 0."""


def check_inputs(q: Tensor, k: Tensor, v: Tensor, keys: Tensor | None) -> None:
    """Raise unless q, k, v are three alike `b h l d` and ``keys`` a boolean `b l` beside them.

    Raises:
        ShapeError: saying what does not fit.
    """
    if q.dim() != 4 or not q.shape == k.shape == v.shape:
        raise ShapeError(
            "An approximation takes q, k and v of one shape, `b h l d`: self-attention with a key head for each query "
            f"head. Got q {tuple(q.shape)}, k {tuple(k.shape)}, v {tuple(v.shape)}.",
            hint="Repeat shared key heads before, or put ApproximateSelfAttention around it.",
        )
    if not q.is_floating_point() or len({q.dtype, k.dtype, v.dtype}) > 1 or len({q.device, k.device, v.device}) > 1:
        raise ShapeError(
            "q, k and v must have one floating dtype and be on one device. "
            f"Got {q.dtype}, {k.dtype}, {v.dtype} on {q.device}, {k.device}, {v.device}."
        )
    if keys is not None and (keys.dtype != torch.bool or keys.shape != (q.shape[0], q.shape[2])):
        raise ShapeError(
            f"keys must be boolean, `b l`, here {(q.shape[0], q.shape[2])}, with True for a real token. "
            f"Got {keys.dtype} of shape {tuple(keys.shape)}."
        )


def check_heads(q: Tensor, n_heads: int) -> None:
    """Raise unless the queries have the heads that a module has parameters for.

    Raises:
        ShapeError: they do not.
    """
    if q.shape[1] != n_heads:
        raise ShapeError(f"This module has parameters for {n_heads} heads. Got q {tuple(q.shape)}, `b h l d`.")


def masked_softmax(scores: Tensor, allowed: Tensor | None) -> Tensor:
    """Softmax along the last dimension over what is allowed; a row with nothing is 0, and so are its gradients."""
    if allowed is None:
        return scores.softmax(dim=-1)
    # The lowest finite number, not -inf: a row of -inf alone would be NaN, here and in the backward pass.
    lowest = torch.finfo(scores.dtype).min
    return scores.masked_fill(~allowed, lowest).softmax(dim=-1).masked_fill(~allowed, 0.0)


def normalised(sums: Tensor, total: Tensor) -> Tensor:
    """``sums / total``, and 0 where the total is 0: there was nothing to add up."""
    return sums / torch.where(total > 0, total, 1.0)
