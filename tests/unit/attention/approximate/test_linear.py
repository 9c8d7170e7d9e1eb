"""Linear attention against the O(n²) formula, FAVOR+ against the kernel that it estimates."""

import math

import pytest
import torch
from torch import Tensor

from huiyan.attention.approximate.features import FavorFeatures, orthogonal_directions
from huiyan.attention.approximate.linear import LinearAttention
from huiyan.attention.functional import attend
from huiyan.attention.masks import Causal
from huiyan.core.errors import ConfigError, ShapeError


def random(*shape: int, n: int = 3, seed: int = 0) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(n))


def phi(core: LinearAttention, feature_map: str, x: Tensor) -> Tensor:
    """The feature maps as the papers write them."""
    if feature_map == "elu":
        return torch.where(x > 0, x + 1, x.exp())
    if feature_map == "relu":
        return x.clamp_min(0) + 1e-3
    w, x = core.features.directions.double(), x / x.shape[-1] ** 0.25
    return (x @ w.T).exp() * (-(x**2).sum(dim=-1, keepdim=True) / 2).exp() / math.sqrt(len(w))


@pytest.mark.parametrize("chunk", [1, 4, 64])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("feature_map", ["elu", "relu", "favor"])
def test_it_is_the_weighted_mean_of_equation_4(feature_map: str, causal: bool, chunk: int) -> None:
    options = {"head_width": 6, "n_features": 10} if feature_map == "favor" else {}
    core = LinearAttention(feature_map, causal=causal, chunk=chunk, **options)
    q, k, v = random(2, 3, 11, 6)
    similarity = phi(core, feature_map, q) @ phi(core, feature_map, k).mT
    if causal:
        similarity = similarity.tril()
    expected = (similarity / similarity.sum(dim=-1, keepdim=True)) @ v
    torch.testing.assert_close(core(q, k, v), expected)


def test_the_estimate_of_favor_is_unbiased() -> None:
    """The mean over many draws is exp(q·k/√d), within four standard errors, and orthogonal draws vary less."""
    q, k = (x / 2 for x in random(1, 1, 5, 8, n=2))
    exact = (q @ k.mT / math.sqrt(8)).exp()

    def estimate(features: FavorFeatures) -> Tensor:
        (q_features, q_scale), (k_features, k_scale) = features(q), features(k)
        return q_features @ k_features.mT / 8 * (q_scale[..., :, None] + k_scale[..., None, :]).exp()

    features = FavorFeatures(8, 8)
    draws = []
    for seed in range(1500):
        features.redraw(seed)
        draws.append(estimate(features))
    drawn = torch.stack(draws)
    error = drawn.std(dim=0) / math.sqrt(len(drawn))
    assert ((drawn.mean(dim=0) - exact).abs() <= 4 * error + 1e-9).all()
    assert (error < 0.06 * exact).all(), "so that the line above means something"


def test_more_features_are_nearer_to_exact_attention() -> None:
    q, k, v = (x / 2 for x in random(2, 2, 24, 8))
    for mask, causal in ((None, False), (Causal(), True)):
        exact = attend(q, k, v, mask=mask)
        errors = []
        for n_features in (16, 256, 4096):
            core = LinearAttention("favor", head_width=8, n_features=n_features, causal=causal)
            errors.append(float((core(q, k, v) - exact).norm() / exact.norm()))
        assert errors[0] > 1.5 * errors[1] > 2.25 * errors[2]
        assert errors[2] < 0.05


def test_directions_are_normal_and_orthogonal_in_blocks() -> None:
    rows = orthogonal_directions(3 * 16 + 5, 16, seed=0).double()
    assert rows.shape == (53, 16)
    for block in (rows[:16], rows[16:32], rows[48:]):
        product = block @ block.T
        off = product - product.diagonal().diag()
        assert off.abs().max() < 1e-5
    many = orthogonal_directions(16 * 1000, 16, seed=1)
    assert many.mean().abs() < 0.01
    assert many.var().item() == pytest.approx(1.0, abs=0.02)
    assert many.square().sum(dim=1).var().item() == pytest.approx(2 * 16, rel=0.1)  # of χ² with 16 degrees
    assert torch.equal(rows.float(), orthogonal_directions(53, 16, seed=0))
    assert not torch.equal(rows.float(), orthogonal_directions(53, 16, seed=2))


def test_overwhelming_keys_neither_overflow_nor_vanish() -> None:
    """In float32 exp would leave its range from 88 on; here exponents reach thousands."""
    q, k, v = (x.float() for x in random(1, 2, 40, 8))
    k = k * torch.linspace(1, 200, 40)[:, None]
    for causal in (False, True):
        core = LinearAttention("favor", head_width=8, n_features=32, causal=causal, chunk=8)
        leaves = [x.clone().requires_grad_() for x in (q, k, v)]
        out = core(*leaves)
        out.sum().backward()
        assert out.isfinite().all()
        assert (out.abs().amax(dim=-1) > 0).all()
        assert all(leaf.grad.isfinite().all() for leaf in leaves)
    weights = core(q, k, torch.ones_like(v))
    torch.testing.assert_close(weights, torch.ones_like(v))


@pytest.mark.parametrize("causal", [False, True])
def test_padding_does_not_drown_keys_that_are_far_from_every_direction(causal: bool) -> None:
    """A hidden key is a key of 0, whose features would be e²⁰⁰ times those of these real ones."""
    q, k, v = (x.float() for x in random(1, 2, 12, 8))
    core = LinearAttention("favor", head_width=8, n_features=8, causal=causal, chunk=4)
    keys = (torch.arange(12) >= 3)[None] & (torch.arange(12) < 9)
    padded = core(q, 40 * k, v, keys)[:, :, 3:9]
    torch.testing.assert_close(padded, core(*(x[:, :, 3:9] for x in (q, 40 * k, v))), atol=1e-4, rtol=1e-4)


def test_the_causal_form_never_holds_the_map() -> None:
    """What autograd keeps grows with the length, not with its square."""

    def kept(length: int) -> int:
        n_bytes = 0

        def count(x: Tensor) -> Tensor:
            nonlocal n_bytes
            n_bytes += x.numel() * x.element_size()
            return x

        leaves = [torch.randn(1, 1, length, 8, requires_grad=True) for _ in range(3)]
        with torch.autograd.graph.saved_tensors_hooks(count, lambda x: x):
            LinearAttention(causal=True)(*leaves)
        return n_bytes

    assert kept(2048) < 2.2 * kept(1024)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"feature_map": "exp"}, "feature_map option must be one of elu, relu, favor. Got 'exp'"),
        ({"feature_map": "favor"}, 'head_width option must be given for "favor". Got None'),
        ({"feature_map": "elu", "n_features": 9}, 'n_features option must be None for "elu".*Got 9'),
        ({"feature_map": "favor", "head_width": 0}, "head_width option must be at least 1"),
        ({"feature_map": "favor", "head_width": 4, "n_features": 0}, "n_features option must be at least 1"),
        ({"chunk": 0}, "chunk option must be at least 1"),
    ],
)
def test_options_out_of_range(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LinearAttention(**options)


def test_favor_is_for_one_head_width() -> None:
    assert LinearAttention("favor", head_width=32).features.directions.shape == (111, 32)  # 32 · ln 32
    with pytest.raises(ShapeError, match=r"head width of 4. Got \(1, 2, 3, 6\)"):
        LinearAttention("favor", head_width=4)(*random(1, 2, 3, 6))
