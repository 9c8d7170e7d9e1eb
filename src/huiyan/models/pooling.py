"""From the rows of a sequence's tokens, `t m`, to one row a sequence, `b m`."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from huiyan.attention.functional import attend
from huiyan.core.packed import Packed
from huiyan.models.config import Pooling


class FirstPooling(nn.Module):
    """The row of the first token, which models are pretrained to gather the sequence in."""

    def forward(self, rows: Float[Tensor, "t m"], packed: Packed) -> Float[Tensor, "b m"]:
        """The first row of each sequence."""
        return rows.index_select(0, packed.first_tokens())


class MeanPooling(nn.Module):
    """The average row. Source: Reimers and Gurevych 2019, section 3."""

    def forward(self, rows: Float[Tensor, "t m"], packed: Packed) -> Float[Tensor, "b m"]:
        """The mean over each sequence, summed in float32 whatever the precision of the rows."""
        sums = torch.zeros(
            len(packed), rows.shape[1], device=rows.device, dtype=torch.promote_types(rows.dtype, torch.float32)
        )
        sums = sums.index_add(0, packed.sequence_ids(), rows.to(sums.dtype))
        return sums / packed.lengths.to(rows.device, non_blocking=True)[:, None]


class AttentionPooling(nn.Module):
    """A learned query for each head attends over the sequence. Source: Lee et al. 2019 (PMA with one seed)."""

    def __init__(self, width: int, n_heads: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.zeros(n_heads, width // n_heads))
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)

    def forward(self, rows: Float[Tensor, "t m"], packed: Packed) -> Float[Tensor, "b m"]:
        """The attended value of each sequence; at a query of 0, the mean of its values."""
        k, v = (project(rows).unflatten(-1, self.query.shape) for project in (self.key, self.value))
        q = self.query.to(k.dtype).expand(len(packed), -1, -1)
        one_query_each = torch.ones_like(packed.lengths)
        return attend(q, k, v, lengths=one_query_each, key_lengths=packed.lengths).flatten(-2)


POOLINGS: dict[Pooling, Callable[[int, int], nn.Module]] = {
    "first": lambda _width, _n_heads: FirstPooling(),
    "mean": lambda _width, _n_heads: MeanPooling(),
    "attention": AttentionPooling,
}
