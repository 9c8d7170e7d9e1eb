"""Rotary positions: the paper's matrix, its law, and `transformers` for every scaling."""

import math
from typing import Any

import pytest
import torch
from beartype import beartype
from jaxtyping import TypeCheckError, jaxtyped
from torch import Tensor
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb

from huiyan.attention.positions.rotary import Rotary
from huiyan.attention.positions.rotary_scaling import LinearScaling, NtkScaling, RotaryScaling, YarnScaling
from huiyan.core.errors import ConfigError, ShapeError

checked = jaxtyped(typechecker=beartype)
YARN = {"factor": 4.0, "original_max_position_embeddings": 32}
# Ours, and what a `transformers` configuration says for the same.
PAIRS: dict[str, tuple[RotaryScaling | None, dict[str, Any]]] = {
    "none": (None, {"rope_type": "default"}),
    "linear": (LinearScaling(3.0), {"rope_type": "linear", "factor": 3.0}),
    "yarn": (YarnScaling(4.0, 32), {"rope_type": "yarn", **YARN}),
    "yarn bounds": (
        YarnScaling(8.0, 64, beta_fast=6.0, beta_slow=2.0),
        {
            "rope_type": "yarn",
            "factor": 8.0,
            "original_max_position_embeddings": 64,
            "beta_fast": 6.0,
            "beta_slow": 2.0,
        },
    ),
    "yarn exact": (
        YarnScaling(4.0, 512, truncate=False, attention_factor=0.7),
        {
            "rope_type": "yarn",
            "factor": 4.0,
            "original_max_position_embeddings": 512,
            "truncate": False,
            "attention_factor": 0.7,
        },
    ),
}


def llama(rope: dict[str, Any], *, head_width: int = 16, base: float = 500.0) -> LlamaConfig:
    return LlamaConfig(
        hidden_size=2 * head_width,
        num_attention_heads=2,
        head_dim=head_width,
        max_position_embeddings=128,
        rope_parameters={"rope_theta": base, **rope},
    )


@pytest.mark.parametrize("name", PAIRS)
def test_it_is_that_of_transformers(name: str) -> None:
    scaling, rope = PAIRS[name]
    q, k = torch.randn(2, 9, 4, 16), torch.randn(2, 9, 2, 16)
    positions = torch.randint(0, 128, (2, 9))
    peer = LlamaRotaryEmbedding(llama(rope))
    cos, sin = peer(q, positions)
    theirs = apply_rotary_pos_emb(q, k, cos, sin, unsqueeze_dim=2)
    rotary = Rotary(16, 500.0, scaling=scaling)
    for x, expected in zip((q, k), theirs, strict=True):
        torch.testing.assert_close(rotary.rotate(x, positions), expected, atol=2e-5, rtol=2e-5)
    # The tolerance above is one rounding of a frequency, 128 positions on.
    ours = LinearScaling(1.0) if scaling is None else scaling
    torch.testing.assert_close(ours.frequencies(500.0, 16), peer.inv_freq, atol=0, rtol=3e-7)
    assert ours.temperature == pytest.approx(peer.attention_scaling)


@pytest.mark.parametrize("length", [20, 128, 129, 300])
def test_ntk_at_a_length_is_the_dynamic_one_of_transformers(length: int) -> None:
    config = llama({"rope_type": "dynamic", "factor": 2.5})
    theirs, _ = ROPE_INIT_FUNCTIONS["dynamic"](config, torch.device("cpu"), seq_len=length)
    scaling = NtkScaling.at_length(length, original_length=128, factor=2.5)
    torch.testing.assert_close(scaling.frequencies(500.0, 16), theirs, atol=0, rtol=2e-6)


def test_ntk_leaves_the_fastest_pair_and_slows_the_slowest_by_the_factor() -> None:
    """Peng et al. 2023, section 3.1: that is where the exponent d/(d−2) comes from."""
    plain, scaled = (s.frequencies(1e4, 32, dtype=torch.float64) for s in (LinearScaling(1.0), NtkScaling(8.0)))
    ratio = plain / scaled
    assert ratio[0].item() == pytest.approx(1.0)
    assert ratio[-1].item() == pytest.approx(8.0)
    assert (ratio.diff() > 0).all()


def test_yarn_by_the_papers_definition_outside_the_ramp() -> None:
    """Pairs of more than β turns in training stay, those of less than α are interpolated, others lie between."""
    length, factor = 4096, 16.0
    scaling = YarnScaling(factor, length)
    theta = LinearScaling(1.0).frequencies(1e4, 128, dtype=torch.float64)
    got = scaling.frequencies(1e4, 128, dtype=torch.float64)
    turns = length * theta / (2 * math.pi)
    fast, slow = turns > 40, turns < 0.9
    assert fast.sum() > 5 and slow.sum() > 5
    torch.testing.assert_close(got[fast], theta[fast])
    torch.testing.assert_close(got[slow], theta[slow] / factor)
    between = ~fast & ~slow
    assert ((got[between] <= theta[between]) & (got[between] >= theta[between] / factor)).all()
    assert scaling.temperature == pytest.approx(0.1 * math.log(16) + 1)
    assert YarnScaling(1.0, 64).temperature == 1.0


def rotation(p: int, width: int, base: float) -> Tensor:
    """R of eq. 15: a block of cos, −sin, sin, cos for each pair of neighbours."""
    blocks = []
    for i in range(width // 2):
        angle = p * base ** (-2 * i / width)
        blocks.append(torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]))
    return torch.block_diag(*blocks).double()


def test_interleaved_is_the_papers_matrix_and_halves_are_its_numbers_in_another_order() -> None:
    x, positions = torch.randn(5, 3, 8, dtype=torch.float64), torch.tensor([0, 1, 2, 7, 40])
    interleaved = Rotary(8, 100.0, interleaved=True).rotate(x, positions)
    for row, got, p in zip(x, interleaved, positions.tolist(), strict=True):
        torch.testing.assert_close(got, row @ rotation(p, 8, 100.0).T, atol=1e-6, rtol=1e-6)
    order = torch.tensor([0, 4, 1, 5, 2, 6, 3, 7])
    halves = Rotary(8, 100.0).rotate(x, positions)
    again = Rotary(8, 100.0, interleaved=True).rotate(x[..., order], positions)
    torch.testing.assert_close(halves[..., order], again)


@pytest.mark.parametrize("options", [{}, {"interleaved": True}, {"rotated_width": 4}], ids=str)
def test_scores_depend_on_the_distance_alone(options: dict[str, Any]) -> None:
    rotary = Rotary(8, **options)
    q, k = torch.randn(6, 2, 8, dtype=torch.float64), torch.randn(6, 2, 8, dtype=torch.float64)
    positions = torch.arange(6)

    def scores(shift: int, key_shift: int = 0) -> Tensor:
        turned = rotary.rotate(q, positions + shift), rotary.rotate(k, positions + shift + key_shift)
        return torch.einsum("qhd,khd->hqk", *turned)

    torch.testing.assert_close(scores(0), scores(1000), atol=1e-9, rtol=1e-9)
    assert not torch.allclose(scores(0), scores(0, 1))


def test_part_of_a_head() -> None:
    x, positions = torch.randn(5, 2, 10), torch.arange(5)
    got = Rotary(10, rotated_width=6).rotate(x, positions)
    torch.testing.assert_close(got[..., :6], Rotary(6).rotate(x[..., :6], positions))
    assert torch.equal(got[..., 6:], x[..., 6:])


def test_packed_and_dense_are_the_same_rows() -> None:
    rotary, dense = Rotary(8), torch.randn(2, 5, 3, 8)
    packed = rotary.rotate(dense.flatten(0, 1), torch.arange(5).repeat(2))
    torch.testing.assert_close(rotary.rotate(dense, torch.arange(5)).flatten(0, 1), packed)
    torch.testing.assert_close(rotary.rotate(dense, torch.arange(5).expand(2, 5)).flatten(0, 1), packed)
    # A scalar position for one new token of every sequence.
    assert torch.equal(rotary.rotate(dense[:, :1], torch.tensor(4)), rotary.rotate(dense[:, :1], torch.tensor([4])))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_angles_do_not_suffer_from_half_precision(dtype: torch.dtype) -> None:
    x, positions = torch.randn(1, 1, 16, dtype=torch.float64).to(dtype), torch.tensor([4099])
    got = Rotary(16).rotate(x, positions)
    exact = Rotary(16).rotate(x.double(), positions)
    assert got.dtype == dtype
    angles = {torch.float64: 0.0}.get(dtype, 2e-3)
    assert (got.double() - exact).abs().max() <= 4 * torch.finfo(dtype).eps + angles


def test_gradients_and_compilation() -> None:
    rotary = Rotary(4, rotated_width=2, scaling=YarnScaling(2.0, 16))
    x = torch.randn(3, 2, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: rotary.rotate(x, torch.arange(3)), x)
    compiled = torch.compile(rotary.rotate, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x, torch.arange(3)), rotary.rotate(x, torch.arange(3)))
    assert not list(rotary.state_dict())
    assert "YarnScaling(factor=2.0" in str(rotary)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: Rotary(7), "head_width"),
        (lambda: Rotary(0), "head_width"),
        (lambda: Rotary(8, rotated_width=3), "rotated_width"),
        (lambda: Rotary(8, rotated_width=10), "rotated_width"),
        (lambda: Rotary(8, base=1.0), "base"),
        (lambda: Rotary(8, scaling=2.0), "scaling"),
        (lambda: LinearScaling(0.5), "factor"),
        (lambda: NtkScaling(0.0), "factor"),
        (lambda: NtkScaling.at_length(9, original_length=0), "original_length"),
        (lambda: YarnScaling(0.9, 32), "factor"),
        (lambda: YarnScaling(2.0, 0), "original_length"),
        (lambda: YarnScaling(2.0, 32, beta_slow=0.0), "beta_slow"),
        (lambda: YarnScaling(2.0, 32, beta_fast=0.5), "beta_fast"),
        (lambda: YarnScaling(2.0, 32, attention_factor=0.0), "attention_factor"),
    ],
)
def test_misuse(make: Any, named: str) -> None:
    with pytest.raises(ConfigError, match=f"The {named} option"):
        make()


def test_shapes_that_do_not_fit() -> None:
    with pytest.raises(ShapeError, match="d = 8"):
        Rotary(8).rotate(torch.zeros(3, 2, 6), torch.arange(3))
    with pytest.raises(ShapeError, match="broadcast to \\(3,\\)"):
        Rotary(8).rotate(torch.zeros(3, 2, 8), torch.arange(2))
    # Positions `b l` would turn a packed row into a batch.
    with pytest.raises(ShapeError, match="broadcast"):
        Rotary(8).rotate(torch.zeros(3, 2, 8), torch.zeros(2, 3, dtype=torch.int64))


def test_the_annotations_hold() -> None:
    rotate = checked(Rotary.rotate)
    rotary = Rotary(4)
    assert rotate(rotary, torch.zeros(3, 2, 4), torch.arange(3)).shape == (3, 2, 4)
    assert rotate(rotary, torch.zeros(2, 3, 2, 4), torch.arange(3)).shape == (2, 3, 2, 4)
    assert rotate(rotary, torch.zeros(2, 3, 2, 4), torch.zeros(2, 3, dtype=torch.int64)).shape == (2, 3, 2, 4)
    assert checked(Rotary.waves)(rotary, torch.arange(3))[0].shape == (3, 1, 2)
    for scaling in (LinearScaling(2.0), NtkScaling(2.0), YarnScaling(2.0, 8)):
        assert checked(type(scaling).frequencies)(scaling, 100.0, 2).shape == (1,)
    with pytest.raises(TypeCheckError):
        rotate(rotary, torch.zeros(3, 2, 4), torch.zeros(3))
