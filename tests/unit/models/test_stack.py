"""The stack against `torch`'s own layers, in both orders of norm and residual."""

import pytest
import torch
from torch import nn

from huiyan.attention.masks import Causal
from huiyan.attention.multihead import MultiHeadAttention
from huiyan.core.errors import ConfigError
from huiyan.models.stack import FeedForward, ResidualOrder, Stack, TransformerLayer, post_norm, pre_norm

LENGTHS = torch.tensor([3, 1, 4])


def layer(residual: ResidualOrder = post_norm, dropouts: tuple[float, float] = (0.0, 0.0)) -> TransformerLayer:
    made = TransformerLayer(
        MultiHeadAttention(8, 2),
        FeedForward(8, 12, nn.functional.relu),
        norms=(nn.LayerNorm(8), nn.LayerNorm(8)),
        residual=residual,
        dropouts=dropouts,
    )
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(torch.randn_like(parameter) / 2)
    return made


def twin(ours: TransformerLayer, *, norm_first: bool) -> nn.TransformerEncoderLayer:
    theirs = nn.TransformerEncoderLayer(8, 2, 12, dropout=0.0, batch_first=True, norm_first=norm_first)
    attention = ours.attention
    projections = (attention.query, attention.key, attention.value)
    theirs.load_state_dict(
        {
            "self_attn.in_proj_weight": torch.cat([x.weight for x in projections]),
            "self_attn.in_proj_bias": torch.cat([x.bias for x in projections]),
            "self_attn.out_proj.weight": attention.out.weight,
            "self_attn.out_proj.bias": attention.out.bias,
            "linear1.weight": ours.feed_forward.inner.weight,
            "linear1.bias": ours.feed_forward.inner.bias,
            "linear2.weight": ours.feed_forward.outer.weight,
            "linear2.bias": ours.feed_forward.outer.bias,
            "norm1.weight": ours.attention_norm.weight,
            "norm1.bias": ours.attention_norm.bias,
            "norm2.weight": ours.feed_forward_norm.weight,
            "norm2.bias": ours.feed_forward_norm.bias,
        }
    )
    return theirs.train()  # in eval mode it may take another path


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("residual", [post_norm, pre_norm], ids=lambda order: order.__name__)
def test_two_layers_are_those_of_torch(residual: ResidualOrder, causal: bool) -> None:
    layers, final = [layer(residual), layer(residual)], nn.LayerNorm(8)
    ours = Stack(layers, final_norm=final)
    theirs = [twin(made, norm_first=residual is pre_norm) for made in layers]
    x = torch.randn(8, 8)
    expected = []
    for sequence in x.split(LENGTHS.tolist()):
        rows, n = sequence[None], len(sequence)
        hidden = torch.ones(n, n, dtype=torch.bool).triu(1) if causal else None
        for made in theirs:
            rows = made(rows, src_mask=hidden)
        expected.append(final(rows[0]))
    torch.testing.assert_close(
        ours(x, LENGTHS, Causal() if causal else None), torch.cat(expected), atol=1e-5, rtol=1e-5
    )


def test_a_layer_that_comes_twice_shares_its_weights() -> None:
    first, second = layer(), layer()
    x = torch.randn(8, 8)
    shared = Stack([first, second], depth_order=(0, 1, 0))
    torch.testing.assert_close(shared(x, LENGTHS), first(second(first(x, LENGTHS), LENGTHS), LENGTHS))
    assert len(list(shared.parameters())) == 2 * len(list(first.parameters()))


def test_dropout_is_on_what_each_sublayer_adds() -> None:
    """Dropping nearly everything leaves the residual stream, in either order."""
    made = layer(pre_norm, dropouts=(0.9999999, 0.9999999)).train()
    x = torch.randn(8, 8)
    torch.testing.assert_close(made(x, LENGTHS), x)
    assert not torch.allclose(made.eval()(x, LENGTHS), x)


def test_a_depth_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"depth_order option must be indices of the 1 layers. Got \(0, 1\)"):
        Stack([layer()], depth_order=(0, 1))
