"""Families that Huiyan does not have, with its attention inside `transformers`, against their own eager attention."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

import huiyan.bridge
from huiyan.attention import observe
from huiyan.bridge.foreign_masks import Foreign, Seen, mask_for_models
from huiyan.bridge.refusal import takes_ours, watch
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


def test_a_model_that_is_there_is_attached() -> None:
    eager, ours = twins_of("mistral")
    ids, _ = padded("none")
    attached = huiyan.bridge.attach(eager)
    assert attached is eager
    with torch.no_grad():
        torch.testing.assert_close(attached(ids).logits, ours(ids).logits, atol=0, rtol=0)


def test_models_are_told_apart_by_whether_their_code_asks_the_interface() -> None:
    small = {"encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
    config = transformers.AutoConfig.for_model(
        "whisper", d_model=16, vocab_size=60, pad_token_id=0, encoder_ffn_dim=16, decoder_ffn_dim=16, **small
    )
    huiyan.bridge.attach(transformers.AutoModel.from_config(config))  # says that it does not, and does
    with pytest.raises(ConfigError, match="for models of transformers"):
        huiyan.bridge.attach(torch.nn.Linear(2, 2))  # pyright: ignore[reportArgumentType]


HEADS = {"n_layer": 2, "n_head": 4}
WITHOUT: dict[str, dict[str, Any]] = {  # families whose attention does not go through the interface, or that have none
    "deberta": SMALL,
    "deberta-v2": SMALL,
    "xlnet": {**HEADS, "vocab_size": 60, "d_model": 32, "d_inner": 40},
    "flaubert": {"n_words": 60, "emb_dim": 32, "n_layers": 2, "n_heads": 4},
    "xlm": {"n_words": 60, "emb_dim": 32, "n_layers": 2, "n_heads": 4},
    "prophetnet": {
        "vocab_size": 60,
        "hidden_size": 32,
        "num_encoder_layers": 1,
        "num_decoder_layers": 1,
        "num_encoder_attention_heads": 4,
        "num_decoder_attention_heads": 4,
        "encoder_ffn_dim": 40,
        "decoder_ffn_dim": 40,
    },
    "fnet": {**SMALL, "tpu_short_seq_length": 64},
    "gptj": {**HEADS, "vocab_size": 60, "n_embd": 32, "rotary_dim": 8, "bos_token_id": 1, "eos_token_id": 2},
    "codegen": {**HEADS, "vocab_size": 60, "n_embd": 32, "rotary_dim": 8, "bos_token_id": 1, "eos_token_id": 2},
    "falcon": {**SMALL, "bos_token_id": 1, "eos_token_id": 2},
    "gpt_neo": {
        "vocab_size": 60,
        "hidden_size": 32,
        "num_layers": 2,
        "num_heads": 4,
        "attention_types": [[["global", "local"], 1]],
        "window_size": 4,
        "bos_token_id": 1,
        "eos_token_id": 2,
    },
    "mpt": {"vocab_size": 60, "d_model": 32, "n_heads": 4, "n_layers": 2},
    "bloom": {**HEADS, "vocab_size": 60, "hidden_size": 32},
    "longformer": {**SMALL, "attention_window": 4},
    "led": {
        "vocab_size": 60,
        "d_model": 32,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
        "encoder_ffn_dim": 40,
        "decoder_ffn_dim": 40,
        "attention_window": 4,
    },
}
REFUSED = r"The attention of \w+ does not go through the interface .* Use its own: attn_implementation='eager'"


def without(name: str, how: Any = "eager", kind: Any = transformers.AutoModel) -> Any:
    return kind.from_config(transformers.AutoConfig.for_model(name, **WITHOUT[name]), attn_implementation=how).eval()


@pytest.mark.parametrize("name", WITHOUT)
def test_a_model_without_the_interface_is_refused_however_ours_is_asked_for(name: str, tmp_path: Path) -> None:
    model = without(name)
    for ask in (huiyan.bridge.attach, lambda it: it.set_attn_implementation("huiyan")):
        with pytest.raises(ConfigError, match=REFUSED):
            ask(model)
    with pytest.raises(ConfigError, match=REFUSED):
        model.set_attn_implementation({"": "huiyan"})
    assert model.config._attn_implementation == "eager"  # and it stays as it was
    with pytest.raises(ConfigError, match=REFUSED):
        without(name, "huiyan")
    model.save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match=REFUSED):
        transformers.AutoModel.from_pretrained(tmp_path, attn_implementation="huiyan")


@pytest.mark.parametrize("name", ["fnet", "gptj", "deberta-v2"])
def test_a_head_over_such_a_model_is_refused(name: str) -> None:
    kind = transformers.AutoModelForCausalLM if name == "gptj" else transformers.AutoModelForMaskedLM
    with pytest.raises(ConfigError, match=REFUSED):
        without(name, "huiyan", kind)
    with pytest.raises(ConfigError, match=REFUSED):
        huiyan.bridge.attach(without(name, "eager", kind))


@pytest.mark.parametrize("name", ["bloom", "mpt", "longformer", "led"])
def test_a_model_that_computes_with_its_mask_is_refused_in_its_forward_pass(name: str) -> None:
    model = without(name)
    model.config._attn_implementation = "huiyan"  # behind our back
    ids = torch.ones(1, 8, dtype=torch.long)
    with pytest.raises(ConfigError, match=r"computes with its mask by itself.* Use attn_implementation='eager'"):
        model(input_ids=ids, attention_mask=ids)


def test_what_a_model_gets_for_a_mask_is_no_tensor_and_says_so() -> None:
    seen = Seen(None)
    assert not hasattr(seen, "to")  # who only asks (accelerate does) hears no
    for use in (lambda: seen.shape, lambda: seen[:, None], lambda: 1.0 - seen, lambda: torch.ones(2) + seen):
        with pytest.raises(ConfigError, match="computes with its mask by itself"):
            use()


def test_one_part_without_the_interface_is_refused_and_the_other_can_have_ours() -> None:
    parts = {
        "encoder": transformers.BertConfig(**SMALL).to_dict(),
        "decoder": transformers.MegatronBertConfig(**SMALL, is_decoder=True, add_cross_attention=True).to_dict(),
    }
    with pytest.raises(ConfigError, match="attention of MegatronBert"):
        pair_of(parts, "huiyan")
    model = pair_of(parts, {"encoder": "huiyan", "decoder": "eager"})
    assert [part._attn_implementation for part in (model.config.encoder, model.config.decoder)] == ["huiyan", "eager"]
    for ask in ("huiyan", {"decoder": "huiyan"}):
        with pytest.raises(ConfigError, match="attention of MegatronBert"):
            model.set_attn_implementation(ask)
    model.set_attn_implementation({"encoder": "sdpa"})
    assert model.config.encoder._attn_implementation == "sdpa"


def pair_of(parts: dict[str, Any], how: Any) -> Any:
    config = transformers.EncoderDecoderConfig(**parts)
    return transformers.EncoderDecoderModel._from_config(config, attn_implementation=how)


def test_a_model_of_parts_that_attend_with_ours_is_let_in() -> None:
    ids = torch.ones(1, 8, dtype=torch.long)
    config = transformers.DPRConfig(**SMALL)  # its file has no attention: it holds a BERT
    models = [transformers.DPRQuestionEncoder._from_config(config, attn_implementation="huiyan")]
    models.append(huiyan.bridge.attach(transformers.DPRQuestionEncoder(transformers.DPRConfig(**SMALL))))
    for model in models:
        with torch.no_grad(), observe(model) as maps:
            model(ids)
        assert len(maps.layers) == 2


def test_a_part_without_attention_is_let_in_and_refused_alone() -> None:
    backbone = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8, 8, 8], depths=[1, 1, 1, 1], out_features=["stage4"]
    )
    sizes = {"encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
    config = transformers.DetrConfig(
        backbone_config=backbone, d_model=16, encoder_ffn_dim=16, decoder_ffn_dim=16, num_queries=3, **sizes
    )
    detr = transformers.DetrModel._from_config(config, attn_implementation="huiyan").eval()
    for model in (detr, huiyan.bridge.attach(detr)):
        with torch.no_grad(), observe(model) as maps:
            model(torch.rand(1, 3, 64, 64))
        assert maps.layers
    with pytest.raises(ConfigError, match="attention of ResNetModel"):
        transformers.AutoModel.from_config(backbone, attn_implementation="huiyan")


def test_a_class_of_ones_own_is_known_by_its_family() -> None:
    class Mine(transformers.WhisperForConditionalGeneration):
        pass

    sizes = {"encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
    config = transformers.WhisperConfig(
        d_model=16, vocab_size=60, pad_token_id=0, encoder_ffn_dim=16, decoder_ffn_dim=16, **sizes
    )
    assert Mine._from_config(config, attn_implementation="huiyan").config._attn_implementation == "huiyan"
    assert takes_ours(Mine)
    assert not takes_ours(transformers.DacModel)  # one of its bases stands in the file of PreTrainedModel


def test_transformers_asks_once_and_other_names_are_left_alone() -> None:
    before = transformers.PreTrainedModel.post_init
    watch()
    assert transformers.PreTrainedModel.post_init is before
    model = without("deberta")
    model.set_attn_implementation("eager")
    model.set_attn_implementation({})
    assert model.config._attn_implementation == "eager"
