"""ALiBi: the slopes of the published code, and the penalty."""

import math

import pytest
import torch
from transformers.models.bloom.modeling_bloom import build_alibi_tensor

from huiyan.attention.positions.alibi import Alibi
from huiyan.core.errors import ConfigError


def published_slopes(n: int) -> list[float]:
    """Press et al. 2022, ``get_slopes`` of attention_with_linear_biases, rewritten."""
    if math.log2(n).is_integer():
        start = 2 ** (-(2 ** -(math.log2(n) - 3)))
        return [start ** (i + 1) for i in range(n)]
    below = 2 ** math.floor(math.log2(n))
    return published_slopes(below) + published_slopes(2 * below)[0::2][: n - below]


@pytest.mark.parametrize("n_heads", [1, 2, 3, 6, 8, 12, 16, 25, 112])
def test_slopes_are_the_published_ones(n_heads: int) -> None:
    expected = torch.tensor(published_slopes(n_heads), dtype=torch.float64)
    torch.testing.assert_close(Alibi(n_heads).double().slopes, expected, rtol=1e-12, atol=0)
    theirs = build_alibi_tensor(torch.ones(1, 2), n_heads, torch.float32)[:, 0, 1]
    torch.testing.assert_close(Alibi(n_heads).slopes, theirs)


def test_eight_heads_have_the_slopes_of_the_paper() -> None:
    assert Alibi(8).slopes.tolist() == [2.0**-i for i in range(1, 9)]


def test_the_penalty_grows_with_distance_on_both_sides() -> None:
    tile = Alibi(2).tile(range(3), range(4))
    distances = torch.tensor([[0.0, 1, 2, 3], [1, 0, 1, 2], [2, 1, 0, 1]])
    torch.testing.assert_close(tile, -distances * torch.tensor([1 / 16, 1 / 256])[:, None, None])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_a_cast_loses_nothing(dtype: torch.dtype) -> None:
    """Slopes of 6 heads are no bfloat16 numbers, nor is a distance of 1,001."""
    bias, cast = Alibi(6).terms(-1001, 0).bias, Alibi(6).to(dtype).terms(-1001, 0).bias
    assert bias is not None
    assert cast is not None
    assert torch.equal(bias, cast)


def test_no_heads() -> None:
    with pytest.raises(ConfigError, match="The n_heads option must be at least 1"):
        Alibi(0)
