"""A Unigram tokenizer from its parts gives the ids of the algorithm, written out."""

from random import Random

import pytest
from tokenizers import normalizers

from huiyan.text.unigram import character_map, unigram_tokenizer

PIECES = [
    ("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0),
    ("▁", -2.0), ("▁a", -2.5), ("a", -3.0), ("b", -3.1), ("ab", -4.0), ("▁ab", -4.5), ("bb", -6.0), ("好", -3.5),
    ("好a", -5.0), ("!", -4.0), ("1", -4.5), ("▁1", -4.4), ("kg", -5.5),
]  # fmt: skip
REPLACED = {"Ａ": "a", "！": "!", "\t": " ", "\n": " ", "\u3000": " ", "㎏": "kg", "\u200b": "", "①": "1", "é": "a"}


def best_ids(text: str) -> list[int]:
    """The definition: replace, join runs of spaces, put one before; then the most probable pieces, by brute force."""
    text = "".join(REPLACED.get(character, character) for character in text)
    while "  " in text:
        text = text.replace("  ", " ")
    text = (text if text.startswith(" ") or not text else " " + text).replace(" ", "▁")
    id_of = {piece: number for number, (piece, _) in enumerate(PIECES)}
    unknown = min(score for _, score in PIECES) - 10
    best: list[tuple[float, list[int]]] = [(0.0, [])]
    for end in range(1, len(text) + 1):
        ways = [
            (best[begin][0] + PIECES[id_of[text[begin:end]]][1], [*best[begin][1], id_of[text[begin:end]]])
            for begin in range(end)
            if text[begin:end] in id_of and id_of[text[begin:end]] > 3
        ]
        ways.append((best[end - 1][0] + unknown, [*best[end - 1][1], 3]))
        best.append(max(ways, key=lambda way: way[0]))
    fused: list[int] = []
    for number in best[-1][1]:
        if not (number == 3 and fused and fused[-1] == 3):
            fused.append(number)
    return fused


def test_ids_are_those_of_the_most_probable_pieces() -> None:
    tokenizer = unigram_tokenizer(PIECES, REPLACED, unknown="<unk>", begin="<s>", end="</s>")
    draw = Random(0)
    letters = [*"aabb好好!1 x語", "  ", *REPLACED]
    for _ in range(2000):
        text = "".join(draw.choices(letters, k=draw.randint(1, 14)))
        assert tokenizer.encode(text).ids == [0, *best_ids(text), 2], repr(text)


def test_a_pair_is_framed_as_roberta_frames_it() -> None:
    tokenizer = unigram_tokenizer(PIECES, REPLACED, unknown="<unk>", begin="<s>", end="</s>")
    assert tokenizer.encode("a", "b").ids == [0, 5, 2, 2, 4, 7, 2]
    assert tokenizer.decode(tokenizer.encode("a ab").ids) == "a ab"


@pytest.mark.parametrize("n", [0, 1, 400, 5000])
def test_every_character_becomes_what_the_map_says(n: int) -> None:
    draw = Random(n)
    codes = draw.sample([*range(1, 0xD800), *range(0xE000, 0x3FFFF)], n)
    replaced = {
        chr(code): "".join(chr(draw.randrange(0x21, 0xD000)) for _ in range(draw.randint(0, 3))) for code in codes
    }
    normalizer = normalizers.Precompiled(character_map(replaced)) if n else None
    others = [chr(code) for code in draw.sample(range(0x4E00, 0x9FFF), 50)]
    for character in [*draw.sample(sorted(replaced), min(n, 500)), *others]:
        if normalizer is not None:
            assert normalizer.normalize_str(character) == replaced.get(character, character)
