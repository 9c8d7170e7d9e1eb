"""Nyström attention against its formula, its inverse against that of `torch`."""

import pytest
import torch
from torch import Tensor

from huiyan.attention.approximate.nystrom import NystromAttention, pseudo_inverse, segment_means
from huiyan.attention.functional import attend
from huiyan.core.errors import ConfigError


def random(*shape: int, n: int = 3) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(n))


def test_it_is_equation_13() -> None:
    q, k, v = random(2, 3, 12, 4)
    few_q, few_k = (x.reshape(2, 3, 4, 3, 4).mean(dim=3) for x in (q, k))
    left, middle, right = ((a @ b.mT / 2).softmax(dim=-1) for a, b in ((q, few_k), (few_q, few_k), (few_q, k)))
    expected = left @ torch.linalg.pinv(middle) @ right @ v
    torch.testing.assert_close(NystromAttention(4, iterations=30)(q, k, v), expected)


def test_the_inverse_follows_equation_14() -> None:
    (a,) = random(2, 5, 5, n=1)
    a = a.softmax(dim=-1)
    z = torch.stack([one.mT / (one.abs().sum(0).max() * one.abs().sum(1).max()) for one in a])
    eye = torch.eye(5, dtype=torch.float64)
    for n in range(1, 4):
        z = 0.25 * z @ (13 * eye - a @ z @ (15 * eye - a @ z @ (7 * eye - a @ z)))
        torch.testing.assert_close(pseudo_inverse(a, iterations=n), z)


def test_the_iteration_ends_at_the_pseudo_inverse() -> None:
    (a,) = random(3, 6, 6, n=1)
    a = (2 * a).softmax(dim=-1)
    torch.testing.assert_close(pseudo_inverse(a, iterations=40), torch.linalg.pinv(a), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("length", [16, 11, 1])
def test_as_many_landmarks_as_tokens_are_exact(length: int) -> None:
    q, k, v = random(2, 2, length, 4)
    torch.testing.assert_close(NystromAttention(16, iterations=40)(q, k, v), attend(q, k, v), atol=1e-6, rtol=1e-6)
    six = NystromAttention(16)(q, k, v)
    assert (six - attend(q, k, v)).norm() < 0.5 * attend(q, k, v).norm(), "six iterations are rough, and no nonsense"


def test_segments_are_equal_to_one_token() -> None:
    x = torch.arange(10, dtype=torch.float64)[None, None, :, None]
    torch.testing.assert_close(segment_means(x, 5).flatten().tolist(), [0.5, 2.5, 4.5, 6.5, 8.5])
    torch.testing.assert_close(segment_means(x, 4).flatten().tolist(), [1.0, 3.5, 6.0, 8.5])  # of 3, 2, 3 and 2
    keys = torch.tensor([[True] * 3 + [False] * 4 + [True] * 3])
    real = x.masked_fill(~keys[:, None, :, None], 0.0)
    torch.testing.assert_close(segment_means(real, 3, keys).flatten().tolist(), [0.5, 4.5, 8.5])
    few = torch.arange(10)[None] < 3
    only = x.masked_fill(~few[:, None, :, None], 0.0)
    torch.testing.assert_close(segment_means(only, 5, few).flatten().tolist(), [0.0, 1.0, 2.0, 0.0, 0.0])


def test_the_residual_is_a_convolution_of_each_head_and_starts_at_nothing() -> None:
    q, k, v = random(1, 2, 9, 4)
    core = NystromAttention(3, residual_kernel=3, n_heads=2)
    plain = NystromAttention(3)(q, k, v)
    assert torch.equal(core(q, k, v), plain)
    kernels = torch.tensor([[0.0, 0.0, 1.0], [0.5, 0.0, 0.0]])
    core.residual.weight.data.copy_(kernels[:, None, :, None])
    moved = core(q, k, v) - plain
    following = torch.cat([v[:, 0, 1:], torch.zeros_like(v[:, 0, :1])], dim=1)
    before = torch.cat([torch.zeros_like(v[:, 1, :1]), v[:, 1, :-1]], dim=1)
    torch.testing.assert_close(moved[:, 0], following)
    torch.testing.assert_close(moved[:, 1], before / 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_landmarks": 0}, "n_landmarks option must be at least 1. Got 0"),
        ({"n_landmarks": 2, "iterations": 0}, "iterations option must be at least 1"),
        ({"n_landmarks": 2, "residual_kernel": 4, "n_heads": 2}, "residual_kernel option must be an odd number.*Got 4"),
        ({"n_landmarks": 2, "residual_kernel": 3}, "n_heads option must be at least 1 where there is a.*Got None"),
    ],
)
def test_options_out_of_range(options: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        NystromAttention(**options)
