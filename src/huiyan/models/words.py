"""The word table of a model: left as it is in training, or cut down to the pieces that are kept."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import nn

from huiyan.models.classifier import SequenceClassifier

LARGE_VOCABULARY = 100_000
"""Rows of a word table above which training it would take most of a step's time and memory."""


def freeze_words(model: SequenceClassifier) -> None:
    """Leave the word table as it is: it gets no gradient, and an optimiser passes it over."""
    model.encoder.embeddings.words.weight.requires_grad_(False)


def keep_words(model: SequenceClassifier, kept: Sequence[int]) -> None:
    """Keep these rows of the word table; they are numbered anew, from 0.

    Args:
        model: is changed in place, its configuration too; the tokenizer has to give the new numbers.
        kept: rows of the table as it is, ascending; the row of the padding token among them.
    """
    words = model.encoder.embeddings.words
    config = model.config.encoder
    pad_id = None if config.pad_id is None else list(kept).index(config.pad_id)
    table = nn.Embedding.from_pretrained(  # pyright: ignore[reportUnknownMemberType]
        words.weight.detach()[torch.tensor(kept)].clone(), freeze=not words.weight.requires_grad, padding_idx=pad_id
    )
    model.encoder.embeddings.words = table
    encoder = replace(config, vocab_size=len(kept), pad_id=pad_id)
    model.encoder.config = encoder
    model.config = replace(model.config, encoder=encoder)
