"""The module, against `torch`'s own and against itself packed."""

import pytest
import torch
from torch import nn

from huiyan.attention.masks import Causal, Keys, Mask
from huiyan.attention.multihead import MultiHeadAttention
from huiyan.core.errors import ConfigError, ShapeError


@pytest.mark.parametrize("mask", [None, Causal(), Keys(torch.tensor([[True] * 4 + [False], [True] * 5]))], ids=str)
def test_it_is_the_one_of_torch(mask: Mask | None) -> None:
    ours, theirs = MultiHeadAttention(12, 3), nn.MultiheadAttention(12, 3, batch_first=True)
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.copy_(torch.randn_like(parameter))
        theirs.in_proj_weight.copy_(torch.cat([x.weight for x in (ours.query, ours.key, ours.value)]))
        theirs.in_proj_bias.copy_(torch.cat([x.bias for x in (ours.query, ours.key, ours.value)]))
        theirs.out_proj.weight.copy_(ours.out.weight)
        theirs.out_proj.bias.copy_(ours.out.bias)
    x = torch.randn(2, 5, 12)
    hidden = None if mask is None else ~mask.allowed(5, 5, x.device).expand(2, 3, 5, 5).reshape(6, 5, 5)
    expected, _ = theirs(x, x, x, attn_mask=hidden, need_weights=False)
    torch.testing.assert_close(ours(x, mask=mask), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("options", [{}, {"n_kv_heads": 2}, {"head_width": 5, "bias": False}], ids=str)
def test_packed_rows_give_what_each_sequence_gives(options: dict[str, int]) -> None:
    module = MultiHeadAttention(16, 4, **options)
    rows = torch.randn(9, 16)
    packed = module(rows, lengths=torch.tensor([2, 3, 4]), mask=Causal())
    alone = [module(part[None], mask=Causal())[0] for part in rows.split([2, 3, 4])]
    torch.testing.assert_close(packed, torch.cat(alone))


def test_widths_and_biases_are_as_asked() -> None:
    module = MultiHeadAttention(16, 4, n_kv_heads=2, head_width=5, bias=False)
    assert {name: tuple(p.shape) for name, p in module.named_parameters()} == {
        "query.weight": (20, 16),
        "key.weight": (10, 16),
        "value.weight": (10, 16),
        "out.weight": (16, 20),
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"width": 10, "n_heads": 4}, "width option must be a multiple of n_heads, 4. Got 10"),
        ({"width": 12, "n_heads": 4, "n_kv_heads": 3}, "n_kv_heads option must be a divisor of n_heads, 4. Got 3"),
        ({"width": 12, "n_heads": 4, "n_kv_heads": 0}, "n_kv_heads option"),
        ({"width": 12, "n_heads": 0}, "n_heads option must be at least 1. Got 0"),
    ],
)
def test_heads_that_do_not_divide_are_refused(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        MultiHeadAttention(**arguments)


def test_layouts_are_told_apart() -> None:
    module = MultiHeadAttention(8, 2)
    with pytest.raises(ShapeError, match=r"Got \(5, 8\) without lengths"):
        module(torch.randn(5, 8))
    with pytest.raises(ShapeError, match=r"Got \(1, 5, 8\) with lengths"):
        module(torch.randn(1, 5, 8), lengths=torch.tensor([5]))
