"""Learning to guess words that are hidden, from scratch or on from an encoder (adaptation to a domain)."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from huiyan.core.errors import SourceError
from huiyan.core.processes import process_count, process_number, sum_of_all
from huiyan.core.seeds import derive_seed
from huiyan.data.token_file import TokenFile
from huiyan.models.config import TransformerConfig
from huiyan.models.families.registry import family_named
from huiyan.models.masked import MaskedLanguageModel, fresh_masked_model, load_masked_model, save_masked_model
from huiyan.tasks.masked import Frame, MaskedObjective
from huiyan.text.tokenise import Tokenizer
from huiyan.workflows.language.config import ARCHITECTURES, LanguageOptions, LanguageRun
from huiyan.workflows.language.models import folder_of, head_width_of, refuse_without_place
from huiyan.workflows.language.texts import Prepared, figures


class MaskedLearner:
    """An encoder that guesses hidden words.

    Args:
        run: its options.
        prepared: the text.
        device: where it learns.
    Raises:
        ConfigError: numbers that cannot be.
        SourceError: an encoder to go on from that cannot be read, or whose tokenizer has no mask.
    """

    def __init__(self, run: LanguageRun, prepared: Prepared, device: torch.device) -> None:
        self._run, self._prepared, self._device = run, prepared, device
        self._frame = frame_of(prepared.tokenizer)
        self.model = masked_model_of(run.model, prepared.tokenizer, seed=run.training.seed).to(device)

    def objective(self) -> MaskedObjective:
        """Rows of the training part."""
        return self._rows(self._prepared.parts["train"])

    def measure(self, part: TokenFile) -> dict[str, float]:
        """Its figures on a part of the text, all processes together."""
        found = self._rows(part).judge(batch_tokens=self._run.training.batch_tokens)
        nats, right, n = (sum_of_all(float(value), self._device) for value in found)
        return figures(nats, round(n)) | {"masked_accuracy": right / n}

    def save(self, out: Path) -> None:
        """Write the encoder and the head that guesses."""
        save_masked_model(self.model, out)

    def sample(self) -> dict[str, Any]:
        """Nothing: it does not write."""
        return {}

    def surprise(self) -> str:
        """Nothing."""
        return ""

    def _rows(self, part: TokenFile) -> MaskedObjective:
        length = min(self._run.model.segment_length, self.model.config.max_length)
        return MaskedObjective(
            self.model,
            part,
            self._frame,
            row_length=length,
            seed=self._run.training.seed,
            number=process_number(),
            count=process_count(),
        )


def frame_of(tokenizer: Tokenizer) -> Frame:
    """What a row is framed by, and the mask.

    Raises:
        SourceError: the tokenizer has no mask.
    """
    if tokenizer.mask_id is None:
        raise SourceError("This model's tokenizer has no mask, so no word can be hidden.", hint="Choose another model.")
    before, after = tokenizer.frame
    return Frame(tuple(before), tuple(after), tokenizer.mask_id)


def masked_model_of(options: LanguageOptions, tokenizer: Tokenizer, *, seed: int) -> MaskedLanguageModel:
    """The model of a run, in training mode, on the CPU in float32.

    Raises:
        ConfigError: numbers that cannot be.
        SourceError: an encoder to go on from that cannot be read, or does not know the tokens.
    """
    seed = derive_seed(seed, "model")
    if options.architecture not in ARCHITECTURES:
        model = load_masked_model(folder_of(options), seed=seed)
        refuse_other_tokens(model, tokenizer, options.model)
        return model.train()
    return fresh_masked_model(encoder_config(options, tokenizer), seed=seed)


def refuse_other_tokens(model: MaskedLanguageModel, tokenizer: Tokenizer, named: str) -> None:
    """Raise for a tokenizer that is not the model's.

    Args:
        model: whose embeddings there are.
        tokenizer: that is to make its tokens.
        named: the model, as it was asked for.
    Raises:
        SourceError: it has more tokens than the model knows.
    """
    if model.config.vocab_size < tokenizer.vocab_size:
        raise SourceError(
            f"The model in {named} knows {model.config.vocab_size:,} tokens, and its tokenizer "
            f"{tokenizer.vocab_size:,}.",
            hint="They do not belong together. Name another one.",
        )


def encoder_config(options: LanguageOptions, tokenizer: Tokenizer) -> TransformerConfig:
    """BERT's, of these numbers.

    Raises:
        ConfigError: heads that do not divide the width, or an option that BERT has no place for.
    """
    refuse_without_place(options)
    head_width_of(options)
    values = {
        "model_type": "bert",
        "vocab_size": tokenizer.vocab_size,
        "hidden_size": options.width,
        "num_hidden_layers": options.layers,
        "num_attention_heads": options.heads,
        "intermediate_size": options.feed_forward_width or 4 * options.width,
        "max_position_embeddings": max(512, options.segment_length),
        "pad_token_id": tokenizer.pad_id or 0,
        "hidden_dropout_prob": options.dropout,
    }
    return replace(family_named("bert").read_encoder(values), carried={})
