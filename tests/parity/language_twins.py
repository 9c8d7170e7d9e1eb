"""Tiny language models of `transformers` with random weights, and the same as ours."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor

from huiyan.core.packed import Packed
from huiyan.models.families.registry import LANGUAGE_FAMILIES
from huiyan.models.language_checkpoint import load_language_model
from huiyan.models.language_model import LanguageModel

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
    "mistral": {**LLAMA, "sliding_window": 5},
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
    "mistral without windows": ("mistral", {"sliding_window": None}),
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
