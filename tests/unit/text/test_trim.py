"""A trimmed vocabulary gives the same pieces, with other numbers, for texts in the scripts that were kept."""

import json
from pathlib import Path
from random import Random

import pytest
import tokenizers
from tokenizers import models

from huiyan.core.errors import ConfigError
from huiyan.text.tokenise import Tokenizer
from huiyan.text.trim import trim_tokenizer
from huiyan.text.unigram import unigram_tokenizer

PIECES = [
    ("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁да", -3.0), ("▁", -2.0), ("д", -9.0), ("a", -3.0),
    ("▁ab", -4.5), ("好", -3.5), ("b", -4.0), ("ん", -5.0), ("1", -4.0), ("!", -4.0), ("a好", -6.0), ("한", -12.0),
]  # fmt: skip


def unigram() -> Tokenizer:
    backend = unigram_tokenizer(PIECES, {"！": "!"}, unknown="<unk>", begin="<s>", end="</s>")
    return Tokenizer(backend, {"unk_token": "<unk>", "pad_token": "<pad>"})


def test_the_same_pieces_for_texts_of_the_kept_scripts() -> None:
    before = unigram()
    after, kept = trim_tokenizer(before, ["Latin", "Han"])
    assert [PIECES[number][0] for number in kept] == [
        "<s>", "<pad>", "</s>", "<unk>", "▁", "a", "▁ab", "好", "b", "1", "!", "a好", "한",
    ]  # fmt: skip
    draw = Random(0)
    texts = ["".join(draw.choices("aabb好好1! ！z", k=draw.randint(1, 20))) for _ in range(500)]
    ids = after.encode_batch(texts, max_length=99)
    assert [[kept[number] for number in row] for row in ids] == before.encode_batch(texts, max_length=99)
    assert (after.pad_id, after.unknown_id, after.vocab_size) == (1, 3, len(kept))


def test_other_scripts_become_unknown() -> None:
    after, kept = trim_tokenizer(unigram(), ["Latin"])
    assert "好" not in [PIECES[number][0] for number in kept]
    assert after.encode_batch(["好 да", "ん"], max_length=9) == [[0, 4, 3, 4, 3, 2], [0, 4, 3, 2]]


def test_it_is_saved_and_read_like_any(tmp_path: Path) -> None:
    after, _ = trim_tokenizer(unigram(), ["Latin", "Han"])
    after.save(tmp_path)
    again = Tokenizer.from_folder(tmp_path)
    assert again.encode_batch(["ab 好"], max_length=9) == after.encode_batch(["ab 好"], max_length=9)


def test_the_real_vocabulary_of_minilm(minilm_folder: Path) -> None:
    before = Tokenizer.from_folder(minilm_folder)
    after, kept = trim_tokenizer(before, ["Latin"])
    assert 20_000 < len(kept) < before.vocab_size and kept[:1] == [0]
    texts = ["The dress was lovely, wasn't it?", "naïve façade №5 😀 1/2", "[MASK] tokens", "x" * 300]
    ids = after.encode_batch(texts, max_length=99)
    assert [[kept[number] for number in row] for row in ids] == before.encode_batch(texts, max_length=99)
    for token in json.loads(after.to_json())["added_tokens"]:
        assert token["content"] in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def test_pieces_of_bytes_have_no_script() -> None:
    with pytest.raises(ConfigError, match="kind BPE cannot be trimmed"):
        trim_tokenizer(Tokenizer(tokenizers.Tokenizer(models.BPE({"a": 0}, []))), ["Latin"])
