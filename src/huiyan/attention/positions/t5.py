"""T5's relative bias: one learnt number for each head and each bucket of distances."""

import math

import torch
from jaxtyping import Int
from torch import Tensor, nn

from huiyan.attention.positions.offsets import bounded
from huiyan.attention.positions.relative import RelativeTerms, ScorePosition
from huiyan.core.config import require


class T5Bias(ScorePosition):
    """score(i, j) + table[bucket(j − i)].

    With n buckets for a direction, distances below n/2 have one each; those from n/2 to ``max_distance`` share the
    rest, each wider than the one before; all beyond share the last:

    bucket(x) = n/2 + ⌊log(x / (n/2)) / log(max_distance / (n/2)) · n/2⌋, at most n − 1

    Source: Raffel et al. 2020, section 2.1; the formula is that of the published code. Differs: the table is drawn from
    N(0, 0.02²); T5 draws it with a deviation of m^(−1/2). T5 does not scale its scores: pass ``scale=1`` to ``attend``.

    Args:
        n_heads: `h`.
        n_buckets: rows of the table; both directions together.
        max_distance: from here on all distances are alike.
        bidirectional: half of the buckets are for keys after the query. False, for a causal mask, gives all of them
            to keys before it, and to those after it bucket 0.
    Raises:
        ConfigError: no heads, buckets that cannot be halved as needed, or a distance below them.
    """

    buckets: Int[Tensor, " r"]

    def __init__(
        self, n_heads: int, n_buckets: int = 32, max_distance: int = 128, *, bidirectional: bool = True
    ) -> None:
        super().__init__()
        require(n_heads > 0, "n_heads", "at least 1", n_heads)
        parts = 4 if bidirectional else 2
        expected = f"a multiple of {parts}" + (" (two directions, each halved)" if bidirectional else "")
        require(n_buckets > 0 and n_buckets % parts == 0, "n_buckets", expected, n_buckets)
        exact = n_buckets // parts
        require(max_distance > exact, "max_distance", f"above {exact}, the distances with a bucket each", max_distance)
        self.max_distance, self.bidirectional = max_distance, bidirectional
        self.table = nn.Parameter(torch.empty(n_buckets, n_heads))
        offsets = torch.arange(-max_distance, (max_distance if bidirectional else 0) + 1, device="cpu")
        # Computed once and on the CPU: on a boundary of two buckets, devices round a logarithm differently. And it must
        # not be on the meta device, where a model is built whose parameters are assigned later.
        found = buckets(offsets, n_buckets=n_buckets, max_distance=max_distance, bidirectional=bidirectional)
        self.register_buffer("buckets", found, persistent=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the table from N(0, 0.02²)."""
        nn.init.normal_(self.table, std=0.02)

    def terms(self, lowest: int, highest: int) -> RelativeTerms:
        """The bias: at most one row for each distance up to ``max_distance``, in each direction."""
        far = self.max_distance
        first, last = bounded(lowest, highest, below=-far, above=far if self.bidirectional else 0)
        return RelativeTerms(lowest=first, bias=self.table[self.buckets[first + far : last + far + 1]].T)

    def extra_repr(self) -> str:
        """What ``print(module)`` shows."""
        n_buckets, n_heads = self.table.shape
        return f"{n_heads}, {n_buckets}, max_distance={self.max_distance}, bidirectional={self.bidirectional}"


def buckets(offsets: Int[Tensor, "*n"], *, n_buckets: int, max_distance: int, bidirectional: bool) -> Int[Tensor, "*n"]:
    """The bucket of each offset, key position − query position, as the class says."""
    half = n_buckets // 2 if bidirectional else n_buckets
    distances = offsets.abs() if bidirectional else (-offsets).clamp(min=0)
    exact = half // 2
    # In float32 and in this order, as the published code: a checkpoint has learnt its boundaries.
    logarithms = torch.log(distances.clamp(min=exact).float() / exact) / math.log(max_distance / exact)
    far = (exact + (logarithms * (half - exact)).long()).clamp(max=half - 1)
    found = torch.where(distances < exact, distances, far)
    return found + half * (offsets > 0).long() if bidirectional else found
