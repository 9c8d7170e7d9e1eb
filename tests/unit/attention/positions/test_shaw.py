"""Shaw et al. 2018, equations 3 and 4, pair by pair."""

from typing import Any

import pytest
import torch

from huiyan.attention.positions.relative import value_terms
from huiyan.attention.positions.shaw import ShawRelative
from huiyan.core.errors import ConfigError


@pytest.mark.parametrize("n_heads", [None, 2], ids=["shared", "by head"])
def test_keys_and_values_are_the_equations(n_heads: int | None) -> None:
    far, h, d = 2, 2, 3
    scheme = ShawRelative(d, far, n_heads=n_heads).double()
    q, k, v = torch.randn(3, h, 6, d, dtype=torch.float64)
    scale = d**-0.5
    whole = range(6)
    scores = scale * q @ k.mT + scheme.tile(whole, whole, q=q, scale=scale)
    weights = scores.softmax(-1)
    out = weights @ v + value_terms(scheme.terms(-5, 5), whole, whole, weights)

    assert scheme.values is not None
    for head in range(h):
        row = 0 if n_heads is None else head
        for i in range(6):
            clipped = [max(-far, min(far, j - i)) + far for j in range(6)]
            of_keys = torch.stack([k[head, j] + scheme.keys[row, clipped[j]] for j in range(6)])
            of_values = torch.stack([v[head, j] + scheme.values[row, clipped[j]] for j in range(6)])
            alpha = (of_keys @ q[head, i] / d**0.5).softmax(-1)
            torch.testing.assert_close(out[head, i], alpha @ of_values)


def test_tables() -> None:
    assert ShawRelative(4, 3).keys.shape == (1, 7, 4)
    alone = ShawRelative(4, 3, values=False, n_heads=5)
    assert alone.keys.shape == (5, 7, 4)
    assert alone.terms(-9, 9).values is None
    bound = (6 / (7 + 4)) ** 0.5
    largest = alone.keys.abs().amax().item()
    assert 0.8 * bound < largest <= bound


@pytest.mark.parametrize("values", [{"head_width": 0}, {"max_distance": 0}, {"n_heads": 0}], ids=str)
def test_misuse(values: dict[str, Any]) -> None:
    (named,) = values
    with pytest.raises(ConfigError, match=f"The {named} option must be at least 1"):
        ShawRelative(**{"head_width": 4, "max_distance": 2, **values})
