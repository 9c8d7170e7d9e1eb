"""Hiding words, and learning to guess them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from huiyan.core.errors import DataError
from huiyan.data.token_file import Encoded, TokenFile, write_token_files
from huiyan.models.config import TransformerConfig
from huiyan.models.masked import fresh_masked_model
from huiyan.tasks.masked import Frame, MaskedObjective, hide_words
from huiyan.text.learn import learn_tokenizer

MASK, VOCABULARY = 4, 50
BEGINS = np.array([True, False, True, True, False, False, True, True, False, True] * 10)


def test_whole_words_are_hidden() -> None:
    ids, words = np.arange(10, 110) % 40 + 5, np.cumsum(BEGINS)
    seen, whole = np.zeros(3), True
    for seed in range(200):
        generator = np.random.default_rng(seed)
        masked = hide_words(ids, BEGINS, mask_id=MASK, vocab_size=VOCABULARY, generator=generator)
        assert 13 <= len(masked.places) <= 15
        assert np.array_equal(masked.targets, ids[masked.places])
        others = np.setdiff1d(np.arange(100), masked.places)
        assert np.array_equal(masked.ids[others], ids[others])
        hidden = masked.ids[masked.places]
        seen += [(hidden == MASK).sum(), (hidden == masked.targets).sum(), len(hidden)]
        whole &= set(words[masked.places]).isdisjoint(words[others])
    assert whole
    assert seen[0] / seen[2] == pytest.approx(0.8, abs=0.03)
    assert seen[1] / seen[2] == pytest.approx(0.1 + 0.1 / VOCABULARY, abs=0.02)


def test_a_word_longer_than_all_that_may_be_hidden_gives_some_of_its_tokens() -> None:
    begins = np.array([True] + [False] * 19)
    generator = np.random.default_rng(0)
    masked = hide_words(np.arange(20), begins, mask_id=MASK, vocab_size=VOCABULARY, generator=generator)
    assert len(masked.places) == 3


def token_file(path: Path, *, marked: bool = True) -> TokenFile:
    ids = np.random.default_rng(0).integers(5, VOCABULARY, 500)
    begins = np.resize(BEGINS, 500)

    def encode(texts: list[str]) -> Sequence[Encoded]:
        return [Encoded(ids.tolist(), begins if marked else None) for _ in texts]

    write_token_files([path], [(0, "text")], encode, vocab_size=VOCABULARY, unknown_id=None)
    return TokenFile(path)


def objective(path: Path, *, number: int = 0, count: int = 1, marked: bool = True) -> MaskedObjective:
    config = TransformerConfig(
        family="bert", vocab_size=VOCABULARY, width=16, embedding_width=16, n_layers=2, n_layer_groups=2, n_heads=2,
        feed_forward_width=32, n_positions=32,
    )  # fmt: skip
    text = token_file(path, marked=marked)
    frame = Frame((2,), (3,), MASK)
    return MaskedObjective(
        fresh_masked_model(config, seed=0).eval(), text, frame, row_length=32, seed=0, number=number, count=count
    )


def test_rows_cover_the_text_and_masks_change_with_the_epoch(tmp_path: Path) -> None:
    one = objective(tmp_path / "tokens")
    assert sum(one.lengths) == 500 + 2 * len(one.lengths)
    rows = one.batches(0, batch_tokens=64, seed=0)[0]
    first = float(one.loss_sum(rows).detach())
    assert first == float(one.loss_sum(rows).detach())
    assert one.loss_weight(rows) == sum(round(0.15 * (one.lengths[row] - 2)) for row in rows)
    judged = one.judge(batch_tokens=128)
    one.batches(1, batch_tokens=64, seed=0)
    assert first != float(one.loss_sum(rows).detach())
    assert one.judge(batch_tokens=128) == judged
    assert judged[2] == sum(max(1, round(0.15 * (length - 2))) for length in one.lengths)
    both = [objective(tmp_path / "tokens", number=number, count=2) for number in (0, 1)]
    assert sum(len(own.lengths) for own in both) in (len(one.lengths), len(one.lengths) - 1)
    torch.testing.assert_close(
        float(both[1].loss_sum([0]).detach()), float(objective(tmp_path / "tokens").loss_sum([1]).detach())
    )
    with pytest.raises(DataError, match="not marked"):
        objective(tmp_path / "other", marked=False)


def test_tokens_know_which_of_them_begin_a_word() -> None:
    text = "Attention 模型看见世界 learns, well-known!\n"
    tokenizer = learn_tokenizer("chars", [text], framed=True)
    ((ids, begins),) = tokenizer.encode_words([text])
    spelled = "".join("|" * bool(begin) + tokenizer.decode([token]) for token, begin in zip(ids, begins, strict=True))
    assert spelled == "|Attention| |模型|看见|世界| |learns|,| |well-known|!|\n"
    pieces = learn_tokenizer("bpe", [text * 9], framed=True, vocab_size=280)
    ((ids, begins),) = pieces.encode_words([text])
    assert begins[0] and 6 < begins.sum() < len(ids)
    assert (tokenizer.mask_id, tokenizer.frame) == (4, ([2], [3]))
