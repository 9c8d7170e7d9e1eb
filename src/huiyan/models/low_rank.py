"""Linear layers of low rank, and how a trained one is factorised so that its outputs on real rows change least."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from huiyan.core.config import require
from huiyan.core.errors import ConfigError, ShapeError, closest
from huiyan.core.weightless import weightless

PROJECTIONS = (
    "attention.query",
    "attention.key",
    "attention.value",
    "attention.out",
    "feed_forward.inner",
    "feed_forward.outer",
)
"""What may be factorised in a layer: everything that multiplies every token, and nothing else."""
# In self-attention these three are given the same rows, whose moments are gathered once.
_SAME_INPUT = {"attention.key": "attention.query", "attention.value": "attention.query"}
_RIDGE = 1e-6  # of the mean variance: directions in which no calibration row varies still have an order, by weight


class LowRankLinear(nn.Module):
    """A linear layer in two steps, `m` → `r` → `n`: y = U (V x) + b, with ``down`` = V and ``up`` = U, b.

    It has r · (m + n) weights, where one step has m · n.

    Args:
        in_width: `m`.
        out_width: `n`.
        rank: `r`, from 1 to the smaller width.
        bias: whether b is there.
    Raises:
        ConfigError: the rank is out of range.
    """

    def __init__(self, in_width: int, out_width: int, rank: int, *, bias: bool = True) -> None:
        super().__init__()
        full = min(in_width, out_width)
        require(1 <= rank <= full, "rank", f"from 1 to the smaller width, {full}", rank)
        self.down = nn.Linear(in_width, rank, bias=False)
        self.up = nn.Linear(rank, out_width, bias=bias)

    def forward(self, x: Float[Tensor, "*rows m"]) -> Float[Tensor, "*rows n"]:
        """`… m` → `… n`."""
        return self.up(self.down(x))


def largest_saving_rank(in_width: int, out_width: int) -> int:
    """The largest rank with fewer weights than the full matrix: r · (m + n) < m · n. It may be 0."""
    return (in_width * out_width - 1) // (in_width + out_width)


def projections(encoder: nn.Module) -> dict[str, nn.Linear]:
    """The full projections of every layer, named as in the encoder, such as ``stack.layers.0.attention.query``."""
    return {
        name: module
        for name, module in encoder.named_modules()
        if isinstance(module, nn.Linear) and name.startswith("stack.layers.") and name.endswith(PROJECTIONS)
    }


def lower_ranks(encoder: nn.Module, ranks: Mapping[str, int]) -> None:
    """Put low-rank layers, fresh ones, in the places that ``ranks`` names.

    Raises:
        ConfigError: a name is of no full projection, or a rank is out of range.
    """
    known = projections(encoder)
    for name, rank in ranks.items():
        if name not in known:
            raise ConfigError(f"The encoder has no full projection {name!r}.", hint=closest(name, known))
        full = known[name]
        layer = LowRankLinear(full.in_features, full.out_features, rank, bias=bias_of(full) is not None)
        encoder.set_submodule(name, layer)


class InputMoments:
    """Mean and covariance of a layer's input rows, from running sums: no row is kept.

    The sums are float64 on the CPU, `m` and `m m`; the product within one batch is in the rows' own precision.
    """

    def __init__(self, width: int) -> None:
        self.n_rows = 0
        self._shift = torch.zeros(width)
        self._sum = torch.zeros(width, dtype=torch.float64)
        self._products = torch.zeros(width, width, dtype=torch.float64)

    def add(self, rows: Float[Tensor, "*rows m"]) -> None:
        """Count rows in."""
        flat = rows.detach().reshape(-1, rows.shape[-1]).float()
        if self.n_rows == 0 and len(flat):
            # About a point near the mean, so that a large mean does not swallow a small variance.
            self._shift = flat.mean(0).cpu()
        flat = flat - self._shift.to(flat.device)
        self.n_rows += len(flat)
        # Taken to the CPU first: not every device knows float64.
        self._sum += flat.sum(0).cpu()
        self._products += (flat.T @ flat).cpu()

    @property
    def mean(self) -> Float[Tensor, " m"]:
        """E[x], float64."""
        return self._shift.double() + self._sum / max(1, self.n_rows)

    @property
    def covariance(self) -> Float[Tensor, "m m"]:
        """E[x xᵀ] − E[x] E[x]ᵀ, float64."""
        offset = self._sum / max(1, self.n_rows)
        return self._products / max(1, self.n_rows) - torch.outer(offset, offset)

    @property
    def second_moment(self) -> Float[Tensor, "m m"]:
        """E[x xᵀ], float64."""
        return self.covariance + torch.outer(self.mean, self.mean)


@contextlib.contextmanager
def input_moments(encoder: nn.Module) -> Iterator[dict[str, InputMoments]]:
    """Gather the moments of what enters each projection while the block runs the encoder."""
    full = projections(encoder)
    moments: dict[str, InputMoments] = {}
    with contextlib.ExitStack() as hooks:
        for name, layer in full.items():
            ending = next((ending for ending in _SAME_INPUT if name.endswith(ending)), "")
            twin = name.removesuffix(ending) + _SAME_INPUT.get(ending, "")
            if twin in moments:
                moments[name] = moments[twin]
                continue
            moments[name] = InputMoments(layer.in_features)
            hooks.enter_context(told_inputs(layer, moments[name].add))
        yield moments


@contextlib.contextmanager
def told_inputs(layer: nn.Module, tell: Callable[[Tensor], None]) -> Iterator[None]:
    """Hand everything that enters a layer to ``tell`` while the block runs it."""
    handle = layer.register_forward_pre_hook(lambda _module, inputs: tell(inputs[0]))
    try:
        yield
    finally:
        handle.remove()


@dataclass(frozen=True)
class Factors:
    """A linear layer taken apart: ``layer(r)`` is its best stand-in of rank r, for every r at once.

    Args:
        up: U, orthonormal columns, most important first, `n k`, float32 on the CPU.
        down: Uᵀ W, `k m`, float32 on the CPU.
        energies: how much of the output's variance each component carries, `k`, falling, float64.
        bias: of the layer, `n`; None without one.
        mean: E[x] that the bias makes up for, `m`; None where it is not to.
    """

    up: Float[Tensor, "n k"]
    down: Float[Tensor, "k m"]
    energies: Float[Tensor, " k"]
    bias: Float[Tensor, " n"] | None
    mean: Float[Tensor, " m"] | None

    @property
    def saving_rank(self) -> int:
        """The largest rank with fewer weights than the full matrix."""
        return largest_saving_rank(self.down.shape[1], self.up.shape[0])

    def rank_losing(self, share: float) -> int:
        """The smallest rank, at least 1, that loses no more than ``share`` of the energy."""
        lost = self.energies.flip(0).cumsum(0).flip(0)  # lost[r]: by keeping the first r
        return max(1, int((lost > share * lost[0]).sum()))

    def layer(self, rank: int) -> LowRankLinear:
        """The stand-in of that rank, on the CPU.

        Raises:
            ConfigError: the rank is out of range.
        """
        # On the meta device, so that nothing is drawn from torch's own generator.
        with weightless():
            layer = LowRankLinear(self.down.shape[1], self.up.shape[0], rank, bias=self.bias is not None)
        layer.down.weight = nn.Parameter(self.down[:rank].clone())
        layer.up.weight = nn.Parameter(self.up[:, :rank].contiguous())
        if self.bias is not None:
            # What the dropped components give for the mean input they give for every row: a constant.
            dropped = 0.0 if self.mean is None else self.up[:, rank:] @ (self.down[rank:] @ self.mean)
            layer.up.bias = nn.Parameter(self.bias + dropped)
        return layer


@torch.no_grad()
def factorise(linear: nn.Linear, moments: InputMoments | None = None) -> Factors:
    """Take a linear layer apart so that cutting it to rank r changes its outputs least.

    With S Sᵀ = Cov(x) (Cholesky) and the SVD W S = U Σ Vᵀ, the best Ŵ of rank r is Uᵣ Uᵣᵀ W, and the squares of the
    singular values left out are what it loses: min E‖(W − Ŵ)(x − E x)‖² = Σ_{i>r} σᵢ².

    Source: Wang et al. 2024 (SVD-LLM), eq. 1 and section 3.1, written without S⁻¹: Uᵣ Σᵣ Vᵣᵀ S⁻¹ = Uᵣ Uᵣᵀ W. Differs:
    moments are taken about the mean, and the bias takes over what the mean loses, as in Yu and Wu 2023 (AFM); a small
    ridge on the diagonal. A layer without bias uses E[x xᵀ], as SVD-LLM does.

    Args:
        linear: W, `n m`, and its bias.
        moments: of its input; None is the plain SVD of W, as if all inputs were alike.
    Raises:
        ShapeError: the moments are of another width, or of no row at all.
    """
    weight = linear.weight.detach().double().cpu()
    bias = bias_of(linear)
    if bias is not None:
        bias = bias.detach().float().cpu().clone()
    if moments is None:
        u, sizes, _ = torch.linalg.svd(weight, full_matrices=False)
        return Factors(u.float(), (u.T @ weight).float(), sizes.square(), bias, None)
    if moments.n_rows == 0 or moments.mean.shape != weight.shape[1:]:
        raise ShapeError(
            f"The moments must be of rows of width {weight.shape[1]}. "
            f"Got {moments.n_rows} rows of width {len(moments.mean)} instead."
        )
    spread = moments.second_moment if bias is None else moments.covariance
    ridge = max(_RIDGE * float(spread.diagonal().mean()), torch.finfo(torch.float32).tiny)
    u, sizes, _ = torch.linalg.svd(weight @ _square_root(spread, ridge), full_matrices=False)
    mean = None if bias is None else moments.mean.float()
    return Factors(u.float(), (u.T @ weight).float(), sizes.square(), bias, mean)


def _square_root(spread: Tensor, ridge: float) -> Tensor:
    """S with S Sᵀ = spread + ridge · 1."""
    raised = spread + ridge * torch.eye(len(spread), dtype=spread.dtype)
    root, info = torch.linalg.cholesky_ex(raised)
    if int(info) == 0:
        return root
    # The products of one batch are rounded to float32, which may push the smallest eigenvalues below the ridge.
    values, vectors = torch.linalg.eigh(raised)
    return vectors * values.clamp(min=ridge).sqrt()


def bias_of(linear: nn.Linear) -> Tensor | None:
    """The bias of a linear layer, `n`, or None; torch types it as always there."""
    return cast("Tensor | None", linear.bias)
