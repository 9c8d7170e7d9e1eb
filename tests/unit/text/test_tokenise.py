"""Our tokenizer on small vocabularies of its own; ``tests/parity`` holds it against `transformers`."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from tokenizers import models, pre_tokenizers, processors

from huiyan.core.errors import ConfigError, SourceError
from huiyan.core.texts import PairTokens
from huiyan.text.tokenise import Tokenizer

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "b", "c"]
NAMES = {"pad_token": "[PAD]", "unk_token": "[UNK]"}


def backend() -> tokenizers.Tokenizer:
    made = tokenizers.Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return made


def folder_with(tmp_path: Path, settings: dict[str, Any], made: tokenizers.Tokenizer | None = None) -> Path:
    (made or backend()).save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    return tmp_path


def test_special_tokens_stand_around_every_text() -> None:
    assert Tokenizer(backend()).encode_batch(["a b", "", "zzz"], max_length=9) == [[2, 4, 5, 3], [2, 3], [2, 1, 3]]


@pytest.mark.parametrize(("length", "ids"), [(3, [2, 4, 3]), (4, [2, 4, 5, 3]), (5, [2, 4, 5, 6, 3])])
def test_cutting_is_at_the_right_and_keeps_the_special_tokens(length: int, ids: list[int]) -> None:
    tokenizer = Tokenizer(backend())
    assert tokenizer.encode_batch(["a b c"], max_length=length) == [ids]
    assert tokenizer.count_tokens(["a b c", ""]) == [5, 2]


def test_no_room_for_a_token_is_an_error() -> None:
    with pytest.raises(ConfigError, match="max_length option must be at least 3.* Got 2 instead"):
        Tokenizer(backend()).encode_batch(["a"], max_length=2)


def test_padding_and_cutting_baked_into_the_file_are_switched_off(tmp_path: Path) -> None:
    baked = backend()
    baked.enable_padding(length=8)
    baked.enable_truncation(3)
    tokenizer = Tokenizer.from_folder(folder_with(tmp_path, NAMES, baked))
    assert tokenizer.encode_batch(["a b c", "a"], max_length=99) == [[2, 4, 5, 6, 3], [2, 4, 3]]
    tokenizer.save(tmp_path / "again")
    saved = json.loads((tmp_path / "again" / "tokenizer.json").read_text(encoding="utf-8"))
    assert saved["padding"] is None
    assert saved["truncation"] is None


def test_a_tokenizer_without_special_tokens() -> None:
    bare = backend()
    bare.post_processor = processors.TemplateProcessing(single="$A", pair="$A $B", special_tokens=[])
    assert Tokenizer(bare).encode_batch(["a b", ""], max_length=1) == [[4], []]


def test_half_a_surrogate_pair_does_not_stop_a_batch() -> None:
    assert Tokenizer(backend()).encode_batch(["a \ud800", "b"], max_length=9) == [[2, 4, 1, 3], [2, 5, 3]]


def test_ids_by_their_role(tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_folder(folder_with(tmp_path, {"pad_token": {"content": "[PAD]", "lstrip": False}}))
    # What stands for the unknown is known to the tokenizer's model where the settings do not say it.
    assert (tokenizer.pad_id, tokenizer.unknown_id, tokenizer.vocab_size) == (0, 1, 7)
    (tmp_path / "special_tokens_map.json").write_text(json.dumps({"unk_token": "b", "pad_token": "a"}))
    tokenizer = Tokenizer.from_folder(tmp_path)
    assert (tokenizer.pad_id, tokenizer.unknown_id) == (0, 5)


@pytest.mark.parametrize(
    ("written", "length"), [(512, 512), (1e30, None), (1000000000000000019884624838656, None), (None, None), (0, None)]
)
def test_only_a_sane_maximum_length_counts(tmp_path: Path, written: float | None, length: int | None) -> None:
    settings = NAMES if written is None else {**NAMES, "model_max_length": written}
    tokenizer = Tokenizer.from_folder(folder_with(tmp_path, settings))
    assert tokenizer.max_length == length
    tokenizer.save(tmp_path / "again")
    assert Tokenizer.from_folder(tmp_path / "again").max_length == length


def test_what_is_saved_reads_the_same(tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_folder(folder_with(tmp_path, {**NAMES, "auto_map": {"AutoTokenizer": "x.py"}}))
    tokenizer.save(tmp_path / "again")
    again = Tokenizer.from_folder(tmp_path / "again")
    assert again.encode_batch(["a zzz b"], max_length=4) == tokenizer.encode_batch(["a zzz b"], max_length=4)
    assert (again.pad_id, again.unknown_id) == (0, 1)
    settings = json.loads((tmp_path / "again" / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert settings == {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
        "unk_token": "[UNK]",
        "pad_token": "[PAD]",
    }


@pytest.mark.parametrize("settings", [{"tokenizer_class": "DistilBertTokenizer"}, {"model_input_names": ["input_ids"]}])
def test_token_types_are_not_asked_of_models_that_take_none(tmp_path: Path, settings: dict[str, Any]) -> None:
    Tokenizer.from_folder(folder_with(tmp_path, settings)).save(tmp_path / "again")
    saved = json.loads((tmp_path / "again" / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert "token_type_ids" not in saved["model_input_names"]


def test_a_vocabulary_alone_will_do(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS), encoding="utf-8")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": True}))
    assert Tokenizer.from_folder(tmp_path).encode_batch(["A b"], max_length=9) == [[2, 4, 5, 3]]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "no tokenizer.json, and none of vocab.txt.* save_pretrained"),
        ({"tokenizer.json": "{"}, "tokenizer.json is not a tokenizer"),
        ({"vocab.txt": "[UNK]\n[CLS]\n[SEP]\na", "tokenizer_config.json": "["}, "tokenizer_config.json is not JSON"),
        ({"vocab.txt": "[UNK]\n[CLS]\n[SEP]\na", "special_tokens_map.json": "[]"}, "hold an object. Got a list"),
    ],
    ids=["nothing", "broken tokenizer", "broken settings", "settings of another kind"],
)
def test_broken_folders_are_named(tmp_path: Path, files: dict[str, str], message: str) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(SourceError, match=message):
        Tokenizer.from_folder(tmp_path)


def test_a_tokenizer_that_knows_no_letter_is_refused() -> None:
    with pytest.raises(SourceError, match="no token for any letter"):
        Tokenizer(tokenizers.Tokenizer(models.BPE()))


def test_threads_share_one_tokenizer() -> None:
    """Every call cuts at its own length, whatever the others do."""
    tokenizer = Tokenizer(backend())
    lengths = [3, 4, 5, 6] * 100
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda length: tokenizer.encode_batch(["a b c a"], max_length=length), lengths))
    assert [len(ids[0]) for ids in results] == lengths


@pytest.mark.parametrize(
    ("length", "ids", "second"),
    [
        (20, [2, 4, 5, 3, 6, 6, 6, 6, 3], 4),
        (8, [2, 4, 5, 3, 6, 6, 6, 3], 4),
        (7, [2, 4, 5, 3, 6, 6, 3], 4),
        (6, [2, 4, 3, 6, 6, 3], 3),
        (5, [2, 4, 3, 6, 3], 3),
    ],
)
def test_two_texts_are_joined_with_types_and_the_longer_gives_way(length: int, ids: list[int], second: int) -> None:
    (joined,) = Tokenizer(backend()).encode_batch([("a b", "c c c c")], max_length=length)
    assert joined == ids
    assert isinstance(joined, PairTokens)
    assert joined.second == second
    (turned,) = Tokenizer(backend()).encode_batch([("c c c c", "a b")], max_length=length)
    assert sorted(turned) == sorted(ids)


def test_two_texts_need_room_for_a_token_of_each() -> None:
    with pytest.raises(ConfigError, match="at least 5, a token of each text beside the 3 special ones"):
        Tokenizer(backend()).encode_batch([("a", "b")], max_length=4)


def test_two_texts_are_counted_together() -> None:
    assert Tokenizer(backend()).count_tokens([("a b", "c"), ("a", "")]) == [6, 4]


def test_without_types_two_texts_are_plain_ids() -> None:
    made = backend()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    (joined,) = Tokenizer(made).encode_batch([("a", "b")], max_length=9)
    assert joined == [2, 4, 3, 3, 5, 3]
    assert not isinstance(joined, PairTokens)
