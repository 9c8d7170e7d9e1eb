"""Every family of language models against its `transformers` twin, on tiny random weights.

Ours sees the texts packed, of mixed lengths; `transformers` sees them one at a time.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from huiyan.core.packed import Packed
from huiyan.models.families.registry import LANGUAGE_FAMILIES
from huiyan.models.language_checkpoint import language_names, load_language_model, save_language_model
from huiyan.models.language_model import LanguageModel
from huiyan.models.naming import together

GPT2 = {"vocab_size": 60, "n_embd": 24, "n_layer": 3, "n_head": 4, "n_positions": 40}
LLAMA = {
    "vocab_size": 60,
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 40,
    "max_position_embeddings": 40,
    "rms_norm_eps": 1e-5,
}
BART = {
    "vocab_size": 60,
    "d_model": 24,
    **{f"{side}_layers": n for side, n in (("encoder", 2), ("decoder", 3))},
    **{f"{side}_attention_heads": 4 for side in ("encoder", "decoder")},
    **{f"{side}_ffn_dim": n for side, n in (("encoder", 40), ("decoder", 36))},
    "max_position_embeddings": 40,
    "pad_token_id": 1,
    "decoder_start_token_id": 2,
}
T5 = {
    "vocab_size": 60,
    "d_model": 24,
    "d_kv": 8,
    "num_heads": 4,
    "d_ff": 40,
    "num_layers": 2,
    "num_decoder_layers": 3,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 12,
    "decoder_start_token_id": 0,
}
TINY: dict[str, dict[str, Any]] = {
    "gpt2": GPT2,
    "llama": LLAMA,
    "qwen2": LLAMA,
    "qwen3": {**LLAMA, "head_dim": 8},
    "bart": BART,
    "marian": {**BART, "pad_token_id": 59, "decoder_start_token_id": 59, "eos_token_id": 0, "scale_embedding": True},
    "t5": T5,
    "mt5": T5,
}


def rope(kind: str, **more: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 5000.0, "factor": 4.0, **more}}


VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, {}) for name in TINY},
    "gpt2 with a narrow network, not tied": ("gpt2", {"n_inner": 20, "tie_word_embeddings": False}),
    "llama with biases, tied": (
        "llama",
        {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True, "pad_token_id": 3, "head_dim": 10},
    ),
    "llama 3": (
        "llama",
        rope("llama3", original_max_position_embeddings=16, low_freq_factor=1.0, high_freq_factor=4.0),
    ),
    "llama, linear": ("llama", rope("linear")),
    "qwen2 with yarn": ("qwen2", rope("yarn", original_max_position_embeddings=16)),
    "qwen2 with windows": (
        "qwen2",
        {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1, "tie_word_embeddings": True},
    ),
    "qwen3 with biases and windows": (
        "qwen3",
        {
            "attention_bias": True,
            "use_sliding_window": True,
            "sliding_window": 4,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        },
    ),
    "bart, scaled": ("bart", {"scale_embedding": True, "activation_function": "relu"}),
    "marian with two vocabularies": ("marian", {"share_encoder_decoder_embeddings": False, "decoder_vocab_size": 60}),
    "marian with swish": ("marian", {"activation_function": "swish"}),
    "t5 1.1": ("t5", {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}),
    "mt5 with silu": ("mt5", {"feed_forward_proj": "gated-silu"}),
}
DROPOUTS = (
    *("resid_pdrop", "embd_pdrop", "attn_pdrop", "attention_dropout"),
    *("dropout", "activation_dropout", "dropout_rate"),
)
LENGTHS = [7, 1, 12, 12, 3, 30, 2]
SOURCES = [3, 9, 1, 20, 5, 2, 13]


@dataclass
class Twins:
    """One model in both libraries, and texts for it."""

    ours: LanguageModel
    theirs: Any
    texts: list[Tensor]
    sources: list[Tensor]

    @property
    def conditional(self) -> bool:
        return self.ours.encoder is not None

    def ask(self, texts: list[Tensor], **options: Any) -> Tensor:
        """Our logits for packed texts."""
        return self.ours(packed(texts), source=packed(self.sources) if self.conditional else None, **options)

    def ask_them(self, texts: list[Tensor]) -> list[Tensor]:
        """Their logits for each text by itself."""
        if not self.conditional:
            return [self.theirs(text[None]).logits[0] for text in texts]
        both = zip(self.sources, texts, strict=True)
        return [self.theirs(input_ids=source[None], decoder_input_ids=text[None]).logits[0] for source, text in both]


def packed(texts: list[Tensor]) -> Packed:
    return Packed.from_lists([text.tolist() for text in texts])


def twins_in(folder: Path, variant: str, **options: Any) -> Twins:
    """A `transformers` model with random weights everywhere, saved by it and loaded by us."""
    name, changes = VARIANTS[variant]
    config = transformers.AutoConfig.for_model(name, **{**TINY[name], **changes, **options})
    torch.manual_seed(7)
    theirs = getattr(transformers, LANGUAGE_FAMILIES[name].architecture)(config)
    with torch.no_grad():
        for key, parameter in theirs.named_parameters():
            if name != "marian" or "embed_positions" not in key:  # Marian's are sinusoids, and in no file
                parameter.add_(torch.randn_like(parameter) * 0.1)
        if hasattr(theirs, "final_logits_bias"):
            theirs.final_logits_bias.copy_(torch.randn(1, 60))
    theirs.save_pretrained(folder)
    texts, sources = ([torch.randint(5, 59, (length,)) for length in lengths] for lengths in (LENGTHS, SOURCES))
    return Twins(load_language_model(folder), theirs, texts, sources)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_logits_are_theirs_in_eval(variant: str, tmp_path: Path) -> None:
    twins = twins_in(tmp_path, variant)
    twins.theirs.eval()
    with torch.no_grad():
        expected = torch.cat(twins.ask_them(twins.texts))
        torch.testing.assert_close(twins.ask(twins.texts), expected, atol=2e-5, rtol=1e-5)
        ends = torch.tensor(LENGTHS).cumsum(0) - 1
        torch.testing.assert_close(twins.ask(twins.texts, only_last=True), expected[ends], atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_cache_changes_nothing(variant: str, tmp_path: Path) -> None:
    """Prompts of different lengths, then one token, then three, then some of the sequences twice."""
    twins = twins_in(tmp_path, variant)
    twins.theirs.eval()
    more = torch.randint(5, 59, (len(LENGTHS), 6))
    with torch.no_grad():
        whole = [torch.cat((text, row)) for text, row in zip(twins.texts, more, strict=True)]
        expected = twins.ask_them(whole)
        cache = twins.ours.fresh_cache()
        prompt = twins.ask(twins.texts, cache=cache)
        found = [rows[:length] for rows, length in zip(expected, LENGTHS, strict=True)]
        torch.testing.assert_close(prompt, torch.cat(found), atol=2e-5, rtol=1e-5)
        for first, last in ((0, 1), (1, 4)):
            step = twins.ours(packed(list(more[:, first:last])), cache=cache)
            rows = [logits[n + first : n + last] for logits, n in zip(expected, LENGTHS, strict=True)]
            torch.testing.assert_close(step, torch.cat(rows), atol=2e-5, rtol=1e-5)
        chosen = torch.tensor([5, 0, 0, 3])
        cache.select(chosen)
        for column in (4, 5):
            step = twins.ours(packed(list(more[chosen, column : column + 1])), cache=cache)
            rows = [expected[text][LENGTHS[text] + column] for text in chosen]
            torch.testing.assert_close(step, torch.stack(rows), atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_gradient_is_theirs_in_train(variant: str, tmp_path: Path) -> None:
    twins = twins_in(tmp_path, variant, **dict.fromkeys(DROPOUTS, 0.0))
    ours, theirs = twins.ours.train(), twins.theirs.train()
    direction = torch.randn(sum(LENGTHS), 60)
    (twins.ask(twins.texts) * direction).sum().backward()
    (torch.cat(twins.ask_them(twins.texts)) * direction).sum().backward()

    expected = dict(theirs.named_parameters())
    names = language_names(ours)
    found = together({names[name]: parameter.grad for name, parameter in ours.named_parameters()})
    unused = {name for name, parameter in expected.items() if parameter.grad is None}  # Marian's fixed positions
    assert found.keys() == expected.keys() - unused
    for name, gradient in found.items():
        wanted = expected[name].grad
        size = max(1.0, float(wanted.abs().max()))
        torch.testing.assert_close(
            gradient, wanted, atol=2e-5 * size, rtol=2e-4, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.parametrize("variant", VARIANTS)
def test_dropout_stands_where_theirs_does(variant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With dropout made a plain factor, one site too many, too few or of another probability shows."""

    def factor(x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        del inplace
        return x * (1 - p) if training else x

    monkeypatch.setattr(nn.Dropout, "forward", lambda self, x: factor(x, self.p, self.training))
    monkeypatch.setattr(nn.functional, "dropout", factor)
    attention_alone = {"attn_pdrop": 0.0, "attention_dropout": 0.0}
    twins = twins_in(
        tmp_path,
        variant,
        **attention_alone,
        resid_pdrop=0.3,
        embd_pdrop=0.2,
        dropout=0.3,
        activation_dropout=0.2,
        **({"dropout_rate": 0.0} if "t5" in variant else {}),
    )
    twins.ours.train(), twins.theirs.train()
    with torch.no_grad():
        expected = torch.cat(twins.ask_them(twins.texts))
        torch.testing.assert_close(twins.ask(twins.texts), expected, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_they_load_what_we_save(variant: str, tmp_path: Path) -> None:
    twins = twins_in(tmp_path / "theirs", variant)
    save_language_model(twins.ours, tmp_path / "ours")
    loaded, information = type(twins.theirs).from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(information.values()), information
    assert loaded.config.architectures == [type(loaded).__name__]
    expected = load_file(tmp_path / "theirs" / "model.safetensors")
    written = load_file(tmp_path / "ours" / "model.safetensors")
    assert written.keys() == expected.keys()
    for name, tensor in written.items():
        torch.testing.assert_close(tensor, expected[name], atol=0, rtol=0)
    twins.theirs = loaded.eval()
    with torch.no_grad():
        torch.testing.assert_close(twins.ask(twins.texts), torch.cat(twins.ask_them(twins.texts)), atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_their_config_survives_the_round_trip(variant: str, tmp_path: Path) -> None:
    twins = twins_in(tmp_path / "theirs", variant, bos_token_id=4, eos_token_id=5, attention_dropout=0.07)
    save_language_model(twins.ours, tmp_path / "ours")
    before, after = (
        transformers.AutoConfig.from_pretrained(tmp_path / whose).to_dict() for whose in ("theirs", "ours")
    )
    changed = {key for key in before | after if before.get(key) != after.get(key)}
    assert changed <= {"_name_or_path", "dtype"}, {key: (before.get(key), after.get(key)) for key in changed}


@pytest.mark.parametrize("name", ["gpt2", "llama", "bart", "t5"])
def test_weights_under_their_other_names_are_read(name: str, tmp_path: Path) -> None:
    """Base models leave a prefix out, old files hold shared matrices several times, and constants."""
    twins = twins_in(tmp_path, name)
    file = tmp_path / "model.safetensors"
    weights = load_file(file)
    prefix = {"gpt2": "transformer.", "llama": "model.", "bart": "model."}.get(name, "")
    head = weights.pop("lm_head.weight", None)
    old = {key.removeprefix(prefix): tensor for key, tensor in weights.items()}
    if name == "gpt2":
        old |= {"h.0.attn.bias": torch.ones(1, 1, 4, 4), "h.1.attn.masked_bias": torch.tensor(-1e4)}
    elif name == "llama":
        old |= {"layers.0.self_attn.rotary_emb.inv_freq": torch.ones(3)} | (
            {} if head is None else {"lm_head.weight": head}
        )
    else:
        old["encoder.embed_tokens.weight"] = old["shared.weight"].clone()
        old["decoder.embed_tokens.weight"] = old.pop("shared.weight")
    save_file(old, file)
    if name == "bart":  # a file without its constant has 0
        assert not load_language_model_without_constant(tmp_path, old).any()
        save_file(old, file)
    again = load_language_model(tmp_path)
    for key, parameter in twins.ours.named_parameters():
        torch.testing.assert_close(dict(again.named_parameters())[key], parameter, atol=0, rtol=0)


def load_language_model_without_constant(folder: Path, weights: dict[str, Tensor]) -> Tensor:
    save_file(
        {name: tensor for name, tensor in weights.items() if "final_logits" not in name}, folder / "model.safetensors"
    )
    found = load_language_model(folder).logits_bias
    assert found is not None
    return found


def test_an_output_matrix_of_its_own_is_kept_whatever_the_config_says(tmp_path: Path) -> None:
    """T5 1.1: `transformers` writes that it is tied, beside two matrices."""
    twins = twins_in(tmp_path, "t5 1.1")
    file = tmp_path / "model.safetensors"
    own = torch.randn(60, 24)
    save_file({**load_file(file), "lm_head.weight": own}, file)
    theirs = type(twins.theirs).from_pretrained(tmp_path).eval()
    again = Twins(load_language_model(tmp_path), theirs, twins.texts, twins.sources)
    torch.testing.assert_close(theirs.lm_head.weight, own)
    with torch.no_grad():
        torch.testing.assert_close(again.ask(again.texts), torch.cat(again.ask_them(again.texts)), atol=2e-5, rtol=1e-5)
