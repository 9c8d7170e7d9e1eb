"""Adaptive input and softmax against the published code's arithmetic, read one word at a time.

Source: Dai et al. 2019, `proj_adaptive_softmax.py` and `AdaptiveEmbedding` of its code; Grave et al. 2017.
"""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from huiyan.models.segment_config import TransformerXLConfig
from huiyan.models.transformer_xl import TransformerXL

BASE = TransformerXLConfig(
    vocab_size=40,
    n_layers=1,
    width=8,
    n_heads=2,
    head_width=4,
    feed_forward_width=16,
    memory_length=6,
    cutoffs=(10, 20, 35),
)
VARIANTS: dict[str, dict[str, Any]] = {
    "clusters of one width": {},
    "rows narrower than the states": {"embedding_width": 6},
    "tied projections": {"embedding_width": 6, "tied_projections": (False, True, True, True)},
    "narrower clusters": {"div_value": 2},
    "narrower clusters of wide rows": {
        "div_value": 2,
        "embedding_width": 16,
        "tied_projections": (False, True, True, True),
    },
    "words of its own": {"div_value": 2, "tied_words": False},
    "no clusters": {"cutoffs": ()},
    "no clusters, narrow rows": {"cutoffs": (), "embedding_width": 4},
}


def model_of(variant: str) -> TransformerXL:
    torch.manual_seed(0)
    model = TransformerXL(replace(BASE, **VARIANTS[variant])).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def cluster_of(word: int, model: TransformerXL) -> tuple[int, int]:
    """Its number, 0 for the shortlist, and the word's place in it."""
    starts = (0, *model.config.cutoffs)
    number = max(n for n, start in enumerate(starts) if start <= word)
    return number, word - starts[number]


def row_of(word: int, model: TransformerXL) -> Tensor:
    """What a word is read as: its row, brought to the width by the cluster's matrix, times the root of the width."""
    number, place = cluster_of(word, model)
    tables, projections = model.embeddings.tables, model.embeddings.projections
    row = tables[0].weight[word] if len(tables) == 1 else tables[number].weight[place]
    if len(projections):
        row = projections[0 if len(projections) == 1 else number] @ row
    return row * math.sqrt(model.config.width)


def log_probability(state: Tensor, word: int, model: TransformerXL) -> Tensor:
    """log p of a word: of its cluster, whose column in the head is counted from the end, and within the cluster."""
    output, ends = model.output, (*model.config.cutoffs, model.config.vocab_size)
    number, place = cluster_of(word, model)

    def scores(of: int) -> Tensor:
        start = 0 if of == 0 else ends[of - 1]
        whole = len(output.words) == 1
        rows = output.words[0][start : ends[of]] if whole else output.words[of]
        biases = output.biases[0][start : ends[of]] if whole else output.biases[of]
        if of == 0 and len(ends) > 1:
            rows, biases = torch.cat((rows, output.cluster_weight)), torch.cat((biases, output.cluster_bias))
        narrow = state if not len(output.projections) else output.projections[of].T @ state
        return rows @ narrow + biases

    head = scores(0).log_softmax(0)
    return head[place] if number == 0 else head[-number] + scores(number).log_softmax(0)[place]


@pytest.mark.parametrize("variant", VARIANTS)
def test_words_are_read_as_the_published_code_reads_them(variant: str) -> None:
    model, words = model_of(variant), torch.arange(40)
    wanted = torch.stack([row_of(int(word), model) for word in words])
    torch.testing.assert_close(model.embeddings(words), wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("variant", VARIANTS)
def test_words_are_as_probable_as_in_the_published_code(variant: str) -> None:
    model, words = model_of(variant), torch.arange(40)
    states = torch.randn(40, model.config.width, dtype=torch.float64)
    wanted = torch.stack([log_probability(state, int(word), model) for state, word in zip(states, words, strict=True)])
    torch.testing.assert_close(-model.output(states, words), wanted, rtol=0, atol=1e-12)
