from dataclasses import replace

import pytest
import torch

from huiyan.core.errors import ShapeError
from huiyan.core.packed import Packed
from huiyan.models.config import TransformerConfig
from huiyan.models.embeddings import Embeddings

CONFIG = TransformerConfig(
    family="bert", vocab_size=20, width=8, embedding_width=8, n_layers=1, n_layer_groups=1, n_heads=2,
    feed_forward_width=16, n_positions=6, n_types=2, embedding_dropout=0.0,
)  # fmt: skip


def test_rows_are_word_and_position_and_first_type_normed() -> None:
    embeddings = Embeddings(replace(CONFIG, position_offset=2))
    rows = embeddings(Packed.from_lists([[5, 6], [7]]))
    words, places = embeddings.words.weight, embeddings.positions.weight
    assert embeddings.types is not None
    expected = torch.stack([words[5] + places[2], words[6] + places[3], words[7] + places[2]])
    torch.testing.assert_close(rows, embeddings.norm(expected + embeddings.types.weight[0]))


def test_a_family_without_types_has_no_table() -> None:
    assert Embeddings(replace(CONFIG, n_types=0)).types is None


def test_a_projection_widens_the_rows() -> None:
    embeddings = Embeddings(replace(CONFIG, embedding_width=4, project_embeddings=True))
    assert embeddings.words.weight.shape == (20, 4)
    assert embeddings(Packed.from_lists([[5]])).shape == (1, 8)


def test_the_longest_sequence_must_have_its_positions() -> None:
    embeddings = Embeddings(replace(CONFIG, position_offset=2))
    assert embeddings(Packed.from_lists([[5] * 4])).shape == (4, 8)
    with pytest.raises(ShapeError, match="sequence of 5 tokens is longer than the 4 positions.* max_length=4"):
        embeddings(Packed.from_lists([[5], [5] * 5]))


def test_no_sequence_gives_no_row() -> None:
    assert Embeddings(CONFIG)(Packed.from_lists([])).shape == (0, 8)
