"""The module, against `torch`'s own, against those of `transformers`, and against itself packed."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn
from transformers.models.gemma2 import modeling_gemma2 as gemma2
from transformers.models.gpt_oss import modeling_gpt_oss as gpt_oss
from transformers.models.llama import modeling_llama as llama
from transformers.models.qwen3 import modeling_qwen3 as qwen3
from transformers.models.t5 import modeling_t5 as t5

from huiyan.attention.blocks import Block
from huiyan.attention.functional import attend
from huiyan.attention.masks import Causal, Keys, Mask
from huiyan.attention.multihead import MultiHeadAttention
from huiyan.attention.positions.alibi import Alibi
from huiyan.attention.positions.disentangled import Disentangled
from huiyan.attention.positions.rotary import Rotary
from huiyan.attention.positions.sinusoidal import Sinusoidal
from huiyan.attention.positions.t5 import T5Bias
from huiyan.core.errors import ConfigError, ShapeError


def shaken(module: nn.Module) -> Any:
    """With random numbers everywhere: biases of 0 and gains of 1 could be mistaken or forgotten."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) / 2)
    return module


def copy(ours: nn.Module, theirs: nn.Module, names: dict[str, str]) -> None:
    """The parameters of a peer into ours, by the peer's names; none may be left out on either side."""
    weights = dict(theirs.named_parameters())
    assert set(names) == {name for name, _ in ours.named_parameters()}
    assert set(names.values()) == set(weights)
    ours.load_state_dict({name: weights[other].detach() for name, other in names.items()})


@pytest.mark.parametrize("mask", [None, Causal(), Keys(torch.tensor([[True] * 4 + [False], [True] * 5]))], ids=str)
def test_it_is_the_one_of_torch(mask: Mask | None) -> None:
    ours, theirs = MultiHeadAttention(12, 3), nn.MultiheadAttention(12, 3, batch_first=True)
    shaken(ours)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([x.weight for x in (ours.query, ours.key, ours.value)]))
        theirs.in_proj_bias.copy_(torch.cat([x.bias for x in (ours.query, ours.key, ours.value)]))
        theirs.out_proj.weight.copy_(ours.out.weight)
        theirs.out_proj.bias.copy_(ours.out.bias)
    x = torch.randn(2, 5, 12)
    allowed = None if mask is None else mask.allowed(Block.whole(5, 5), x.device)
    hidden = None if allowed is None else ~allowed.expand(2, 3, 5, 5).reshape(6, 5, 5)
    expected, _ = theirs(x, x, x, attn_mask=hidden, need_weights=False)
    torch.testing.assert_close(ours(x, mask=mask), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("packed", [False, True], ids=["dense", "packed"])
def test_cross_attention_is_that_of_torch(packed: bool) -> None:
    """A context of another width and other lengths."""
    ours = shaken(MultiHeadAttention(12, 3, context_width=7))
    theirs = nn.MultiheadAttention(12, 3, kdim=7, vdim=7, batch_first=True)
    with torch.no_grad():
        theirs.q_proj_weight.copy_(ours.query.weight)
        theirs.k_proj_weight.copy_(ours.key.weight)
        theirs.v_proj_weight.copy_(ours.value.weight)
        theirs.in_proj_bias.copy_(torch.cat([x.bias for x in (ours.query, ours.key, ours.value)]))
        theirs.out_proj.weight.copy_(ours.out.weight)
        theirs.out_proj.bias.copy_(ours.out.bias)
    lengths, context_lengths = [3, 1, 4], [2, 5, 1]
    x, context = torch.randn(8, 12), torch.randn(8, 7)
    parts = list(zip(x.split(lengths), context.split(context_lengths), strict=True))
    expected = [theirs(own[None], other[None], other[None])[0][0] for own, other in parts]
    if packed:
        given = {"lengths": torch.tensor(lengths), "context_lengths": torch.tensor(context_lengths)}
        got = ours(x, context=context, **given)
    else:
        got = torch.cat([ours(own[None], context=other[None])[0] for own, other in parts])
    torch.testing.assert_close(got, torch.cat(expected), atol=1e-5, rtol=1e-5)


PROJECTIONS = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "out": "o_proj"}
WEIGHTS = {f"{ours}.weight": f"{theirs}.weight" for ours, theirs in PROJECTIONS.items()}
BIASES = {f"{ours}.bias": f"{theirs}.bias" for ours, theirs in PROJECTIONS.items()}
SIZES: dict[str, Any] = {
    "hidden_size": 24,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "attention_dropout": 0.0,
}


@dataclass(frozen=True)
class Peer:
    """An attention module of `transformers` that turns queries and keys, and our options for the same."""

    config: Any
    attention: Callable[..., nn.Module]
    rotary: Callable[..., nn.Module]
    names: dict[str, str]
    options: dict[str, Any]
    scale: float | None = None


PEERS = {
    "llama": Peer(
        transformers.LlamaConfig(**SIZES), llama.LlamaAttention, llama.LlamaRotaryEmbedding, WEIGHTS, {"bias": False}
    ),
    "qwen3": Peer(
        transformers.Qwen3Config(**SIZES),
        qwen3.Qwen3Attention,
        qwen3.Qwen3RotaryEmbedding,
        WEIGHTS | {"query_norm.weight": "q_norm.weight", "key_norm.weight": "k_norm.weight"},
        {"bias": False, "qk_norm": True},
    ),
    "gemma2": Peer(
        transformers.Gemma2Config(**SIZES, attn_logit_softcapping=2.0, query_pre_attn_scalar=3),
        gemma2.Gemma2Attention,
        gemma2.Gemma2RotaryEmbedding,
        WEIGHTS,
        {"bias": False, "soft_cap": 2.0},
        scale=3**-0.5,
    ),
    "gpt-oss": Peer(
        transformers.GptOssConfig(**SIZES, rope_parameters={"rope_type": "default", "rope_theta": 10_000.0}),
        gpt_oss.GptOssAttention,
        gpt_oss.GptOssRotaryEmbedding,
        WEIGHTS | BIASES | {"sinks": "sinks"},
        {"sinks": True},
    ),
}


@pytest.mark.parametrize("name", PEERS)
def test_it_is_that_of_a_model_in_transformers(name: str) -> None:
    """Grouped heads, rotary positions, norms of queries and keys, a soft cap and another scale, sinks."""
    peer = PEERS[name]
    peer.config._attn_implementation = "eager"
    torch.manual_seed(0)
    theirs = shaken(peer.attention(peer.config, layer_idx=0)).eval()
    ours = MultiHeadAttention(24, 4, n_kv_heads=2, head_width=8, position=Rotary(8), **peer.options)
    ours.scale = peer.scale
    copy(ours, theirs, peer.names)
    x, n = torch.randn(2, 9, 24), 9
    hidden = torch.full((n, n), torch.finfo(x.dtype).min).triu(1)[None, None]
    waves = peer.rotary(peer.config)(x, torch.arange(n)[None])
    expected = theirs(x, position_embeddings=waves, attention_mask=hidden)[0]
    torch.testing.assert_close(ours(x, mask=Causal()), expected, atol=1e-5, rtol=1e-5)


def test_with_a_scale_of_1_it_is_that_of_t5() -> None:
    config = transformers.T5Config(d_model=24, d_kv=6, num_heads=4, relative_attention_num_buckets=8)
    theirs = shaken(t5.T5Attention(config, has_relative_attention_bias=True)).eval()
    ours = MultiHeadAttention(24, 4, bias=False, position=T5Bias(4, 8))
    ours.scale = 1.0
    names = {"query.weight": "q.weight", "key.weight": "k.weight", "value.weight": "v.weight", "out.weight": "o.weight"}
    copy(ours, theirs, names | {"position.table": "relative_attention_bias.weight"})
    x = torch.randn(2, 40, 24, dtype=torch.float64)  # without a scale, scores are large, and so is rounding
    torch.testing.assert_close(ours.double()(x), theirs.double()(x)[0])


def test_the_scale_is_that_of_the_position_unless_set() -> None:
    module = shaken(MultiHeadAttention(16, 4))
    module.position = Disentangled(16, 4, max_relative_positions=3, key=module.key, query=module.query)
    assert "position.embeddings.weight" in dict(module.named_parameters())
    assert "position.key.weight" not in dict(module.named_parameters())  # borrowed
    x, scale = torch.randn(1, 5, 16), module.position.scale
    of_position = module(x)
    module.scale = scale
    torch.testing.assert_close(module(x), of_position)
    module.scale = 2 * scale
    assert (module(x) - of_position).abs().max() > 1e-3


VARIANTS: dict[str, Callable[[], dict[str, Any]]] = {
    "plain": dict,
    "grouped": lambda: {"n_kv_heads": 2},
    "multi-query": lambda: {"n_kv_heads": 1},
    "head width": lambda: {"head_width": 6, "bias": False},
    "rotary and norm": lambda: {"position": Rotary(4), "qk_norm": True},
    "layer norm": lambda: {"qk_norm": nn.LayerNorm},
    "norm without a gain": lambda: {"qk_norm": lambda width: nn.RMSNorm(width, elementwise_affine=False)},
    "alibi, cap and sinks": lambda: {"position": Alibi(4), "soft_cap": 1.0, "sinks": True},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_packed_rows_give_what_each_sequence_gives(variant: str) -> None:
    module = shaken(MultiHeadAttention(16, 4, **VARIANTS[variant]()))
    rows = torch.randn(9, 16)
    packed = module(rows, lengths=torch.tensor([2, 3, 4]), mask=Causal())
    alone = [module(part[None], mask=Causal())[0] for part in rows.split([2, 3, 4])]
    torch.testing.assert_close(packed, torch.cat(alone), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_parameter_learns(variant: str) -> None:
    module = shaken(MultiHeadAttention(16, 4, **VARIANTS[variant]()))
    module(torch.randn(2, 5, 16)).sin().sum().backward()
    # The bias of the keys adds the same to all scores of a row, unless something stands between.
    free = {"key.bias"} if "norm" not in variant and variant != "alibi, cap and sinks" else set()
    still = {name for name, x in module.named_parameters() if x.grad is None or not x.grad.abs().max() > 1e-6}
    assert still <= free


def test_widths_and_biases_are_as_asked() -> None:
    options: dict[str, Any] = {"n_kv_heads": 2, "head_width": 5, "context_width": 7, "bias": False}
    module = MultiHeadAttention(16, 4, **options, qk_norm=True, sinks=True, position=T5Bias(4, 8, 16))
    assert {name: tuple(p.shape) for name, p in module.named_parameters()} == {
        "query.weight": (20, 16),
        "key.weight": (10, 7),
        "value.weight": (10, 7),
        "out.weight": (16, 20),
        "query_norm.weight": (5,),
        "key_norm.weight": (5,),
        "sinks": (4,),
        "position.table": (8, 4),
    }


def test_without_options_the_names_are_those_of_checkpoints() -> None:
    module = MultiHeadAttention(8, 2)
    names = {f"{part}.{kind}" for part in ("query", "key", "value", "out") for kind in ("weight", "bias")}
    assert set(module.state_dict()) == names
    assert {name for name, _ in module.named_children()} == {"query", "key", "value", "out"}


def test_dropout_acts_in_training_alone() -> None:
    module, x = MultiHeadAttention(8, 2, dropout=0.5), torch.randn(1, 6, 8)
    same = MultiHeadAttention(8, 2)
    same.load_state_dict(module.state_dict())
    torch.manual_seed(1)
    dropped = module.train()(x)
    assert not torch.allclose(dropped, same(x))
    torch.manual_seed(1)
    torch.testing.assert_close(module(x), dropped)
    torch.testing.assert_close(module.eval()(x), same(x))


def test_the_kernel_is_the_one_asked_for() -> None:
    x = torch.randn(1, 6, 8)
    module = MultiHeadAttention(8, 2, kernel="sdpa", soft_cap=1.0)
    with pytest.raises(ConfigError, match="'sdpa' does not take a soft cap"):
        module(x)
    with pytest.raises(ConfigError, match="'packed' does not take dense input"):
        MultiHeadAttention(8, 2, kernel="packed")(x)


@pytest.mark.parametrize("packed", [False, True], ids=["dense", "packed"])
def test_autocast_reaches_normed_heads(packed: bool) -> None:
    """A norm computes in float32; queries and keys come out of it as values are."""
    module = shaken(MultiHeadAttention(16, 4, n_kv_heads=2, qk_norm=True, sinks=True, position=Rotary(4)))
    x = torch.randn(6, 16) if packed else torch.randn(1, 6, 16)
    lengths = torch.tensor([2, 4]) if packed else None
    exact = module(x, lengths=lengths)
    with torch.autocast("cpu", torch.bfloat16):
        rough = module(x, lengths=lengths)
    assert rough.dtype == torch.bfloat16
    torch.testing.assert_close(rough.float(), exact, atol=0.2, rtol=0.1)


def test_it_says_no_more_than_the_formula() -> None:
    """Project, attend, project back, by hand."""
    module, x = shaken(MultiHeadAttention(8, 2)), torch.randn(1, 5, 8)
    q, k, v = (project(x).view(1, 5, 2, 4).transpose(1, 2) for project in (module.query, module.key, module.value))
    by_hand = module.out(attend(q, k, v, kernel="oracle").transpose(1, 2).reshape(1, 5, 8))
    torch.testing.assert_close(module(x), by_hand)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"width": 10, "n_heads": 4}, "width option must be a multiple of n_heads, 4. Got 10"),
        ({"width": 12, "n_heads": 4, "n_kv_heads": 3}, "n_kv_heads option must be a divisor of n_heads, 4. Got 3"),
        ({"width": 12, "n_heads": 4, "n_kv_heads": 0}, "n_kv_heads option"),
        ({"width": 12, "n_heads": 0}, "n_heads option must be at least 1. Got 0"),
        ({"width": 12, "n_heads": 4, "head_width": 0}, "head_width option must be at least 1. Got 0"),
        ({"width": 12, "n_heads": 4, "soft_cap": 0.0}, "soft_cap option must be above 0, or None. Got 0.0"),
        ({"width": 12, "n_heads": 4, "dropout": 1.0}, "dropout option must be at least 0 and below 1. Got 1.0"),
        ({"width": 12, "n_heads": 4, "position": Sinusoidal(12)}, "position option must be Rotary.*Got 'Sinusoidal'"),
    ],
)
def test_options_that_do_not_fit_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        MultiHeadAttention(**arguments)


LENGTHS = {"lengths": torch.tensor([5])}


@pytest.mark.parametrize(
    ("x", "given", "message"),
    [
        ((5, 8), {}, r"Got \(5, 8\) without lengths"),
        ((1, 5, 8), LENGTHS, r"Got \(1, 5, 8\) with lengths"),
        ((5, 8), LENGTHS | {"context": torch.zeros(3, 8)}, r"Got \(3, 8\) without context_lengths for x \(5, 8\)"),
        ((1, 5, 8), {"context": torch.zeros(3, 8)}, r"context must be as x: `b k m`.*Got \(3, 8\)"),
        (
            (1, 5, 8),
            {"context": torch.zeros(1, 3, 8), "context_lengths": torch.tensor([3])},
            r"Got \(1, 3, 8\) with context_lengths",
        ),
        ((5, 8), LENGTHS | {"context_lengths": torch.tensor([5])}, "Got them without a context"),
    ],
)
def test_layouts_are_told_apart(x: tuple[int, ...], given: dict[str, Tensor], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        MultiHeadAttention(8, 2)(torch.randn(x), **given)
