"""ALiBi: a penalty that grows with distance, at a slope of each head's own."""

import torch
from jaxtyping import Float
from torch import Tensor

from huiyan.attention.positions.offsets import bounded
from huiyan.attention.positions.relative import RelativeTerms, ScorePosition
from huiyan.core.config import require


class Alibi(ScorePosition):
    """score(i, j) − slope · |j − i|, without parameters.

    The slopes of h heads, h a power of two, are 2^(−8/h), 2^(−16/h), … 2^(−8). For another h they are those of the
    power of two below, c, followed by every other slope of 2c heads from the first.

    Source: Press et al. 2022, section 3; slopes for other numbers of heads as in the published ``get_slopes``.
    Differs: the paper's attention is causal. Keys that come after the query, where a mask lets it see them, fall off
    with distance as those before do; no head then tells left from right.

    Args:
        n_heads: `h`.
    Raises:
        ConfigError: no heads.
    """

    exponents: Float[Tensor, " h"]

    def __init__(self, n_heads: int) -> None:
        super().__init__()
        require(n_heads > 0, "n_heads", "at least 1", n_heads)
        power = 1 << (n_heads.bit_length() - 1)
        exponents = [8 * (i + 1) / power for i in range(power)]
        exponents += [4 * (2 * i + 1) / power for i in range(n_heads - power)]
        # Exponents and not slopes: up to 256 heads they are exact in every dtype a module may be cast to. On the CPU
        # by name: a model whose weights are assigned later is built on the meta device, and nobody assigns buffers.
        self.register_buffer("exponents", torch.tensor(exponents, device="cpu"), persistent=False)

    @property
    def slopes(self) -> Float[Tensor, " h"]:
        """The slope of each head, in float32 at least."""
        return torch.exp2(-self.exponents.to(torch.promote_types(self.exponents.dtype, torch.float32)))

    def terms(self, lowest: int, highest: int) -> RelativeTerms:
        """The bias, in float32 at least: bfloat16 has no number for most distances above 256."""
        first, last = bounded(lowest, highest)
        distances = torch.arange(first, last + 1, device=self.exponents.device).abs()
        return RelativeTerms(lowest=first, bias=-self.slopes[:, None] * distances)

    def extra_repr(self) -> str:
        """What ``print(module)`` shows."""
        return f"n_heads={len(self.exponents)}"
