"""Learnt positions: one row for each, added to the input."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from huiyan.attention.positions.added import check_input
from huiyan.core.config import require
from huiyan.core.errors import ShapeError


class Learned(nn.Module):
    """x plus the row ``table[p]`` of each position p.

    Source: Gehring et al. 2017, section 3.1; as in Devlin et al. 2019. A position beyond the table is an error: nothing
    was learnt for it.

    Args:
        n_positions: rows of the table.
        width: `m`.
    Raises:
        ConfigError: a number below 1.
    """

    def __init__(self, n_positions: int, width: int) -> None:
        super().__init__()
        require(n_positions > 0, "n_positions", "at least 1", n_positions)
        require(width > 0, "width", "at least 1", width)
        self.table = nn.Parameter(torch.empty(n_positions, width))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the table from N(0, 0.02²), as BERT does."""
        nn.init.normal_(self.table, std=0.02)

    def forward(self, x: Float[Tensor, "*n m"], positions: Int[Tensor, "*#n"] | None = None) -> Float[Tensor, "*n m"]:
        """Add the position of each row.

        Args:
            x: `… l m`; or packed `t m`, with the position of each token in its own sequence.
            positions: what broadcasts to x without its width; None counts 0, 1, … along `l`.
        Raises:
            ShapeError: a width that is not the module's, positions that do not broadcast or have no row.
        """
        n_positions, width = self.table.shape
        check_input(self, x, positions, width=width)
        if positions is None:
            if x.shape[-2] > n_positions:
                raise self._beyond(x.shape[-2] - 1)
            return x + self.table[: x.shape[-2]].to(x.dtype)
        # Inside torch.compile nobody may look at a number; there the lookup's own check has to do.
        if positions.numel() and not torch.compiler.is_compiling():
            lowest, highest = (int(bound) for bound in positions.aminmax())
            if lowest < 0 or highest >= n_positions:
                raise self._beyond(lowest if lowest < 0 else highest)
        return x + self.table[positions].to(x.dtype)

    def _beyond(self, position: int) -> ShapeError:
        return ShapeError(
            f"There is no row for position {position}. Expected 0 … {len(self.table) - 1}.",
            hint="Build Learned with a larger n_positions, or cut the input.",
        )

    def extra_repr(self) -> str:
        """What ``print(module)`` shows."""
        return f"n_positions={self.table.shape[0]}, width={self.table.shape[1]}"
