"""Shaw's relative positions: a learnt vector for each offset, as part of the key and of the value."""

import torch
from torch import nn

from huiyan.attention.positions.offsets import bounded
from huiyan.attention.positions.relative import RelativeTerms, ScorePosition
from huiyan.core.config import require


class ShawRelative(ScorePosition):
    """Keys kⱼ + keys[o] and values vⱼ + values[o], where o = clip(j − i, −n, n) and n is ``max_distance``.

    | here | paper |
    |---|---|
    | ``keys``, `#h r d` | wᴷ, so that aᴷᵢⱼ = keys[o] |
    | ``values``, `#h r d` | wⱽ |
    | ``max_distance`` | k |

    Source: Shaw et al. 2018, eq. 3–5 and section 3.2. The tables are drawn by Xavier's uniform rule, as in
    tensor2tensor.

    Args:
        head_width: `d`.
        max_distance: offsets beyond it are those at it; the tables have 2 · max_distance + 1 rows.
        values: whether values have a part from their position too. The paper's ablation lost nothing without.
        n_heads: None shares the tables among heads, as the paper does; `h` gives each head its own.
    Raises:
        ConfigError: a number below 1.
    """

    def __init__(self, head_width: int, max_distance: int, *, values: bool = True, n_heads: int | None = None) -> None:
        super().__init__()
        require(head_width > 0, "head_width", "at least 1", head_width)
        require(max_distance > 0, "max_distance", "at least 1", max_distance)
        require(n_heads is None or n_heads > 0, "n_heads", "at least 1, or None", n_heads)
        self.max_distance = max_distance
        shape = (n_heads or 1, 2 * max_distance + 1, head_width)
        self.keys = nn.Parameter(torch.empty(shape))
        self.values = nn.Parameter(torch.empty(shape)) if values else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw both tables, head by head."""
        for table in (self.keys, self.values):
            for head in () if table is None else table:
                nn.init.xavier_uniform_(head)

    def terms(self, lowest: int, highest: int) -> RelativeTerms:
        """The rows of both tables that are needed, without a copy."""
        far = self.max_distance
        first, last = bounded(lowest, highest, below=-far, above=far)
        rows = slice(first + far, last + far + 1)
        values = None if self.values is None else self.values[:, rows]
        return RelativeTerms(lowest=first, keys=self.keys[:, rows], values=values)

    def extra_repr(self) -> str:
        """What ``print(module)`` shows."""
        return f"{self.keys.shape[2]}, max_distance={self.max_distance}, values={self.values is not None}"
