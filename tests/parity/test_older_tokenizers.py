"""Tokenizers from files older than tokenizer.json, against SentencePiece itself and against `transformers`.

The files are written by the libraries themselves, trained on pages of this project.
"""

import json
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import transformers
from tests.pieces import CHINESE, ENGLISH, train_pieces

from huiyan.core.errors import SourceError
from huiyan.text.older_files import LAYOUTS
from huiyan.text.piece_file import Kind, read_pieces
from huiyan.text.tokenise import Tokenizer

# No text has two ways to be cut whose scores are equal, such as 0|00 and 00|0: SentencePiece, which adds in 32 bits,
# and `tokenizers`, in 64, may each take another (`transformers`' fast tokenizers have the same).
TEXTS = [
    "The quick brown fox doesn't jump over 13 lazy dogs.",
    "质量很好，物流慢！下次还会再来。",
    "mixed 中文 and English, naïve café Ünï",
    "  spaces   at  both ends  ",
    "ＦＵＬＬ width　and ﬁ ligatures①",
    "😀 emoji 👩‍👩‍👧 and 𠀀 rare",
    "tabs\tand\nlines\r\n\n twice",
    "x" * 120,
    "",
    " ",
    "a",
    "don't``quote''",
    "A — dash… and 3.14159, 1,240,567",
    "İstanbul ÀÉÎ ß",
    "\u200bzero\u00a0width\ufeff",
]


def train(path: Path, **options: object) -> sentencepiece.SentencePieceProcessor:
    """A small model of both languages, under this name."""
    return train_pieces(path, ENGLISH + CHINESE, **options)


def small_without_accents(text: str) -> str:
    """As ALBERT reads a text."""
    text = text.replace("``", '"').replace("''", '"')
    parts = unicodedata.normalize("NFKD", text)
    return "".join(part for part in parts if not unicodedata.combining(part)).lower()


T5 = {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1}
ROBERTA = {"unk_id": 0, "bos_id": 1, "eos_id": 2, "pad_id": -1}
LLAMA = {
    **ROBERTA,
    "model_type": "bpe",
    "byte_fallback": True,
    "split_digits": True,
    "normalization_rule_name": "identity",
    "remove_extra_whitespaces": False,
    "allow_whitespace_only_pieces": True,
}
ALBERT = {"pad_id": 0, "unk_id": 1, "bos_id": -1, "eos_id": -1, "control_symbols": ["[CLS]", "[SEP]", "[MASK]"]}
DEBERTA = {"pad_id": 0, "bos_id": 1, "eos_id": 2, "unk_id": 3, "pad_piece": "[PAD]", "bos_piece": "[CLS]"}
DEBERTA |= {"eos_piece": "[SEP]", "unk_piece": "[UNK]"}
Frame = Callable[[list[int]], list[int]]
FAMILIES: dict[str, tuple[str, dict[str, Any], Frame]] = {
    "t5": ("spiece.model", T5, lambda ids: [*ids, 1]),
    "mt5": ("spiece.model", T5, lambda ids: [*ids, 1]),
    "albert": ("spiece.model", ALBERT, lambda ids: [2, *ids, 3]),
    "xlm-roberta": (
        "sentencepiece.bpe.model",
        ROBERTA,
        lambda ids: [0, *(3 if one == 0 else one + 1 for one in ids), 2],
    ),
    "deberta-v2": ("spm.model", DEBERTA, lambda ids: [1, *ids, 2]),
    "llama": ("tokenizer.model", LLAMA, lambda ids: [1, *ids]),
    "mistral": ("tokenizer.model", LLAMA, lambda ids: [1, *ids]),
}
SETTINGS: dict[str, dict[str, Any]] = {"mt5": {"extra_ids": 0}, "llama": {"legacy": True}}


def write(folder: Path, family: str, settings: dict[str, Any] | None = None) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": family}))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings or {}))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_pieces_are_sentencepieces(family: str, tmp_path: Path) -> None:
    name, options, framed = FAMILIES[family]
    model = train(tmp_path / name, **options)
    write(tmp_path, family, SETTINGS.get(family))
    ours = Tokenizer.from_folder(tmp_path)
    texts = [small_without_accents(text) for text in TEXTS] if family == "albert" else TEXTS
    expected = [framed(model.encode(text)) for text in texts]
    found = ours.encode_batch(TEXTS, max_length=512)
    for text, wanted, got in zip(TEXTS, expected, found, strict=True):
        # Without "legacy" a space is put before a text only if none is there, as in `transformers` 5.
        assert got == wanted or (family == "mistral" and text.startswith(" ")), text
    text = "a table of texts, and how they are read"  # of pieces that are all known
    assert ours.decode(framed(model.encode(text))) == text


@pytest.mark.parametrize("family", FAMILIES)
def test_they_read_what_we_save(family: str, tmp_path: Path) -> None:
    name, options, _ = FAMILIES[family]
    train(tmp_path / name, **options)
    write(tmp_path, family, SETTINGS.get(family))
    ours = Tokenizer.from_folder(tmp_path)
    ours.save(tmp_path / "saved")
    again = Tokenizer.from_folder(tmp_path / "saved")
    theirs = transformers.PreTrainedTokenizerFast.from_pretrained(tmp_path / "saved")
    texts = [*TEXTS, "with a </s> inside", "<extra_id_0> and <extra_id_1>"]
    ids = ours.encode_batch(texts, max_length=512)
    assert again.encode_batch(texts, max_length=512) == ids
    assert theirs(texts)["input_ids"] == ids
    assert theirs.pad_token_id == ours.pad_id
    pairs = [("one text", "and another"), ("中文", "第二")]
    expected = theirs([first for first, _ in pairs], [second for _, second in pairs])["input_ids"]
    assert [list(one) for one in ours.encode_batch(pairs, max_length=64)] == expected


def test_spaces_taken_away_in_front_do_not_take_the_one_put_there(tmp_path: Path) -> None:
    # BPE with SentencePiece's own default of joining spaces, in the manner of newer Llamas.
    own = {**LLAMA, "normalization_rule_name": "nmt_nfkc", "remove_extra_whitespaces": True}
    pieces = train(tmp_path / "tokenizer.model", **own)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"legacy": False, "add_bos_token": False}))
    ours = Tokenizer.from_folder(tmp_path)
    texts = [*TEXTS, " x", "  two  spaces "]
    assert ours.encode_batch(texts, max_length=1000) == [pieces.encode(text) for text in texts]


def test_sentinels_count_down_behind_the_pieces(tmp_path: Path) -> None:
    train(tmp_path / "spiece.model", **T5)
    write(tmp_path, "t5")
    ours = Tokenizer.from_folder(tmp_path)
    (ids,) = ours.encode_batch(["<extra_id_0> a <extra_id_99>"], max_length=16)
    assert (ids[0], ids[-2], ours.vocab_size) == (1099, 1000, 1100)
    assert ours.end_id == 1


@pytest.mark.parametrize("family", ["gpt2", "roberta", "bart", "qwen2", "qwen3"])
@pytest.mark.parametrize("spaced", [False, True])
def test_merges_are_theirs(family: str, spaced: bool, tmp_path: Path) -> None:
    classes = {"gpt2": "GPT2Tokenizer", "qwen2": "Qwen2Tokenizer", "qwen3": "Qwen2Tokenizer"}
    lines = (ENGLISH + CHINESE).splitlines()
    theirs = getattr(transformers, classes.get(family, "RobertaTokenizer"))(add_prefix_space=spaced)
    theirs = theirs.train_new_from_iterator(lines, vocab_size=1200, show_progress=False)
    theirs.save_pretrained(tmp_path)
    model = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    (tmp_path / "vocab.json").write_text(json.dumps(model["vocab"]), encoding="utf-8")
    merges = "".join(f"{' '.join(pair)}\n" for pair in model["merges"])
    (tmp_path / "merges.txt").write_text(f"#version: 0.2\n{merges}", encoding="utf-8")
    (tmp_path / "tokenizer.json").unlink()
    write(tmp_path, family, {"add_prefix_space": spaced})
    ours = Tokenizer.from_folder(tmp_path)
    texts = [text for text in TEXTS if text.strip()]
    assert ours.encode_batch(texts, max_length=512) == theirs(texts)["input_ids"]
    if not spaced:
        assert ours.decode(ours.encode_batch([TEXTS[0]], max_length=99)[0]) == TEXTS[0]
    ours.save(tmp_path / "saved")
    again = transformers.PreTrainedTokenizerFast.from_pretrained(tmp_path / "saved")
    assert again(texts)["input_ids"] == theirs(texts)["input_ids"]


@pytest.mark.parametrize("settings", [{}, {"do_lower_case": False}, {"tokenize_chinese_chars": False}])
def test_words_of_a_vocabulary_are_theirs(settings: dict[str, bool], tmp_path: Path) -> None:
    lines = (ENGLISH + CHINESE).splitlines()
    learnt = transformers.BertTokenizer(**settings).train_new_from_iterator(lines, vocab_size=1200, show_progress=False)
    names = sorted(learnt.get_vocab(), key=learnt.get_vocab().__getitem__)
    (tmp_path / "vocab.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    write(tmp_path, "bert", settings)
    theirs = transformers.BertTokenizer(vocab=str(tmp_path / "vocab.txt"), **settings)
    assert Tokenizer.from_folder(tmp_path).encode_batch(TEXTS, max_length=512) == theirs(TEXTS)["input_ids"]


@pytest.fixture(scope="module")
def marian(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two files of pieces, and ids that they share in an order that is neither's."""
    folder = tmp_path_factory.mktemp("marian")
    options = {"unk_id": 0, "bos_id": -1, "eos_id": -1, "pad_id": -1}
    sides = [
        train(folder / name, **options, vocab_size=size) for name, size in (("source.spm", 700), ("target.spm", 1000))
    ]
    pieces = {side.id_to_piece(number) for side in sides for number in range(side.get_piece_size())} - {"<unk>"}
    names = ["</s>", "<unk>", *sorted(pieces, reverse=True), ">>fra<<", "<pad>"]
    (folder / "vocab.json").write_text(json.dumps({piece: number for number, piece in enumerate(names)}))
    write(folder, "marian")
    return folder


@pytest.mark.parametrize("target", [False, True])
def test_a_translator_has_a_tokenizer_for_each_language(marian: Path, target: bool) -> None:
    ours = Tokenizer.from_folder(marian, target=target)
    name = "target.spm" if target else "source.spm"
    model = sentencepiece.SentencePieceProcessor(model_file=str(marian / name))
    ids = json.loads((marian / "vocab.json").read_text())
    for text in TEXTS:
        known = model.encode(text, out_type=str)
        wanted = [ids[piece] if model.piece_to_id(piece) else ids["<unk>"] for piece in known]
        assert ours.encode_batch([text], max_length=512)[0] == [*wanted, 0], text
    with pytest.warns(UserWarning, match="sacremoses"):  # which they recommend, and do not use to cut a text
        theirs = transformers.MarianTokenizer.from_pretrained(marian)
    assert (
        ours.encode_batch([TEXTS[0]], max_length=512)[0][:-1]
        == (theirs(text_target=TEXTS[0]) if target else theirs(TEXTS[0]))["input_ids"][:-1]
    )
    text = ">>fra<< The quick brown fox"
    assert ours.encode_batch([text], max_length=99)[0][0] == ids[">>fra<<"]
    assert (ours.pad_id, ours.end_id) == (ids["<pad>"], 0)
    # What only the other side has keeps its name when it is written.
    assert ours.decode(list(range(len(ids)))).count("\U0010ffff") == 0


def test_a_file_is_told_from_what_is_none(tmp_path: Path) -> None:
    train(tmp_path / "spiece.model", **T5)
    write(tmp_path, "t5")
    path = tmp_path / "spiece.model"
    file = read_pieces(path)
    assert len(file.pieces) == 1000
    assert file.of_kind(Kind.CONTROL) == ["<pad>", "</s>"]
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"not a model", b"\xff" * 40, b"", b"\x0a\x05hello"):
        path.write_bytes(damaged)
        with pytest.raises(SourceError, match="is not a SentencePiece model"):
            Tokenizer.from_folder(tmp_path)


@pytest.mark.parametrize("kind", ["word", "char"])
def test_other_kinds_are_refused(kind: str, tmp_path: Path) -> None:
    train(tmp_path / "spiece.model", **T5, model_type=kind, **({"vocab_size": 300} if kind == "char" else {}))
    write(tmp_path, "t5")
    with pytest.raises(SourceError, match="Unigram and BPE are read"):
        Tokenizer.from_folder(tmp_path)


def test_an_unknown_family_is_told(tmp_path: Path) -> None:
    train(tmp_path / "spiece.model", **T5)
    write(tmp_path, "reformer")
    with pytest.raises(SourceError, match=r"'reformer'.*not known. Known are albert, bart"):
        Tokenizer.from_folder(tmp_path)
    (tmp_path / "config.json").unlink()
    write(tmp_path, "", {"tokenizer_class": "T5TokenizerFast"})
    assert Tokenizer.from_folder(tmp_path).end_id == 1
    assert set(FAMILIES) | {"marian", "gpt2", "roberta", "bart", "qwen2", "qwen3"} == set(LAYOUTS)
