"""Sinusoids: the formula of section 3.5 number by number, in both orders."""

import math

import pytest
import torch
from beartype import beartype
from jaxtyping import TypeCheckError, jaxtyped

from huiyan.attention.positions.sinusoidal import Sinusoidal, sinusoid
from huiyan.core.errors import ConfigError, ShapeError

checked = jaxtyped(typechecker=beartype)


@pytest.mark.parametrize("interleaved", [True, False])
def test_it_is_the_formula(interleaved: bool) -> None:
    positions = [0.0, 1.0, 7.0, -3.0, 2.5, 5000.0]
    encoding = sinusoid(torch.tensor(positions), 6, base=100.0, interleaved=interleaved, dtype=torch.float64)
    for row, p in zip(encoding, positions, strict=True):
        for i in range(3):
            angle = p / 100.0 ** (2 * i / 6)
            sine, cosine = (row[2 * i], row[2 * i + 1]) if interleaved else (row[i], row[3 + i])
            assert sine.item() == pytest.approx(math.sin(angle), abs=1e-9)
            assert cosine.item() == pytest.approx(math.cos(angle), abs=1e-9)


def test_the_default_base_is_the_papers() -> None:
    (row,) = sinusoid(torch.tensor([300]), 4, dtype=torch.float64)
    angles = 300.0, 300.0 / 100.0
    expected = [wave(angle) for angle in angles for wave in (math.sin, math.cos)]
    torch.testing.assert_close(row, torch.tensor(expected, dtype=torch.float64))


def test_packed_tokens_have_the_positions_of_their_own_sequence() -> None:
    module, x = Sinusoidal(8), torch.randn(5, 8)
    packed = module(x, torch.tensor([0, 1, 2, 0, 1]))
    torch.testing.assert_close(packed[:3], module(x[:3]))
    torch.testing.assert_close(packed[3:], module(x[3:]))
    dense = torch.randn(2, 5, 8)
    torch.testing.assert_close(module(dense), torch.stack([module(dense[0]), module(dense[1])]))
    torch.testing.assert_close(module(dense, torch.arange(5).expand(2, 5)), module(dense))
    assert not list(module.state_dict())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_waves_are_computed_in_float32_at_least(dtype: torch.dtype) -> None:
    far = torch.tensor([3001])
    exact = sinusoid(far, 8, dtype=torch.float64)
    got = sinusoid(far, 8, dtype=dtype)
    assert got.dtype == dtype
    assert (got.double() - exact).abs().max() <= torch.finfo(dtype).eps + (dtype != torch.float64) * 1e-3
    assert Sinusoidal(8)(torch.zeros(2, 8, dtype=dtype)).dtype == dtype


def test_misuse() -> None:
    for width in (0, 7, -2):
        with pytest.raises(ConfigError, match="width"):
            Sinusoidal(width)
    with pytest.raises(ConfigError, match="base"):
        sinusoid(torch.arange(3), 4, base=1.0)
    with pytest.raises(ShapeError, match="m = 8"):
        Sinusoidal(8)(torch.zeros(3, 1))
    with pytest.raises(ShapeError, match="one position for each"):
        Sinusoidal(8)(torch.zeros(3, 8), torch.arange(4))
    with pytest.raises(ShapeError, match="broadcast"):
        Sinusoidal(8)(torch.zeros(1, 8), torch.arange(4))


def test_the_annotations_hold() -> None:
    forward = checked(Sinusoidal.forward)
    module = Sinusoidal(4)
    assert forward(module, torch.zeros(2, 3, 4)).shape == (2, 3, 4)
    assert forward(module, torch.zeros(2, 3, 4), torch.arange(3)).shape == (2, 3, 4)
    assert forward(module, torch.zeros(2, 3, 4), torch.zeros(2, 1, dtype=torch.int64)).shape == (2, 3, 4)
    assert checked(sinusoid)(torch.zeros(2, 3), 4).shape == (2, 3, 4)
    with pytest.raises(TypeCheckError):
        forward(module, torch.zeros(3, 4), torch.zeros(3))
