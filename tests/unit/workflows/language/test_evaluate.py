"""A language model on text: in how many streams it is read."""

import json
from pathlib import Path

import pytest

from huiyan.core.errors import ConfigError, HuiyanError, SourceError
from huiyan.models.families.registry import family_named
from huiyan.models.masked import fresh_masked_model, save_masked_model
from huiyan.models.segment_checkpoint import save_segment_model
from huiyan.text.learn import learn_tokenizer
from huiyan.workflows.language.config import LanguageOptions, ReadingConfig
from huiyan.workflows.language.evaluate import evaluate_language_model
from huiyan.workflows.language.models import fresh_model


@pytest.mark.parametrize(("asked", "n_tokens", "read"), [(None, 600, 2), (None, 4000, 8), (5, 600, 5), (50, 20, 19)])
def test_a_short_text_is_read_in_few_streams_unless_asked(
    asked: int | None, n_tokens: int, read: int, tmp_path: Path
) -> None:
    options = LanguageOptions(layers=1, width=8, heads=2, segment_length=16, memory_length=16)
    save_segment_model(fresh_model(options, 256, seed=0), tmp_path)
    learn_tokenizer("bytes", []).save(tmp_path)
    text = tmp_path / "text.txt"
    text.write_text("x" * (n_tokens - 1) + "\n")
    reading = ReadingConfig(segment_length=16, streams=asked, device="cpu")
    found = evaluate_language_model(tmp_path, [str(text)], reading)
    assert found["counts"]["tokens"] == n_tokens
    assert found["read"]["streams"] == read


def test_streams_are_one_or_more() -> None:
    with pytest.raises(ConfigError, match="streams"):
        ReadingConfig(streams=0)


def test_an_encoder_that_does_not_know_its_tokenizers_tokens_is_an_error(tmp_path: Path) -> None:
    values = {"vocab_size": 90, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = family_named("bert").read_encoder(values | {"model_type": "bert", "intermediate_size": 8})
    save_masked_model(fresh_masked_model(config, seed=0), tmp_path)
    text = tmp_path / "text.txt"
    text.write_text("one two three four five six seven\n" * 9)
    learn_tokenizer("bpe", [text.read_text()], vocab_size=300, framed=True).save(tmp_path)
    with pytest.raises(SourceError, match="knows 90 tokens, and its tokenizer"):
        evaluate_language_model(tmp_path, [str(text)], ReadingConfig(device="cpu"))


@pytest.mark.parametrize("kind", [["bert"], None, 3])
def test_a_strange_kind_of_model_is_an_error(kind: object, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
    with pytest.raises(HuiyanError, match="of the family"):
        evaluate_language_model(tmp_path, [str(tmp_path / "text.txt")])
