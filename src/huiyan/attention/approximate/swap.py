"""An approximation in the place of trained attention: its projections stay, its core is another."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from huiyan.attention.approximate.base import Approximation
from huiyan.attention.masks import Causal, Mask
from huiyan.attention.multihead import MultiHeadAttention
from huiyan.core.config import require
from huiyan.core.errors import ConfigError, ShapeError

_KEPT = ("query", "key", "value", "out")
_MORE = ("position", "query_norm", "key_norm", "scale", "soft_cap", "sinks", "dropout")


class ApproximateSelfAttention(nn.Module):
    """The projections of a ``MultiHeadAttention`` around an approximate core.

    ``layer.attention = ApproximateSelfAttention(layer.attention, core)`` is all it takes. The projections are the
    same parameters under the same names. Packed input is padded to its longest sequence for the core alone: here is
    the only place where an encoder pads.

    Args:
        attention: trained self-attention.
        core: what queries and keys meet in from now on.
    Raises:
        ConfigError: ``attention`` does something beside projecting and attending (a position scheme, a norm on
            queries and keys, a scale of its own, a soft cap, sinks, dropout on the weights), which the core would
            silently leave out; or it is cross-attention.
    """

    def __init__(self, attention: MultiHeadAttention, core: Approximation) -> None:
        super().__init__()
        require(isinstance(attention, MultiHeadAttention), "attention", "a MultiHeadAttention", type(attention))
        require(isinstance(core, Approximation), "core", "an Approximation", type(core))
        more = [name for name, _ in attention.named_children() if name not in _KEPT]
        more += [name for name, _ in attention.named_parameters(recurse=False)]
        more += [name for name in _MORE if _is_given(getattr(attention, name, None))]
        if more:
            raise ConfigError(
                f"An approximation stands for plain attention, and this one also has {', '.join(sorted(set(more)))}.",
                hint="Approximations are for layers without these; dropout can be set to 0 before.",
            )
        # A projection may be no nn.Linear but thin matrices in its place, which know their width or do not.
        widths = [getattr(project, "in_features", None) for project in (attention.query, attention.key)]
        require(None in widths or widths[0] == widths[1], "attention", "self-attention, from one width", widths)
        self.head_width = attention.head_width
        self.query, self.key, self.value, self.out = (getattr(attention, name) for name in _KEPT)
        self.core = core

    def forward(
        self,
        x: Float[Tensor, "b l m"] | Float[Tensor, "t m"],
        *,
        lengths: Int[Tensor, " b"] | None = None,
        mask: Mask | None = None,
    ) -> Float[Tensor, "b l m"] | Float[Tensor, "t m"]:
        """Attend within each sequence of a dense batch `b l m`, or of a packed row `t m` with its lengths `b`.

        Raises:
            ShapeError: ``x`` is neither, or the lengths do not add up.
            ConfigError: a mask that the core does not have: None, or ``Causal()`` with a causal core.
        """
        if x.dim() != (3 if lengths is None else 2):
            raise ShapeError(
                "ApproximateSelfAttention takes `b l m`, or `t m` with lengths. "
                f"Got {tuple(x.shape)} with{'out' if lengths is None else ''} lengths instead."
            )
        self._check_mask(mask)
        q, k, v = (project(x).unflatten(-1, (-1, self.head_width)) for project in (self.query, self.key, self.value))
        shared = q.shape[-2] // k.shape[-2]
        k, v = (heads.repeat_interleave(shared, dim=-2) if shared > 1 else heads for heads in (k, v))
        if lengths is None:
            heads = self.core(*(rows.transpose(1, 2) for rows in (q, k, v))).transpose(1, 2)
        else:
            heads = self._attend_packed(q, k, v, lengths)
        return self.out(heads.flatten(-2))

    def _check_mask(self, mask: Mask | None) -> None:
        known = mask is None or isinstance(mask, Causal)
        if not known or (mask is not None) != self.core.causal:
            core = f"{type(self.core).__name__}, which is {'' if self.core.causal else 'not '}causal"
            raise ConfigError(
                f"The core is {core}. Got the mask {mask!r}.",
                hint="A causal core takes Causal() and no other mask, any other core takes None.",
            )

    def _attend_packed(self, q: Tensor, k: Tensor, v: Tensor, lengths: Tensor) -> Tensor:
        if bool((lengths < 0).any()) or int(lengths.sum()) != len(q):
            raise ShapeError(f"lengths must add up to the {len(q)} tokens of x. Got {lengths.tolist()}.")
        if not len(q):
            return q
        longest = int(lengths.max())
        real = torch.arange(longest) < lengths[:, None]  # b l
        if bool(real.all()):
            dense = (rows.unflatten(0, real.shape).transpose(1, 2) for rows in (q, k, v))
            return self.core(*dense).transpose(1, 2).flatten(0, 1)
        keys = real.to(q.device, non_blocking=True)
        places = real.flatten().nonzero()[:, 0].to(q.device, non_blocking=True)  # t, of the flattened batch
        padded = (_padded(rows, places, real.shape) for rows in (q, k, v))
        return self.core(*padded, keys).transpose(1, 2).flatten(0, 1).index_select(0, places)


def _is_given(option: object) -> bool:
    return option is not None and not (isinstance(option, int | float) and option == 0)


def _padded(rows: Tensor, places: Tensor, shape: torch.Size) -> Tensor:
    """`t h d` → `b h l d`, with zeros behind each sequence."""
    flat = rows.new_zeros(shape.numel(), *rows.shape[1:]).index_copy(0, places, rows)
    return flat.unflatten(0, shape).transpose(1, 2)
