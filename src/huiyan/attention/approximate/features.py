"""Feature maps φ with φ(q)·φ(k) in the place of exp(q·k/√d): what linear attention stands on.

A map gives features of at least 0, each row scaled to fit the range of its dtype, and the logarithm of that scale, so
that φ(x) = features · exp(log_scale). In the quotient of attention the scale of a query cancels; that of a key does
not, and is brought to one measure where keys are added up.
"""

import math
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from huiyan.core.config import require
from huiyan.core.errors import ShapeError
from huiyan.core.seeds import derive_seed


class FeatureMap(Protocol):
    """`b h l d` → features, `b h l r`, and the logarithm of their scale, `b h l`."""

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The features of each row and their scale."""
        ...


def elu_features(x: Float[Tensor, "*n d"]) -> tuple[Float[Tensor, "*n d"], Float[Tensor, "*n"]]:
    """elu(x) + 1. Source: Katharopoulos et al. 2020, eq. 7."""
    return F.elu(x) + 1, x.new_zeros(x.shape[:-1])


def relu_features(x: Float[Tensor, "*n d"]) -> tuple[Float[Tensor, "*n d"], Float[Tensor, "*n"]]:
    """max(x, 0) + 0.001. Source: Choromanski et al. 2021, section 4.1. Differs: no random projection before."""
    return F.relu(x) + 1e-3, x.new_zeros(x.shape[:-1])


class FavorFeatures(nn.Module):
    """FAVOR+: φ(x) = exp(ω x' − |x'|²/2) for `r` random directions ω, with x' = x / d^¼.

    The mean of φ(q)·φ(k) over the directions is an unbiased estimate of exp(q·k/√d). Its variance grows with
    exp(|q' + k'|²): long queries and keys need many features.

    Source: Choromanski et al. 2021, lemma 1 (positive features), section 2.4 (orthogonal directions).

    Args:
        head_width: `d`.
        n_features: `r`; None is d · ln d, the order that the paper's theorem 4 asks for.
        seed: of the directions, which are a buffer: they are saved with the model and not trained.
    Raises:
        ConfigError: a number below 1.
    """

    directions: Tensor

    def __init__(self, head_width: int, n_features: int | None = None, *, seed: int = 0) -> None:
        super().__init__()
        require(head_width >= 1, "head_width", "at least 1", head_width)
        if n_features is None:
            n_features = math.ceil(head_width * max(math.log(head_width), 1.0))
        require(n_features >= 1, "n_features", "at least 1", n_features)
        self.register_buffer("directions", orthogonal_directions(n_features, head_width, seed=seed))

    def redraw(self, seed: int) -> None:
        """Take other directions. The paper does so now and then while training (its section 4.2)."""
        n_features, width = self.directions.shape
        self.directions.copy_(orthogonal_directions(n_features, width, seed=seed))

    def forward(self, x: Float[Tensor, "*n d"]) -> tuple[Float[Tensor, "*n r"], Float[Tensor, "*n"]]:
        """The features of each row, the largest of them 1, and the logarithm of what they were divided by.

        Raises:
            ShapeError: rows of another width than the directions'.
        """
        width = self.directions.shape[1]
        if x.shape[-1] != width:
            raise ShapeError(f"These FAVOR features are for a head width of {width}. Got {tuple(x.shape)}.")
        x = x * width**-0.25
        exponents = x @ self.directions.to(x.dtype).T - x.square().sum(dim=-1, keepdim=True) / 2
        # Without a gradient: it is taken off here and put back, or cancels, later.
        largest = exponents.detach().amax(dim=-1)
        return (exponents - largest[..., None]).exp(), largest


def orthogonal_directions(n: int, width: int, *, seed: int) -> Float[Tensor, "n width"]:
    """Rows that are each N(0, 1), and orthogonal within every block of ``width`` of them."""
    generator = torch.Generator().manual_seed(derive_seed(seed, "favor"))
    blocks: list[Tensor] = []
    for _ in range(math.ceil(n / width)):
        basis, triangle = torch.linalg.qr(torch.randn(width, width, generator=generator, dtype=torch.float64))
        # With the signs of the diagonal it is uniform among all rotations (Mezzadri 2007); LAPACK's own is not.
        basis = basis * triangle.diagonal().sign()
        lengths = torch.randn(width, width, generator=generator, dtype=torch.float64).norm(dim=1)
        blocks.append(lengths[:, None] * basis.T)
    return torch.cat(blocks)[:n].to(torch.get_default_dtype())
