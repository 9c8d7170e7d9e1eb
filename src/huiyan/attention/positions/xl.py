"""Transformer-XL's relative positions: projected sinusoids of the distance, and two learnt biases."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from huiyan.attention.positions.offsets import bounded
from huiyan.attention.positions.relative import RelativeTerms, ScorePosition
from huiyan.attention.positions.sharing import own_or_borrow
from huiyan.attention.positions.sinusoidal import sinusoid
from huiyan.core.config import require
from huiyan.core.errors import ShapeError


class XLBiases(nn.Module):
    """The two biases `h d` that stand where an absolute position's query would: Transformer-XL shares them by layers.

    Args:
        n_heads: `h`.
        head_width: `d`.
    """

    def __init__(self, n_heads: int, head_width: int) -> None:
        super().__init__()
        require(n_heads > 0, "n_heads", "at least 1", n_heads)
        require(head_width > 0, "head_width", "at least 1", head_width)
        self.u = nn.Parameter(torch.empty(n_heads, head_width))
        self.w = nn.Parameter(torch.empty(n_heads, head_width))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw both from N(0, 0.02²), as the published code."""
        nn.init.normal_(self.u, std=0.02)
        nn.init.normal_(self.w, std=0.02)


@dataclass(frozen=True)
class _Kept:
    """Projected distances from ``first`` to ``last``, and a copy of the matrix that they are of."""

    weight: Tensor
    first: int
    last: int
    keys: Float[Tensor, "h r d"]

    def is_of(self, weight: Tensor) -> bool:
        """Whether they are of this matrix as it is now.

        The numbers tell, and nothing else: fused optimisers and changes through ``.data`` are not in the version that
        autograd counts.
        """
        same = self.weight.dtype == weight.dtype and self.weight.device == weight.device
        return same and torch.equal(self.weight, weight)

    def and_also(self, first: int, last: int) -> tuple[int, int]:
        return min(first, self.first), max(last, self.last)


class XLRelative(ScorePosition):
    """score(i, j) = scale · [(qᵢ + u) · kⱼ + (qᵢ + w) · W_kR R(i − j)], with R the sinusoid of a distance.

    | here | paper | shape |
    |---|---|---|
    | ``biases.u`` | u | `h d` |
    | ``biases.w`` | v | `h d` |
    | ``key`` | W_k,R | m → h·d |

    Source: Dai et al. 2019, section 3.3; R has its sines before its cosines, as in the published code. Differs: keys
    after the query have a negative distance (the paper's are masked).

    Args:
        width: `m`, even.
        n_heads: `h`.
        head_width: `d`; None is width / n_heads.
        clamp_length: distances beyond it, in either direction, are those at it; None clamps none.
        biases: those of another layer, to share them; they stay registered there alone. None is own ones.
        dropout: probability, on R, as the published code has it.
    Raises:
        ConfigError: a width that is odd or that the heads do not divide, a number below 1.
        ShapeError: biases of another shape.
    """

    biases: XLBiases

    def __init__(
        self,
        width: int,
        n_heads: int,
        *,
        head_width: int | None = None,
        clamp_length: int | None = None,
        biases: XLBiases | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        require(0 <= dropout < 1, "dropout", "at least 0 and below 1", dropout)
        require(width > 0 and width % 2 == 0, "width", "even and at least 2", width)
        require(n_heads > 0, "n_heads", "at least 1", n_heads)
        require(clamp_length is None or clamp_length > 0, "clamp_length", "at least 1, or None", clamp_length)
        if head_width is None:
            require(width % n_heads == 0, "width", f"a multiple of n_heads, {n_heads}", width)
            head_width = width // n_heads
        require(head_width > 0, "head_width", "at least 1", head_width)
        if biases is not None and biases.u.shape != (n_heads, head_width):
            raise ShapeError(
                f"XLRelative needs biases of shape {(n_heads, head_width)}. Got {tuple(biases.u.shape)} instead."
            )
        self.width, self.clamp_length = width, clamp_length
        own_or_borrow(self, "biases", biases, lambda: XLBiases(n_heads, head_width))
        self.key = nn.Linear(width, n_heads * head_width, bias=False)
        self.dropout = nn.Dropout(dropout)
        self._kept: _Kept | None = None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the projection from N(0, 0.02²), as the published code."""
        nn.init.normal_(self.key.weight, std=0.02)

    def terms(self, lowest: int, highest: int) -> RelativeTerms:
        """W_kR R for every distance, and the two biases."""
        far = self.clamp_length
        first, last = bounded(lowest, highest, below=None if far is None else -far, above=far)
        u, w = self.biases.u, self.biases.w
        if self.training or torch.is_grad_enabled() or torch.compiler.is_compiling():
            keys = self._projected(first, last)
        else:
            keys = self._kept_keys(first, last)
        return RelativeTerms(lowest=first, keys=keys, content_bias=u, position_bias=w)

    def _projected(self, first: int, last: int) -> Float[Tensor, "h r d"]:
        rows = self.key(self.dropout(self.distances(first, last)))
        return rows.unflatten(-1, self.biases.u.shape).transpose(0, 1)

    def _kept_keys(self, first: int, last: int) -> Float[Tensor, "h r d"]:
        """The same, projected once for as long as the matrix stays as it is: in evaluation it is asked every time."""
        weight, kept = self.key.weight, self._kept
        if weight.is_inference() or torch.is_autocast_enabled(weight.device.type):
            return self._projected(first, last)
        if kept is None or not kept.is_of(weight) or not kept.first <= first <= last <= kept.last:
            begin, end = (first, last) if kept is None or not kept.is_of(weight) else kept.and_also(first, last)
            with torch.inference_mode(mode=False), torch.no_grad():
                kept = _Kept(weight.clone(), begin, end, self._projected(begin, end).contiguous())
            self._kept = kept
        return kept.keys[:, first - kept.first : last - kept.first + 1]

    def distances(self, first: int, last: int) -> Float[Tensor, "r m"]:
        """R: the sinusoid of query position − key position, a row for each offset from ``first`` to ``last``."""
        weight = self.key.weight
        offsets = torch.arange(first, last + 1, device=weight.device)
        return sinusoid(-offsets, self.width, interleaved=False, dtype=weight.dtype)

    def extra_repr(self) -> str:
        """What ``print(module)`` shows."""
        n_heads, head_width = self.biases.u.shape
        return f"{self.width}, {n_heads}, head_width={head_width}, clamp_length={self.clamp_length}"
