"""Which script a text is written in."""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache

# Unicode 16: CJK Unified Ideographs with extension A, compatibility ideographs, and the planes given to Han alone.
_HAN = ((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF))


def is_han(character: str) -> bool:
    """Whether a character is a Han ideograph."""
    point = ord(character)
    return any(low <= point <= high for low, high in _HAN)


def han_share(texts: Iterable[str]) -> float:
    """The share of letters in ``texts`` that are Han ideographs, from 0 to 1; 0 where there is no letter."""
    letters = han = 0
    for text in texts:
        if text.isascii():
            letters += sum(map(str.isalpha, text))
            continue
        alphabetic = [character for character in text if character.isalpha()]
        letters += len(alphabetic)
        han += sum(map(is_han, alphabetic))
    return han / letters if letters else 0.0


def mostly_han(texts: Sequence[str]) -> bool:
    """Whether texts are to be treated as Chinese: over 30 % of the letters in the first 2,000 are Han."""
    return han_share(texts[:2000]) > 0.3


def script_shares(texts: Iterable[str]) -> dict[str, float]:
    """The share of the letters in ``texts`` that each script has, the most frequent first; empty without letters."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(character for character in text if character.isalpha())
    scripts: Counter[str] = Counter()
    for character, count in counts.items():
        scripts[script_of(character)] += count
    return {script: count / scripts.total() for script, count in scripts.most_common()}


@lru_cache(maxsize=4096)
def script_of(letter: str) -> str:
    """The script of a letter, as Unicode names it: "Latin", "Han", "Hiragana", "Cyrillic"."""
    if is_han(letter):
        return "Han"
    # The first word of a letter's name is its script, but for full-width and mathematical forms of Latin letters.
    name = unicodedata.name(unicodedata.normalize("NFKC", letter)[:1] or letter, "unknown")
    return name.split(" ")[0].partition("-")[0].capitalize()
