"""Transformer-XL: the relative shift of the published code, and the formula of section 3.3."""

from typing import Any

import pytest
import torch
from beartype import beartype
from jaxtyping import jaxtyped
from torch import Tensor

from huiyan.attention.positions.sinusoidal import sinusoid
from huiyan.attention.positions.xl import XLBiases, XLRelative
from huiyan.core.errors import ConfigError, ShapeError

H, D, M = 2, 4, 8


def shifted(x: Tensor) -> Tensor:
    """``_rel_shift`` of the published code, on `h q k`: row i moves left by q − 1 − i."""
    h, q, k = x.shape
    padded = torch.cat((x.new_zeros(h, q, 1), x), dim=-1)
    return padded.view(h, k + 1, q)[:, 1:].reshape(h, q, k)


def scheme(**options: Any) -> XLRelative:
    torch.manual_seed(1)
    made = XLRelative(M, H, **options).double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_()
    return made


@pytest.mark.parametrize("clamp_length", [None, 4])
@pytest.mark.parametrize("memory", [0, 5])
def test_scores_are_ac_and_bd_of_the_published_code(memory: int, clamp_length: int | None) -> None:
    n = 6
    length = n + memory
    made = scheme(clamp_length=clamp_length)
    q, k = torch.randn(H, n, D, dtype=torch.float64), torch.randn(H, length, D, dtype=torch.float64)
    distances = torch.arange(length - 1, -1, -1.0, dtype=torch.float64)
    if clamp_length is not None:
        distances = distances.clamp(max=clamp_length)
    angles = distances[:, None] / 10_000 ** (torch.arange(0.0, M, 2.0, dtype=torch.float64) / M)
    r = torch.cat((angles.sin(), angles.cos()), dim=-1)
    projected = made.key(r).view(length, H, D).transpose(0, 1)
    u, w = made.biases.u[:, None], made.biases.w[:, None]
    expected = ((q + u) @ k.mT + shifted((q + w) @ projected.mT)) * D**-0.5

    ours = D**-0.5 * q @ k.mT + made.tile(range(memory, length), range(length), q=q, k=k, scale=D**-0.5)
    causal = torch.ones(n, length).tril(memory).bool()
    torch.testing.assert_close(ours[:, causal], expected[:, causal], atol=1e-12, rtol=1e-12)


def test_keys_after_the_query_have_a_negative_distance() -> None:
    made = scheme(clamp_length=2)
    q, k = torch.zeros(H, 1, D, dtype=torch.float64), torch.zeros(H, 4, D, dtype=torch.float64)
    r = sinusoid(torch.tensor([0, -1, -2, -2]), M, interleaved=False, dtype=torch.float64)
    expected = torch.einsum("hd,khd->hk", made.biases.w, made.key(r).view(4, H, D))
    torch.testing.assert_close(made.tile(range(1), range(4), q=q, k=k)[:, 0], expected)


@pytest.mark.parametrize("clamp_length", [None, 3])
def test_terms_without_biases_are_the_same_terms(clamp_length: int | None) -> None:
    """What kernels see: (q + u) in place of q, and the rest as a bias."""
    made = scheme(clamp_length=clamp_length)
    q, k = torch.randn(5, H, D, dtype=torch.float64), torch.randn(5, H, D, dtype=torch.float64)
    expected = torch.einsum("qhd,khd->hqk", q, k) * 0.7
    expected = expected + made.tile(range(5), range(5), q=q.transpose(0, 1), k=k.transpose(0, 1), scale=0.7)
    with_u, terms = made.terms(-4, 4).without_biases(q, 0.7)
    index = terms.rows(torch.arange(5) - torch.arange(5)[:, None])
    assert terms.keys is not None
    assert terms.bias is not None
    scores = torch.einsum("qhd,khd->hqk", with_u, k) + torch.einsum("qhd,hqkd->hqk", with_u, terms.keys[:, index])
    torch.testing.assert_close(0.7 * scores + terms.bias[:, index], expected)


def test_heads_of_another_width() -> None:
    made = XLRelative(10, 3, head_width=4)
    keys = made.terms(-2, 2).keys
    assert keys is not None
    assert keys.shape == (3, 5, 4)
    assert jaxtyped(typechecker=beartype)(XLRelative.distances)(made, -2, 2).shape == (5, 10)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"width": 7}, "width"),
        ({"width": 0}, "width"),
        ({"n_heads": 0}, "n_heads"),
        ({"n_heads": 3}, "width"),
        ({"head_width": 0}, "head_width"),
        ({"clamp_length": 0}, "clamp_length"),
    ],
    ids=str,
)
def test_misuse(values: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=f"The {named} option must be"):
        XLRelative(**{"width": 8, "n_heads": 2, **values})


def test_biases_of_another_shape() -> None:
    with pytest.raises(ShapeError, match=r"needs biases of shape \(2, 4\). Got \(2, 5\)"):
        XLRelative(8, 2, biases=XLBiases(2, 5))
    with pytest.raises(ConfigError, match="n_heads"):
        XLBiases(0, 4)


def test_keys_are_projected_once_in_evaluation_and_again_when_the_matrix_changes() -> None:
    made = scheme(dropout=0.5).eval()

    def keys(lowest: int, highest: int) -> Tensor:
        with torch.no_grad():
            return made.terms(lowest, highest).keys

    def fresh(lowest: int, highest: int) -> Tensor:
        return made.key(made.distances(lowest, highest)).unflatten(-1, (H, D)).transpose(0, 1).detach()

    first = keys(-3, 0)
    torch.testing.assert_close(first, fresh(-3, 0))
    assert keys(-2, 0).data_ptr() == first[:, 1:].data_ptr()
    torch.testing.assert_close(keys(-9, 4), fresh(-9, 4))
    with torch.no_grad():
        made.key.weight.mul_(2)
    torch.testing.assert_close(keys(-3, 0), fresh(-3, 0))
    made.float()
    assert keys(-3, 0).dtype == torch.float32
    torch.testing.assert_close(keys(-3, 0), fresh(-3, 0))
    made.key.weight = torch.nn.Parameter(torch.ones_like(made.key.weight))
    torch.testing.assert_close(keys(-3, 0), fresh(-3, 0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert keys(-3, 0).dtype == torch.bfloat16
    made.train()
    assert not torch.equal(keys(-3, 0), keys(-3, 0))
    made.eval()
    with torch.enable_grad():
        assert made.terms(-3, 0).keys.requires_grad


@pytest.mark.parametrize("how", ["fused optimiser", "data", "in place"])
def test_kept_keys_are_those_of_the_matrix_as_it_is(how: str) -> None:
    made = scheme().eval()
    with torch.no_grad():
        before = made.terms(-3, 5).keys
        assert made.terms(-2, 4).keys.data_ptr() == made.terms(-2, 5).keys.data_ptr()  # projected once
    weight = made.key.weight
    if how == "fused optimiser":
        weight.grad = torch.ones_like(weight)
        torch.optim.AdamW([weight], lr=0.1, fused=True).step()
    elif how == "data":
        weight.data.mul_(2)
    else:
        with torch.no_grad():
            weight.mul_(2)
    with torch.no_grad():
        after = made.terms(-3, 5).keys
    assert after is not None and before is not None and not torch.equal(after, before)
    with torch.enable_grad():
        wanted = made.terms(-3, 5).keys
    torch.testing.assert_close(after, wanted)
