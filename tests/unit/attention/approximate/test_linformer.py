"""Linformer against its formula."""

import pytest
import torch
from torch import Tensor

from huiyan.attention.approximate.linformer import LinformerAttention
from huiyan.attention.functional import attend
from huiyan.core.errors import ConfigError, ShapeError


def random(*shape: int) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(3))


@pytest.mark.parametrize("sharing", ["none", "heads", "key-value"])
@pytest.mark.parametrize("length", [12, 9, 5])
def test_it_is_equation_7(sharing: str, length: int) -> None:
    """Head by head, with the first columns of the projections where the input is shorter."""
    core = LinformerAttention(3, max_length=12, rank=5, sharing=sharing)
    q, k, v = random(2, 3, length, 4)
    e = core.key_projection.detach().double()
    f = e if core.value_projection is None else core.value_projection.detach().double()
    out = core(q, k, v)
    for head in range(3):
        e_head, f_head = (x[head if sharing == "none" else 0, :, :length] for x in (e, f))
        weights = (q[:, head] @ (e_head @ k[:, head]).mT / 2).softmax(dim=-1)
        torch.testing.assert_close(out[:, head], weights @ (f_head @ v[:, head]))
    shapes = {name: tuple(parameter.shape) for name, parameter in core.named_parameters()}
    heads = 3 if sharing == "none" else 1
    names = ["key_projection", "value_projection"][: 1 if sharing == "key-value" else 2]
    assert shapes == dict.fromkeys(names, (heads, 5, 12))


@pytest.mark.parametrize("length", [10, 6, 1])
def test_identity_projections_are_exact_at_every_length(length: int) -> None:
    core = LinformerAttention(2, max_length=10, rank=10, sharing="key-value")
    torch.nn.init.eye_(core.key_projection[0].data)
    q, k, v = random(2, 2, length, 4)
    torch.testing.assert_close(core(q, k, v), attend(q, k, v))


def test_a_start_of_means_pools_segments() -> None:
    """With keys and values that are constant in each segment nothing is lost."""
    core = LinformerAttention(2, max_length=12, rank=4, initial="mean")
    q, k, v = random(1, 2, 12, 4)
    k, v = (x[:, :, :4].repeat_interleave(3, dim=2) for x in (k, v))
    torch.testing.assert_close(core(q, k, v), attend(q, k, v), atol=1e-7, rtol=1e-6)


def test_a_gaussian_start_has_the_variance_of_theorem_2() -> None:
    torch.manual_seed(0)
    core = LinformerAttention(4, max_length=200, rank=50, sharing="none")
    assert core.key_projection.std().item() == pytest.approx(50**-0.5, rel=0.02)
    assert not torch.equal(core.key_projection, core.value_projection)


def test_a_longer_input_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"at most 8 tokens. Got 9. Build it with a larger max_length"):
        LinformerAttention(2, max_length=8, rank=4)(*random(1, 2, 9, 4))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"n_heads": 0}, "n_heads option must be at least 1. Got 0"),
        ({"max_length": 0}, "max_length option must be at least 1"),
        ({"rank": 9}, "rank option must be between 1 and max_length, 8. Got 9"),
        ({"rank": 0}, "rank option"),
        ({"sharing": "layer"}, "sharing option must be one of none, heads, key-value. Got 'layer'"),
        ({"initial": "zeros"}, "initial option must be one of gaussian, mean. Got 'zeros'"),
    ],
)
def test_options_out_of_range(changed: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LinformerAttention(**({"n_heads": 2, "max_length": 8, "rank": 4} | changed))
