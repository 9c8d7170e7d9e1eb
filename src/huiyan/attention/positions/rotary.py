"""Rotary positions (RoPE): queries and keys turn with their position, so that scores know only the distance."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from huiyan.attention.positions.added import check_positions
from huiyan.attention.positions.rotary_scaling import LinearScaling, RotaryScaling
from huiyan.core.config import require
from huiyan.core.errors import ShapeError


class Rotary(nn.Module):
    """Turns the pair i of numbers in each head by the angle p θᵢ, p being the position, θᵢ = base^(−2i/r).

    (a, b) ↦ (a cos pθ − b sin pθ, a sin pθ + b cos pθ)

    The product of a query turned at p and a key turned at s depends on s − p alone. No parameters and no buffers.

    Source: Su et al. 2021, eq. 15 and 34. Differs: a pair is number i and number i + r/2, as in the checkpoints that
    `transformers` reads (Llama's among them); ``interleaved`` takes neighbours, as eq. 34. The first `r` numbers of a
    head may turn alone.

    Args:
        head_width: `d`.
        base: of the frequencies.
        rotated_width: `r`, how many numbers of a head turn, even; None is all.
        scaling: for longer sequences than in training: ``LinearScaling``, ``NtkScaling``, ``YarnScaling``. Its
            temperature multiplies the numbers that turn, as in `transformers`.
        interleaved: pairs are (0, 1), (2, 3), …
    Raises:
        ConfigError: a width that is odd or too large, or a base that is not above 1.
    """

    def __init__(
        self,
        head_width: int,
        base: float = 10_000.0,
        *,
        rotated_width: int | None = None,
        scaling: RotaryScaling | None = None,
        interleaved: bool = False,
    ) -> None:
        super().__init__()
        require(head_width > 0, "head_width", "at least 1", head_width)
        r = head_width if rotated_width is None else rotated_width
        name = "head_width" if rotated_width is None else "rotated_width"
        require(0 < r <= head_width and r % 2 == 0, name, f"even, from 2 to head_width, {head_width}", r)
        require(base > 1, "base", "above 1", base)
        right = scaling is None or isinstance(scaling, RotaryScaling)
        require(right, "scaling", "LinearScaling, NtkScaling, YarnScaling or None", scaling)
        self.head_width, self.base, self.rotated_width = head_width, base, r
        self.scaling, self.interleaved = scaling, interleaved

    def rotate(self, x: Float[Tensor, "*n h d"], positions: Int[Tensor, "*#n"]) -> Float[Tensor, "*n h d"]:
        """Queries or keys, each turned by its position.

        Angles and products are computed in float32, or in float64 for float64.

        Args:
            x: `… h d`: packed `t h d`, dense `b l h d`.
            positions: what broadcasts to x without heads and width: `t`; `l` or `b l`.
        Returns:
            The shape and the dtype of ``x``.
        Raises:
            ShapeError: a head width that is not the module's, or positions that do not broadcast.
        """
        if x.dim() < 3 or x.shape[-1] != self.head_width:
            raise ShapeError(f"Rotary takes `… h d` with d = {self.head_width}. Got {tuple(x.shape)} instead.")
        check_positions("Rotary", positions, x.shape[:-2])
        cos, sin = self.waves(positions, dtype=torch.promote_types(x.dtype, torch.float32))
        turning, still = x.split((self.rotated_width, self.head_width - self.rotated_width), dim=-1)
        if self.interleaved:
            pairs = turning.unflatten(-1, (-1, 2))
            a, b = pairs[..., 0], pairs[..., 1]
        else:
            a, b = turning.chunk(2, dim=-1)
        turned = (a * cos - b * sin, a * sin + b * cos)
        joined = torch.stack(turned, dim=-1).flatten(-2) if self.interleaved else torch.cat(turned, dim=-1)
        return torch.cat((joined.to(x.dtype), still), dim=-1)

    def waves(
        self, positions: Int[Tensor, "*n"], *, dtype: torch.dtype = torch.float32
    ) -> tuple[Float[Tensor, "*n 1 p"], Float[Tensor, "*n 1 p"]]:
        """Cosine and sine of the angle of every pair, times the scaling's temperature; the same for all heads."""
        scaling = LinearScaling(1.0) if self.scaling is None else self.scaling
        frequencies = scaling.frequencies(self.base, self.rotated_width, device=positions.device, dtype=dtype)
        angles = (positions[..., None] * frequencies)[..., None, :]
        return angles.cos() * scaling.temperature, angles.sin() * scaling.temperature

    def extra_repr(self) -> str:
        """What ``print(module)`` shows."""
        return (
            f"{self.head_width}, base={self.base}, rotated_width={self.rotated_width}, scaling={self.scaling}, "
            f"interleaved={self.interleaved}"
        )
