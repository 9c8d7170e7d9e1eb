"""Tokenizers of every kind that the families use, trained on a few lines, against `transformers`."""

import json
from pathlib import Path

import pytest
import transformers

from huiyan.core.packed import Packed
from huiyan.text.tokenise import Tokenizer

CORPUS = ["Hello world, the quick brown fox jumps!", "质量很好，物流慢。", "naïve café 3.14", "It's 'fine' ``ok''"] * 20
KINDS = {
    "bert": "BertTokenizer",
    "distilbert": "BertTokenizer",
    "electra": "BertTokenizer",
    "roberta": "RobertaTokenizer",
    "xlm-roberta": "XLMRobertaTokenizer",
    "albert": "AlbertTokenizer",
}
PIECES = [
    "Hello", " world", "quick", "fox!", "don't", "naïve", "Ünï", "质量", "很好，", "物流慢！", "ＦＵＬＬ　",
    "日本", "😀", "👩‍👩‍👧", "\t", "\n\n", "   ", "\u00a0", "\u200b", "\x00", "\x07", "\ufeff", "\u0301",
    "\ufb01", "İ", "[SEP]", "[CLS]", "<s>", " </s> ", "<mask>", "[MASK] ", "<pad>", "x" * 120, "3.14159", "``",
    "''", "—", "𠀀", "",
]  # fmt: skip


def mixed_texts() -> list[str]:
    """A thousand: text i strings together pieces at strides that i names."""
    chains = [[PIECES[(i * j + j * j) % len(PIECES)] for j in range(i % 23)] for i in range(994)]
    return ["", " ", "\n", "a", "</s>", "[SEP]", *("".join(chain) for chain in chains)]


@pytest.fixture(scope="module", params=KINDS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer trained and saved by `transformers`, with the config.json of its family."""
    folder = tmp_path_factory.mktemp(request.param)
    trained = getattr(transformers, KINDS[request.param])().train_new_from_iterator(
        CORPUS, vocab_size=320, show_progress=False
    )
    trained.save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps({"model_type": request.param}))
    return folder


@pytest.mark.parametrize("max_length", [10, 512])
def test_ids_are_theirs_before_and_after_saving(folder: Path, tmp_path: Path, max_length: int) -> None:
    texts = mixed_texts()
    ours = Tokenizer.from_folder(folder)
    ids = ours.encode_batch(texts, max_length=max_length)
    ours.save(tmp_path)
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    for place in (folder, tmp_path):
        theirs = transformers.AutoTokenizer.from_pretrained(place)
        assert theirs(texts, truncation=True, max_length=max_length)["input_ids"] == ids
        assert (theirs.pad_token_id, theirs.unk_token_id) == (ours.pad_id, ours.unknown_id)
    assert [min(n, max_length) for n in ours.count_tokens(texts)] == [len(sequence) for sequence in ids]


def test_pairs_have_token_types_after_saving_where_they_had(folder: Path, tmp_path: Path) -> None:
    """What a later task with two texts depends on."""
    Tokenizer.from_folder(folder).save(tmp_path)
    saved = transformers.AutoTokenizer.from_pretrained(tmp_path)("Hello", "world")
    expects_types = json.loads((folder / "config.json").read_text())["model_type"] not in ("roberta", "xlm-roberta")
    assert (1 in saved.get("token_type_ids", [])) is expects_types


@pytest.mark.parametrize("max_length", [8, 11, 64, 512])
def test_pairs_are_joined_typed_and_cut_as_theirs(folder: Path, max_length: int) -> None:
    texts = [text for text in mixed_texts() if text.strip()]
    pairs = [(first, second) for first, second in zip(texts, texts[7:] + texts[:7], strict=True)]
    ours = Tokenizer.from_folder(folder).encode_batch(pairs, max_length=max_length)
    theirs = transformers.AutoTokenizer.from_pretrained(folder)(
        *map(list, zip(*pairs, strict=True)), truncation=True, max_length=max_length, return_token_type_ids=True
    )
    assert theirs["input_ids"] == ours
    types = [Packed.from_lists([ids]).types for ids in ours]
    assert theirs["token_type_ids"] == [
        [0] * len(ids) if kinds is None else kinds.tolist() for ids, kinds in zip(ours, types, strict=True)
    ]
