"""Adaptive span against the naive formula; that it computes a band and learns how wide."""

import pytest
import torch
from torch import Tensor

from huiyan.attention.approximate.span import AdaptiveSpan
from huiyan.attention.functional import attend
from huiyan.attention.masks import Causal
from huiyan.core.errors import ConfigError


def random(*shape: int) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(3))


def naive(q: Tensor, k: Tensor, v: Tensor, z: Tensor, ramp: int, *, causal: bool) -> Tensor:
    """Equations 2 and 3, over all n² pairs."""
    n = q.shape[2]
    distance = torch.arange(n)[:, None] - torch.arange(n)
    m = ((ramp + z[:, None, None] - distance.abs()) / ramp).clamp(0, 1)
    if causal:
        m = m * (distance >= 0)
    weights = m * (q @ k.mT / q.shape[-1] ** 0.5).exp()
    return weights / weights.sum(dim=-1, keepdim=True) @ v


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("length", [1, 31, 100, 300])
@pytest.mark.parametrize(("spans", "ramp"), [([0.3, 3.2], 2), ([40.6, 7.25], 8), ([49.5, 49.5], 1)], ids=str)
def test_it_is_equations_2_and_3(spans: list[float], ramp: int, length: int, causal: bool) -> None:
    """Values, and gradients to the spans too, in one block and in many. (No span ends on a token: there is a kink.)"""
    core = AdaptiveSpan(2, max_span=50, ramp=ramp, causal=causal).double()
    core.share.data.copy_(torch.tensor(spans) / 50)
    z = (50 * core.share).detach().requires_grad_()
    inputs = random(2, 2, length, 4)
    expected = naive(*inputs, z, ramp, causal=causal)
    out = core(*inputs)
    torch.testing.assert_close(out, expected)
    expected.square().sum().backward()
    if length - 1 <= min(spans):  # no pair is beyond the spans: exact attention, in which they have no part
        assert not out.requires_grad and not z.grad.any()
        return
    out.square().sum().backward()
    torch.testing.assert_close(core.share.grad, 50 * z.grad, atol=1e-9, rtol=1e-6)


@pytest.mark.parametrize("causal", [False, True])
def test_a_span_over_the_whole_length_is_exact(causal: bool) -> None:
    q, k, v = random(2, 3, 70, 4)
    core = AdaptiveSpan(3, max_span=69, ramp=4, causal=causal)
    torch.testing.assert_close(core(q, k, v), attend(q, k, v, mask=Causal() if causal else None))


@pytest.mark.parametrize("causal", [False, True])
def test_what_lies_outside_the_windows_is_not_touched(causal: bool) -> None:
    """NaN far away reaches nothing: neither the output nor the gradients."""
    q, k, v = random(1, 2, 1024, 4)
    for x in (q, k, v):
        x[:, :, 512:] = float("nan")
    leaves = [x.requires_grad_() for x in (q, k, v)]
    core = AdaptiveSpan(2, max_span=1024, ramp=8, initial=20, causal=causal).double()
    out = core(*leaves)[:, :, :448]
    assert out.isfinite().all()
    out.sum().backward()
    assert all(leaf.grad[:, :, :448].isfinite().all() for leaf in leaves)


@pytest.mark.parametrize("causal", [False, True])
def test_hidden_keys_are_left_out_of_the_band(causal: bool) -> None:
    """In many blocks, with holes; a query that has nothing but hidden keys in its span gives 0."""
    q, k, v = random(2, 1, 200, 4)
    generator = torch.Generator().manual_seed(1)
    keys = torch.rand(2, 200, generator=generator) < 0.5
    keys[0, 60:100] = False
    core = AdaptiveSpan(1, max_span=12, ramp=4, initial=5.5, causal=causal).double()
    n = torch.arange(200)
    distance = (n[:, None] - n).double()
    m = ((4 + core.span.item() - distance.abs()) / 4).clamp(0, 1) * keys[:, None, None, :]
    if causal:
        m = m * (distance >= 0)
    weights = m * (q @ k.mT / 2).exp()
    total = weights.sum(dim=-1, keepdim=True)
    expected = torch.where(total > 0, weights / total @ v, 0.0)
    out = core(q, k, v, keys)
    torch.testing.assert_close(out, expected)
    assert torch.equal(out[0, :, 72:88], torch.zeros_like(out[0, :, 72:88]))


def test_cost_follows_the_span_and_not_the_square_of_the_length() -> None:
    def kept(length: int, span: float) -> int:
        """Numbers that autograd keeps for the backward pass."""
        numbers = 0

        def look(x: Tensor) -> Tensor:
            nonlocal numbers
            numbers += x.numel()
            return x

        core = AdaptiveSpan(1, max_span=4096, initial=span)
        leaves = [torch.randn(1, 1, length, 4, requires_grad=True) for _ in range(3)]
        with torch.autograd.graph.saved_tensors_hooks(look, lambda x: x):
            core(*leaves)
        return numbers

    assert kept(4096, 32) < 2.2 * kept(2048, 32)
    assert kept(2048, 32) < kept(2048, 512) / 4
    assert kept(4096, 32) < 4096**2 / 4


def test_the_penalty_is_the_mean_span_and_shrinks_it() -> None:
    core = AdaptiveSpan(4, max_span=100, initial=80)
    core.share.data[0] = 0.4
    assert core.penalty().item() == pytest.approx((40 + 3 * 80) / 4)
    core.penalty().backward()
    torch.testing.assert_close(core.share.grad, torch.full((4,), 25.0))


def test_heads_learn_the_span_that_the_task_needs() -> None:
    """The target looks 3 tokens far in one head and 20 in the other; the penalty brings both there from 40."""
    torch.manual_seed(0)
    core = AdaptiveSpan(2, max_span=40, ramp=4)
    wanted = torch.tensor([3.0, 20.0])
    optimiser = torch.optim.Adam(core.parameters(), lr=0.02)
    for _ in range(150):
        q, k, v = (torch.randn(4, 2, 48, 4) for _ in range(3))
        loss = (core(q, k, v) - naive(q, k, v, wanted, 4, causal=False)).square().mean() + 1e-6 * core.penalty()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    torch.testing.assert_close(core.span.detach(), wanted, atol=1.0, rtol=0.0)


def test_a_span_never_leaves_its_range_for_good() -> None:
    core = AdaptiveSpan(2, max_span=10, initial=5)
    core.share.data.copy_(torch.tensor([1.7, -0.4]))
    assert core.span.tolist() == [10.0, 0.0]
    core.penalty().backward()
    assert (core.share.grad > 0).all(), "at the edge there is a way back"
    core.eval()
    core.share.data.copy_(torch.tensor([1.7, -0.4]))
    assert core.span.tolist() == [10.0, 0.0]
    assert core.share.tolist() == pytest.approx([1.7, -0.4]), "looking changes nothing"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"n_heads": 0}, "n_heads option must be at least 1"),
        ({"max_span": 0}, "max_span option must be at least 1 token. Got 0"),
        ({"ramp": 0}, "ramp option must be at least 1 token"),
        ({"initial": 11}, "initial option must be between 0 and max_span, 10. Got 11"),
        ({"initial": -1}, "initial option"),
    ],
)
def test_options_out_of_range(changed: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        AdaptiveSpan(**({"n_heads": 2, "max_span": 10} | changed))
