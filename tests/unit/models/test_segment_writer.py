"""Writing with models that carry a memory: what they write is what reading everything again would give."""

import pytest
import torch

from huiyan.core.errors import ConfigError, ShapeError
from huiyan.models.generate import generate_tokens, stream_tokens
from huiyan.models.generation_config import GenerationConfig
from huiyan.models.lstm import LSTMLanguageModel
from huiyan.models.segment_config import LSTMConfig, TransformerXLConfig
from huiyan.models.segment_writer import RecurrentMemory, RecurrentWriter
from huiyan.models.segments import SegmentModel
from huiyan.models.transformer_xl import TransformerXL

PROMPT = [3, 1, 4, 1, 5, 9, 2, 6]


def model_named(name: str) -> SegmentModel:
    torch.manual_seed(0)
    if name == "lstm":
        return LSTMLanguageModel(LSTMConfig(vocab_size=20, n_layers=2, width=16))
    more = {"cutoffs": (8, 14), "div_value": 2, "tied_projections": (False, True, True)} if name == "clusters" else {}
    model = TransformerXL(
        TransformerXLConfig(
            vocab_size=20,
            n_layers=2,
            width=16,
            n_heads=2,
            head_width=8,
            feed_forward_width=24,
            memory_length=12,
            **more,
        )
    )
    for parameter in model.parameters():  # from where texts differ
        torch.nn.init.normal_(parameter, std=0.4)
    return model


def logits_from_scratch(model: SegmentModel, ids: list[int]) -> torch.Tensor:
    model.eval()
    if isinstance(model, TransformerXL):
        model = model.with_other(same_length=True)
    with torch.no_grad():
        rows, _ = model(torch.tensor([ids]))
        return model.output.log_probabilities(rows[:, -1])[0]


@pytest.mark.parametrize("name", ["xl", "clusters", "lstm"])
def test_what_is_written_is_as_likely_as_reading_all_again_says(name: str) -> None:
    model = model_named(name)
    config = GenerationConfig(max_tokens=30, sample=True, seed=1)
    ((written,),) = generate_tokens(RecurrentWriter(model), [PROMPT], config)
    ids = list(PROMPT)
    for token, log_probability in zip(written.tokens, written.log_probabilities, strict=True):
        expected = logits_from_scratch(model, ids)
        assert log_probability == pytest.approx(float(expected[token]), abs=1e-5)
        ids.append(token)
    assert len(set(written.tokens)) > 1


@pytest.mark.parametrize("name", ["xl", "lstm"])
def test_beams_share_what_was_read(name: str) -> None:
    model = model_named(name)
    beams = generate_tokens(RecurrentWriter(model), [PROMPT], GenerationConfig(max_tokens=6, n_beams=4, n_best=4))[0]
    for one in beams:
        ids = list(PROMPT)
        for token, log_probability in zip(one.tokens, one.log_probabilities, strict=True):
            assert log_probability == pytest.approx(float(logits_from_scratch(model, ids)[token]), abs=1e-5)
            ids.append(token)


@pytest.mark.parametrize("name", ["xl", "lstm"])
def test_a_cache_goes_on_where_it_stopped(name: str) -> None:
    writer = RecurrentWriter(model_named(name))
    config = GenerationConfig(max_tokens=5)
    cache = writer.fresh_cache()
    first = [step.token for step in stream_tokens(writer, [PROMPT], config, cache=cache)]
    assert cache.longest == len(PROMPT) + 4
    second = [step.token for step in stream_tokens(writer, [[first[-1], 7]], config, cache=cache)]
    whole = [step.token for step in stream_tokens(writer, [[*PROMPT, *first, 7]], config)]
    assert second == whole


def test_memory_does_not_grow_with_the_text() -> None:
    for name in ("xl", "lstm"):
        writer, sizes = RecurrentWriter(model_named(name)), list[int]()
        for n in (40, 400):
            cache: RecurrentMemory = writer.fresh_cache()
            for _ in stream_tokens(writer, [PROMPT], GenerationConfig(max_tokens=n), cache=cache):
                pass
            sizes.append(cache.memory_bytes)
        assert sizes[0] == sizes[1] > 0


def test_what_cannot_write_so_is_refused() -> None:
    writer = RecurrentWriter(model_named("xl"))
    with pytest.raises(ShapeError, match="one length"):
        generate_tokens(writer, [PROMPT, PROMPT[:3]], GenerationConfig(max_tokens=2))
    both = generate_tokens(writer, [PROMPT, PROMPT[::-1]], GenerationConfig(max_tokens=4))
    alone = [generate_tokens(writer, [prompt], GenerationConfig(max_tokens=4))[0] for prompt in (PROMPT, PROMPT[::-1])]
    assert [one[0].tokens for one in both] == [one[0].tokens for one in alone]
    with pytest.raises(ConfigError, match="keeps no memory"):
        RecurrentWriter(
            TransformerXL(
                TransformerXLConfig(
                    vocab_size=9, n_layers=1, width=8, n_heads=2, head_width=4, feed_forward_width=8, memory_length=0
                )
            )
        )
