"""What `benchmarks/speed.py` measures on is what its page says."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from huiyan.text.tokenise import Tokenizer

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


@pytest.fixture
def speed(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import speed

    yield speed
    sys.modules.pop("speed")


def padding(lengths: np.ndarray) -> float:
    """Tokens after padding 32 at a time to the longest, over tokens."""
    batches = [lengths[start : start + 32] for start in range(0, len(lengths), 32)]
    return sum(len(batch) * batch.max() for batch in batches) / lengths.sum()


def test_lengths_are_as_uneven_as_the_page_says(speed: ModuleType) -> None:
    lengths = np.array(speed.lengths_of(1000))
    assert lengths.min() >= 8 and lengths.max() <= 512
    assert lengths.mean() == pytest.approx(66, abs=1)
    assert padding(lengths) == pytest.approx(3.9, abs=0.1)
    assert padding(np.sort(lengths)) == pytest.approx(1.1, abs=0.05)


def test_a_text_has_the_tokens_that_are_asked_for(speed: ModuleType, minilm_folder: Path) -> None:
    tokenizer = Tokenizer.from_folder(minilm_folder)
    texts = speed.texts_of(tokenizer, [8, 33, 400])
    assert [len(ids) for ids in tokenizer.encode_batch(texts, max_length=512)] == [8, 33, 400]


def test_a_ratio_is_the_median_over_the_rounds(speed: ModuleType) -> None:
    rows = [("a", [1.0, 2.0, 10.0]), ("b", [2.0, 6.0, 1.0])]
    result = {"rows": [{"engine": name, "precision": "fp32", "seconds": taken} for name, taken in rows]}
    assert speed.ratio(result, ("a", "fp32"), ("b", "fp32")) == 2.0
