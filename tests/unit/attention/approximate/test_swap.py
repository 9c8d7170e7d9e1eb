"""An approximation in the place of trained attention."""

from typing import Any

import pytest
import torch
from torch import nn

from huiyan.attention.approximate.base import Approximation
from huiyan.attention.approximate.linear import LinearAttention
from huiyan.attention.approximate.linformer import LinformerAttention
from huiyan.attention.approximate.nystrom import NystromAttention
from huiyan.attention.approximate.span import AdaptiveSpan
from huiyan.attention.approximate.swap import ApproximateSelfAttention
from huiyan.attention.masks import Causal, Keys
from huiyan.attention.multihead import MultiHeadAttention
from huiyan.attention.positions.rotary import Rotary
from huiyan.core.errors import ConfigError, ShapeError
from huiyan.core.packed import Packed
from huiyan.models.config import TransformerConfig
from huiyan.models.encoder import Encoder


def exact(*, causal: bool = False) -> AdaptiveSpan:
    """A core that happens to be exact on short input."""
    return AdaptiveSpan(4, max_span=64, causal=causal)


@pytest.mark.parametrize("n_kv_heads", [4, 2, 1])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("lengths", [[3, 5, 1], [4, 4], [2, 0, 3], [0, 0], [7]], ids=str)
def test_with_an_exact_core_it_is_the_module_it_replaces(lengths: list[int], causal: bool, n_kv_heads: int) -> None:
    attention = MultiHeadAttention(16, 4, n_kv_heads=n_kv_heads)
    swapped = ApproximateSelfAttention(attention, exact(causal=causal))
    rows, mask = torch.randn(sum(lengths), 16), Causal() if causal else None
    options = {"lengths": torch.tensor(lengths), "mask": mask}
    torch.testing.assert_close(swapped(rows, **options), attention(rows, **options))
    dense = torch.randn(2, 5, 16)
    torch.testing.assert_close(swapped(dense, mask=mask), attention(dense, mask=mask))


def test_the_projections_are_the_same_parameters_under_the_same_names() -> None:
    attention = MultiHeadAttention(16, 4)
    swapped = ApproximateSelfAttention(attention, LinformerAttention(4, max_length=8, rank=2))
    before, after = dict(attention.named_parameters()), dict(swapped.named_parameters())
    assert set(after) - set(before) == {"core.key_projection", "core.value_projection"}
    assert all(after[name] is parameter for name, parameter in before.items())


CORES = {
    "linformer": lambda: LinformerAttention(4, max_length=12, rank=3),
    "nystrom": lambda: NystromAttention(3, residual_kernel=3, n_heads=4),
    "elu": LinearAttention,
    "favor": lambda: LinearAttention("favor", head_width=4),
    "span": lambda: AdaptiveSpan(4, max_span=12, ramp=2, initial=2),
}


def encoder() -> Encoder:
    torch.manual_seed(0)
    config = TransformerConfig(
        family="bert",
        vocab_size=20,
        width=16,
        embedding_width=16,
        n_layers=2,
        n_layer_groups=2,
        n_heads=4,
        feed_forward_width=32,
        n_positions=12,
    )
    model = Encoder(config)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model.eval()


@pytest.mark.parametrize("make", CORES.values(), ids=CORES)
def test_an_encoder_runs_and_trains_with_it(make: type[Approximation]) -> None:
    """Packed sequences give what each gives alone, and every parameter gets a gradient."""
    model = encoder()
    sequences = [[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12], [4, 5], [7, 8, 9, 2, 2]]
    before = model(Packed.from_lists(sequences))
    for layer in model.stack.layers:
        layer.attention = ApproximateSelfAttention(layer.attention, make())
    packed = model(Packed.from_lists(sequences))
    alone = torch.cat([model(Packed.from_lists([sequence])) for sequence in sequences])
    torch.testing.assert_close(packed, alone, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(packed, before, atol=1e-3), "it is approximate"
    model.train()
    (model(Packed.from_lists(sequences)) * torch.randn_like(packed)).sum().backward()
    missing = [
        name
        for name, parameter in model.stack.named_parameters()
        if parameter.grad is None or not parameter.grad.isfinite().all() or not parameter.grad.any()
    ]
    assert missing == []


def test_the_mask_must_be_the_cores() -> None:
    attention, rows = MultiHeadAttention(16, 4), torch.randn(2, 3, 16)
    with pytest.raises(ConfigError, match=r"AdaptiveSpan, which is causal. Got the mask None"):
        ApproximateSelfAttention(attention, exact(causal=True))(rows)
    with pytest.raises(ConfigError, match=r"NystromAttention, which is not causal. Got the mask Causal\(\)"):
        ApproximateSelfAttention(attention, NystromAttention(2))(rows, mask=Causal())
    with pytest.raises(ConfigError, match=r"Got the mask Keys"):
        ApproximateSelfAttention(attention, exact())(rows, mask=Keys(torch.ones(2, 3, dtype=torch.bool)))


def test_layouts_and_lengths_are_checked() -> None:
    swapped = ApproximateSelfAttention(MultiHeadAttention(16, 4), exact())
    with pytest.raises(ShapeError, match=r"Got \(5, 16\) without lengths"):
        swapped(torch.randn(5, 16))
    with pytest.raises(ShapeError, match=r"Got \(1, 5, 16\) with lengths"):
        swapped(torch.randn(1, 5, 16), lengths=torch.tensor([5]))
    with pytest.raises(ShapeError, match=r"add up to the 5 tokens of x. Got \[2, 2\]"):
        swapped(torch.randn(5, 16), lengths=torch.tensor([2, 2]))
    with pytest.raises(ShapeError, match=r"add up to the 5 tokens of x. Got \[6, -1\]"):
        swapped(torch.randn(5, 16), lengths=torch.tensor([6, -1]))


@pytest.mark.parametrize(
    ("option", "named"),
    [
        ({"position": Rotary(4)}, "position"),
        ({"qk_norm": True}, "key_norm, query_norm"),
        ({"soft_cap": 30.0}, "soft_cap"),
        ({"sinks": True}, "sinks"),
        ({"dropout": 0.1}, "dropout"),
    ],
    ids=str,
)
def test_what_the_core_would_leave_out_is_refused(option: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=f"plain attention, and this one also has {named}"):
        ApproximateSelfAttention(MultiHeadAttention(16, 4, **option), exact())


def test_what_is_added_to_attention_later_is_refused_too() -> None:
    attention = MultiHeadAttention(16, 4)
    attention.relative = nn.Linear(2, 2)
    with pytest.raises(ConfigError, match="also has relative"):
        ApproximateSelfAttention(attention, exact())
    attention = MultiHeadAttention(16, 4)
    attention.null_key = nn.Parameter(torch.zeros(4))
    with pytest.raises(ConfigError, match="also has null_key"):
        ApproximateSelfAttention(attention, exact())
    attention = MultiHeadAttention(16, 4)
    attention.scale = 1.0
    with pytest.raises(ConfigError, match="also has scale"):
        ApproximateSelfAttention(attention, exact())


def test_only_self_attention_and_approximations_are_taken() -> None:
    with pytest.raises(ConfigError, match=r"attention option must be self-attention, from one width. Got \[16, 8\]"):
        ApproximateSelfAttention(MultiHeadAttention(16, 4, context_width=8), exact())
    with pytest.raises(ConfigError, match="attention option must be a MultiHeadAttention"):
        ApproximateSelfAttention(nn.Linear(2, 2), exact())
    with pytest.raises(ConfigError, match="core option must be an Approximation"):
        ApproximateSelfAttention(MultiHeadAttention(16, 4), nn.Linear(2, 2))
