"""Sinusoidal positions: fixed waves added to the input."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from huiyan.attention.positions.added import check_input, positions_of
from huiyan.core.config import require


def sinusoid(
    positions: Int[Tensor, "*n"] | Float[Tensor, "*n"],
    width: int,
    *,
    base: float = 10_000.0,
    interleaved: bool = True,
    dtype: torch.dtype | None = None,
) -> Float[Tensor, "*n m"]:
    """The encoding of any positions, negative and fractional ones too.

    PE(p, 2i) = sin(p / base^(2i/m)),  PE(p, 2i + 1) = cos(p / base^(2i/m))

    Source: Vaswani et al. 2017, section 3.5.

    Args:
        positions: of any shape.
        width: `m`, even.
        base: the longest wave has 2π · base positions, nearly.
        interleaved: sine and cosine take turns, as above; False puts all sines before all cosines, as Dai et al. 2019.
        dtype: of what is returned; None is torch's default. The waves are computed in float32, or in float64 for it.
    Raises:
        ConfigError: an odd width, or a base that is not above 1.
    """
    _check(width, base)
    dtype = torch.get_default_dtype() if dtype is None else dtype
    computed = torch.promote_types(dtype, torch.float32)
    waves = base ** (torch.arange(0, width, 2, device=positions.device, dtype=computed) / -width)
    angles = positions.to(computed)[..., None] * waves
    pair = (angles.sin(), angles.cos())
    both = torch.stack(pair, dim=-1).flatten(-2) if interleaved else torch.cat(pair, dim=-1)
    return both.to(dtype)


class Sinusoidal(nn.Module):
    """x plus the sinusoid of each position. No parameters, and no longest sequence.

    Source: Vaswani et al. 2017, section 3.5. Differs: the embeddings are not multiplied by √m here; dropout is the
    caller's.

    Args:
        width: `m`, even.
        base: of the wave lengths, which go from 2π to 2π · base.
        interleaved: as in ``sinusoid``.
    Raises:
        ConfigError: an odd width, or a base that is not above 1.
    """

    def __init__(self, width: int, base: float = 10_000.0, *, interleaved: bool = True) -> None:
        super().__init__()
        _check(width, base)
        self.width, self.base, self.interleaved = width, base, interleaved

    def forward(self, x: Float[Tensor, "*n m"], positions: Int[Tensor, "*#n"] | None = None) -> Float[Tensor, "*n m"]:
        """Add the position of each row.

        Args:
            x: `… l m`; or packed `t m`, with the position of each token in its own sequence.
            positions: what broadcasts to x without its width; None counts 0, 1, … along `l`.
        Raises:
            ShapeError: a width that is not the module's, or positions that do not broadcast.
        """
        check_input(self, x, positions, width=self.width)
        positions = positions_of(x) if positions is None else positions
        return x + sinusoid(positions, self.width, base=self.base, interleaved=self.interleaved, dtype=x.dtype)

    def extra_repr(self) -> str:
        """What ``print(module)`` shows."""
        return f"{self.width}, base={self.base}, interleaved={self.interleaved}"


def _check(width: int, base: float) -> None:
    require(width > 0 and width % 2 == 0, "width", "even and at least 2", width)
    require(base > 1, "base", "above 1", base)
