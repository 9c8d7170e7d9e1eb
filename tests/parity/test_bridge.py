"""Families that Huiyan does not have, with its attention inside `transformers`, against their own eager attention."""

from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

import huiyan.bridge
from huiyan.attention import observe
from huiyan.bridge.foreign_masks import Foreign, mask_for_models
from huiyan.core.errors import ConfigError

SMALL = {
    "vocab_size": 60,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "max_position_embeddings": 64,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "gemma2": {**SMALL, "num_key_value_heads": 2, "head_dim": 8, "sliding_window": 4, "attn_logit_softcapping": 5.0},
    "mistral": {**SMALL, "num_key_value_heads": 2, "sliding_window": 5},
    "gpt_neox": {**SMALL, "rotary_pct": 0.5},
    "phi3": {**SMALL, "num_key_value_heads": 4, "pad_token_id": 0},
    "olmo2": {**SMALL, "num_key_value_heads": 1},
    "gpt_oss": {
        **SMALL,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "sliding_window": 4,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
    },
}


def twins_of(name: str) -> tuple[Any, Any]:
    """The same weights, attending eagerly and with Huiyan."""
    torch.manual_seed(0)
    models: list[Any] = []
    for how in ("eager", huiyan.bridge.NAME):  # each with a configuration of its own, which says how it attends
        config = transformers.AutoConfig.for_model(name, **FAMILIES[name])
        models.append(transformers.AutoModelForCausalLM.from_config(config, attn_implementation=how).eval())
    assert [model.config._attn_implementation for model in models] == ["eager", "huiyan"]
    models[1].load_state_dict(models[0].state_dict())
    return models[0], models[1]


def padded(side: str) -> tuple[Tensor, Tensor]:
    """Three texts of 12, 7 and 3 tokens, and where they are."""
    torch.manual_seed(1)
    ids, seen = torch.randint(3, 60, (3, 12)), torch.zeros(3, 12, dtype=torch.long)
    for row, length in enumerate((12, 7, 3)):
        seen[row, slice(0, length) if side == "right" else slice(12 - length, 12)] = 1
    return ids, seen


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("side", ["left", "right", "none"])
def test_logits_and_gradients_are_those_of_eager_attention(name: str, side: str) -> None:
    eager, ours = twins_of(name)
    ids, seen = padded(side)
    given = {} if side == "none" else {"attention_mask": seen}
    rows = torch.ones_like(seen).bool() if side == "none" else seen.bool()
    found = []
    for model in (eager, ours):
        logits = model(ids, **given).logits[rows]
        logits.square().sum().backward()
        found.append((logits.detach(), {key: value.grad for key, value in model.named_parameters()}))
    torch.testing.assert_close(found[1][0], found[0][0], atol=2e-5, rtol=1e-4)
    for key, gradient in found[1][1].items():
        if gradient is not None:
            size = max(1.0, float(found[0][1][key].abs().max()))
            torch.testing.assert_close(gradient, found[0][1][key], atol=5e-5 * size, rtol=1e-3)


@pytest.mark.parametrize("name", FAMILIES)
def test_what_they_write_with_a_cache_stays_the_same(name: str) -> None:
    eager, ours = twins_of(name)
    ids, seen = padded("left")
    options = {"max_new_tokens": 10, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    written = [model.generate(ids, attention_mask=seen, **options) for model in (eager, ours)]
    assert torch.equal(written[0], written[1])


@pytest.mark.parametrize("name", ["mistral", "olmo2"])
def test_maps_of_their_models_are_their_weights(name: str) -> None:
    eager, ours = twins_of(name)
    ids, seen = padded("left")
    with torch.no_grad():
        weights = eager(ids, attention_mask=seen, output_attentions=True).attentions
        with observe(ours) as maps:
            ours(ids, attention_mask=seen)
    for sequence, length in enumerate((12, 7, 3)):
        for layer in range(2):
            for head in range(4):
                wanted = weights[layer][sequence, head][-length:]
                found = maps.sequence(sequence)[layer][head].to_dense()[-length:]
                torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)


def test_an_encoder_sees_both_ways() -> None:
    torch.manual_seed(0)
    models: list[Any] = []
    for how in ("eager", "huiyan"):
        config = transformers.AutoConfig.for_model("camembert", **SMALL)
        models.append(transformers.AutoModel.from_config(config, attn_implementation=how).eval())
    models[1].load_state_dict(models[0].state_dict())
    ids, seen = padded("right")
    with torch.no_grad():
        first, second = (model(ids, attention_mask=seen).last_hidden_state[seen.bool()] for model in models)
    torch.testing.assert_close(second, first, atol=1e-5, rtol=1e-4)


def test_rules_that_we_have_are_ours_and_others_are_asked() -> None:
    from transformers import masking_utils as theirs

    causal = mask_for_models(2, 5, 5, mask_function=theirs.causal_mask_function)
    window = mask_for_models(2, 5, 5, mask_function=theirs.sliding_window_causal_mask_function(3))
    assert (repr(causal.mask), repr(window.mask)) == ("Causal()", "Window(left=2, right=0)")
    assert mask_for_models(2, 5, 5, mask_function=theirs.bidirectional_mask_function).mask is None
    chunks = theirs.chunked_causal_mask_function(2, torch.zeros(2, dtype=torch.long))
    asked = mask_for_models(2, 3, 5, q_offset=2, mask_function=chunks).mask
    assert isinstance(asked, Foreign)
    q, k = torch.randn(2, 1, 3, 4), torch.randn(2, 1, 5, 4)
    table = theirs.sdpa_mask(2, 3, 5, q_offset=2, mask_function=chunks, allow_is_causal_skip=False)
    expected = (q @ k.mT / 2).masked_fill(~table, -torch.inf).softmax(dim=-1)
    torch.testing.assert_close(attention_weights_of(q, k, asked), expected)


def attention_weights_of(q: Tensor, k: Tensor, mask: Any) -> Tensor:
    from huiyan.attention.functional import attend

    eye = torch.eye(k.shape[2])[None, None].expand(len(q), 1, -1, -1)
    padded_k = torch.nn.functional.pad(k, (0, eye.shape[-1] - k.shape[-1]))
    padded_q = torch.nn.functional.pad(q, (0, eye.shape[-1] - q.shape[-1]))
    return attend(padded_q, padded_k, eye.contiguous(), mask=mask, scale=q.shape[-1] ** -0.5)


def test_a_model_that_is_there_is_attached_and_one_without_the_interface_refused() -> None:
    eager, ours = twins_of("mistral")
    ids, _ = padded("none")
    attached = huiyan.bridge.attach(eager)
    assert attached is eager
    with torch.no_grad():
        torch.testing.assert_close(attached(ids).logits, ours(ids).logits, atol=0, rtol=0)
    config = transformers.AutoConfig.for_model("deberta-v2", **SMALL)
    with pytest.raises(ConfigError, match="DebertaV2Model does not go through the interface"):
        huiyan.bridge.attach(transformers.AutoModel.from_config(config))


def test_models_are_told_apart_by_whether_their_code_asks_the_interface() -> None:
    small = {"encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
    config = transformers.AutoConfig.for_model(
        "whisper", d_model=16, vocab_size=60, pad_token_id=0, encoder_ffn_dim=16, decoder_ffn_dim=16, **small
    )
    huiyan.bridge.attach(transformers.AutoModel.from_config(config))  # says that it does not, and does
    with pytest.raises(ConfigError, match="for models of transformers"):
        huiyan.bridge.attach(torch.nn.Linear(2, 2))  # pyright: ignore[reportArgumentType]
    config = transformers.AutoConfig.for_model("bloom", hidden_size=16, n_head=2, n_layer=1, vocab_size=60)
    bloom = transformers.AutoModelForCausalLM.from_config(config, attn_implementation=huiyan.bridge.NAME)
    with pytest.raises(ConfigError, match="computes with its mask by itself"):
        bloom(torch.ones(1, 3, dtype=torch.long))
