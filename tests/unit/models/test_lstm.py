"""The recurrent language model, and what all models of streams have in common."""

import itertools

import pytest
import torch
from torch import nn

from huiyan.core.errors import ConfigError, ShapeError
from huiyan.models.config import LanguageModelConfig
from huiyan.models.families.registry import LANGUAGE_FAMILIES
from huiyan.models.language_checkpoint import fresh_language_model
from huiyan.models.lstm import LSTMLanguageModel
from huiyan.models.segment_config import LSTMConfig, TransformerXLConfig
from huiyan.models.segments import SegmentedDecoder, SegmentModel
from huiyan.models.transformer_xl import TransformerXL


def lstm() -> LSTMLanguageModel:
    torch.manual_seed(0)
    return LSTMLanguageModel(LSTMConfig(vocab_size=11, n_layers=2, width=8, dropout=0.1)).eval()


def decoder_config() -> LanguageModelConfig:
    numbers = {
        "model_type": "llama",
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 24,
    }
    return LANGUAGE_FAMILIES["llama"].read({**numbers, "vocab_size": 11, "max_position_embeddings": 32})


def models() -> dict[str, SegmentModel]:
    torch.manual_seed(0)
    xl = TransformerXLConfig(
        vocab_size=11, n_layers=2, width=8, n_heads=2, head_width=4, feed_forward_width=16, memory_length=6
    )
    decoder = SegmentedDecoder(fresh_language_model(decoder_config(), seed=1)).eval()
    return {"lstm": lstm(), "transformer-xl": TransformerXL(xl).eval(), "transformer": decoder}


@pytest.mark.parametrize("name", ["lstm", "transformer-xl", "transformer"])
def test_all_of_them_learn_and_their_memory_can_be_put_away(name: str) -> None:
    model = models()[name]
    assert model.vocab_size == 11
    tokens = torch.randint(11, (3, 9), generator=torch.Generator().manual_seed(1))
    first, memory = model.loss(tokens[:, :4], tokens[:, 1:5])
    again = model.memory_of(memory.states)
    one, _ = model.loss(tokens[:, 4:8], tokens[:, 5:9], memory)
    other, _ = model.loss(tokens[:, 4:8], tokens[:, 5:9], again)
    assert first.shape == (3, 4) and torch.equal(one, other)
    assert not any(state.requires_grad for state in memory.states)
    (first.sum() + one.sum()).backward()
    parameters = dict(model.named_parameters())
    assert all(parameter.grad is not None for parameter in parameters.values())
    grouped = [id(parameter) for group in model.by_depth() for parameter in group]
    assert sorted(grouped) == sorted({id(parameter) for parameter in parameters.values()})
    assert len(model.by_depth()) >= 3


def test_segments_are_one_pass_for_a_recurrent_network() -> None:
    model, tokens = lstm(), torch.randint(11, (2, 13))
    whole, _ = model.loss(tokens[:, :-1], tokens[:, 1:])
    memory, parts = None, list[torch.Tensor]()
    for start in (0, 5, 10):
        part, memory = model.loss(tokens[:, start : min(start + 5, 12)], tokens[:, start + 1 : start + 6], memory)
        parts.append(part)
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=1e-5, atol=1e-6)


def test_a_decoder_without_memory_begins_anew_with_each_segment() -> None:
    model = models()["transformer"]
    tokens = torch.randint(11, (2, 9))
    _, memory = model.loss(tokens[:, :4], tokens[:, 1:5])
    after, _ = model.loss(tokens[:, 4:8], tokens[:, 5:9], memory)
    alone, _ = model.loss(tokens[:, 4:8], tokens[:, 5:9])
    assert torch.equal(after, alone) and not memory.states


@pytest.mark.parametrize("cutoffs", [(), (100, 400)])
def test_what_enters_the_first_layer_has_variance_1(cutoffs: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    numbers = LSTMConfig(vocab_size=1000, n_layers=1, width=64, cutoffs=cutoffs, div_value=2)
    rows = LSTMLanguageModel(numbers).embeddings(torch.arange(1000)).detach()
    ends = [0, *cutoffs, 1000]
    assert all(0.8 < float(rows[a:b].var()) < 1.25 for a, b in itertools.pairwise(ends))


def test_the_lowest_parameters_are_the_words() -> None:
    model = lstm()
    groups = model.by_depth()
    assert isinstance(model.embeddings.tables[0], nn.Embedding)
    assert any(parameter is model.embeddings.tables[0].weight for parameter in groups[0])
    assert [len(group) for group in groups[1:3]] == [4, 4]


def test_what_cannot_be_is_told() -> None:
    with pytest.raises(ConfigError, match="n_layers"):
        LSTMConfig(vocab_size=11, n_layers=0, width=8)
    with pytest.raises(ShapeError, match="at least one token"):
        lstm().loss(torch.zeros(2, 0, dtype=torch.long), torch.zeros(2, 0, dtype=torch.long))
    _, memory = lstm().loss(torch.zeros(2, 3, dtype=torch.long), torch.zeros(2, 3, dtype=torch.long))
    with pytest.raises(ShapeError, match="of 2 streams"):
        lstm().loss(torch.zeros(3, 3, dtype=torch.long), torch.zeros(3, 3, dtype=torch.long), memory)
