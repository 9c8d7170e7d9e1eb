"""Linformer: keys and values projected along the length, from `l` rows down to `rank`."""

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from huiyan.attention.approximate.base import Approximation, check_heads
from huiyan.attention.functional import attend
from huiyan.attention.masks import Keys
from huiyan.core.config import require
from huiyan.core.errors import ShapeError

Sharing = Literal["none", "heads", "key-value"]
Initial = Literal["gaussian", "mean"]


class LinformerAttention(Approximation):
    """softmax(q (E k)ᵀ / √d) (F v), with E and F learnt, `r l`: O(l · rank) time and memory.

    Source: Wang et al. 2020, eq. 7. Differs: a sequence shorter than ``max_length`` uses the first columns of E and F
    and, where it is shorter than the rank too, as many of their first rows as it has tokens (a row more would be a
    key of zeros that takes its share of the weights). Identity projections are therefore exact at every length.

    What a projection has learnt belongs to positions, so the module knows no length beyond ``max_length``, and it
    cannot be causal: a projected key mixes what came before a query with what comes after.

    Args:
        n_heads: `h`.
        max_length: the longest sequence, `l`, in tokens.
        rank: `r`, rows that keys and values are projected to.
        sharing: "none" gives each head an E and an F, "heads" one E and one F to all heads, "key-value" one
            matrix for both. For the paper's layer-wise sharing, hand one module to every layer.
        initial: "gaussian" draws entries from N(0, 1/rank), as the paper's theorem 2 does; "mean" makes each row the
            mean of its segment of the positions (the pooling of the paper's section 4), which is nearer to a trained
            layer when inputs are about ``max_length`` long.
    Raises:
        ConfigError: a number below 1, a rank above ``max_length``, an unknown choice.
    """

    def __init__(
        self,
        n_heads: int,
        *,
        max_length: int,
        rank: int,
        sharing: Sharing = "heads",
        initial: Initial = "gaussian",
    ) -> None:
        super().__init__()
        require(n_heads >= 1, "n_heads", "at least 1", n_heads)
        require(max_length >= 1, "max_length", "at least 1", max_length)
        require(1 <= rank <= max_length, "rank", f"between 1 and max_length, {max_length}", rank)
        require(sharing in get_args(Sharing), "sharing", "one of " + ", ".join(get_args(Sharing)), sharing)
        require(initial in get_args(Initial), "initial", "one of " + ", ".join(get_args(Initial)), initial)
        self.n_heads, self.max_length, self.rank = n_heads, max_length, rank
        self.sharing, self.initial = sharing, initial
        heads = n_heads if sharing == "none" else 1
        self.key_projection = nn.Parameter(torch.empty(heads, rank, max_length))
        # None and not a second name of one parameter: safetensors does not write a tensor twice.
        shared = sharing == "key-value"
        self.value_projection = None if shared else nn.Parameter(torch.empty(heads, rank, max_length))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw or set E and F afresh."""
        for projection in (self.key_projection, self.value_projection):
            if projection is None:
                continue
            if self.initial == "gaussian":
                projection.normal_(std=self.rank**-0.5)
                continue
            segments = torch.arange(self.max_length) * self.rank // self.max_length
            members = (segments == torch.arange(self.rank)[:, None]).to(projection)
            projection.copy_(members / members.sum(dim=-1, keepdim=True))

    def meet(self, q: Tensor, k: Tensor, v: Tensor, keys: Tensor | None) -> Tensor:
        """Project, then attend exactly to the projected rows."""
        check_heads(q, self.n_heads)
        length = q.shape[2]
        if length > self.max_length:
            raise ShapeError(
                f"This Linformer projects at most {self.max_length} tokens. Got {length}.",
                hint="Build it with a larger max_length, or cut the input.",
            )
        n_rows = min(self.rank, length)
        value_projection = self.key_projection if self.value_projection is None else self.value_projection
        e, f = (projection[:, :n_rows, :length].to(k.dtype) for projection in (self.key_projection, value_projection))
        return attend(q, e @ k, f @ v, mask=None if keys is None else Keys(_rows_used(keys, n_rows)))


def _rows_used(keys: Tensor, n_rows: int) -> Tensor:
    """Which projected rows each sequence has, `b r`: it must not matter how far a batch was padded."""
    ends = torch.where(keys, torch.arange(1, keys.shape[1] + 1, device=keys.device), 0).amax(dim=1)
    return torch.arange(n_rows, device=keys.device) < ends[:, None]
