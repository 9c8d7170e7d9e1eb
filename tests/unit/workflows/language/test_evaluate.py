"""A language model on text: in how many streams it is read."""

from pathlib import Path

import pytest

from huiyan.core.errors import ConfigError
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
