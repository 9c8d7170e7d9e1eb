"""Which encoding a text file is in: a mark at its start, or strict UTF-8, or the candidate that reads most naturally.

A byte-order mark decides. Next comes strict UTF-8, which other encodings pass by accident only. Otherwise each
candidate that decodes is scored by how much of the text falls on common characters; the winner and the runner-up are
reported. UTF-8 with a few damaged places stays UTF-8: only the rows with the damage are lost then.
"""

import codecs
import re
from dataclasses import dataclass

from huiyan.core.errors import EncodingError
from huiyan.data.characters import COMMON, COMMON_WESTERN

SAMPLE_BYTES = 2**20
"""Bytes looked at to guess an encoding."""

# UTF-32 before UTF-16: its little-endian mark begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (b"\x84\x31\x95\x33", "gb18030"),
)
# cp950 and big5hkscs are Big5 with more characters: the plain one wins when all read the same.
_CANDIDATES = ("gb18030", "big5", "cp950", "big5hkscs", "utf-16-le", "utf-16-be")
_SUPERSETS = {"gb2312": "gb18030", "gbk": "gb18030", "cp936": "gb18030"}

# What Python puts in the place of bytes that do not decode.
_DAMAGE = "\ufffd"
_ABOVE_ASCII = re.compile(r"[^\x00-\x7f]+")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")
_SCORED_CHARACTERS = 100_000
# Right decodings score 0.6 to 0.9 (lists of foreign place names, the hardest, 0.4) and wrong ones below 0.2, of Korean
# and Russian too. Western tables differ in a few letters only, so there nearly all must be common.
_CONVINCING = 0.27
_CONVINCING_WESTERN = 0.9
_MAX_DAMAGED_SHARE = 0.02
_UTF8_VALID_PER_DAMAGED = 10
_WESTERN_EVIDENCE = 4


@dataclass(frozen=True)
class EncodingGuess:
    """An encoding, why it was chosen, and the one that came next (None when there was no contest)."""

    name: str
    reason: str
    runner_up: str | None = None


@dataclass(frozen=True)
class _Scored:
    name: str
    score: float
    text: str


def guess_encoding(sample: bytes) -> EncodingGuess:
    """The encoding of a text file, from its first bytes.

    Args:
        sample: the first bytes of the file, ``SAMPLE_BYTES`` or fewer; it may end within a character.
    Returns:
        A codec name for ``bytes.decode``, with the reason and the runner-up.
    """
    for mark, name in _MARKS:
        if sample.startswith(mark):
            return EncodingGuess(name, "the file begins with a byte-order mark")
    text = _decoded(sample, "utf-8")
    # UTF-16 of ASCII passes as UTF-8 full of NULs, which no real text has.
    if text is not None and "\0" not in text:
        return EncodingGuess("utf-8", "plain ASCII" if text.isascii() else "it is valid UTF-8")
    damaged, valid = _utf8_damage(sample)
    if damaged and valid >= _UTF8_VALID_PER_DAMAGED * damaged:
        return EncodingGuess("utf-8", f"nearly all of it is valid UTF-8 (damaged places near its start: {damaged})")
    return _most_natural(sample)


def named_encoding(name: str) -> EncodingGuess:
    """The encoding a user named, as a guess that leaves no doubt.

    Raises:
        EncodingError: no such text encoding is known.
    """
    try:
        known = codecs.lookup(name).name
        "a".encode(known)  # lookup also finds codecs that are not of text (hex, zlib)
    except (LookupError, ValueError):  # ValueError: a name with a NUL, or the codec "undefined"
        raise EncodingError(
            f"The encoding option must name a text encoding. Got {name!r} instead.",
            hint="Common ones are utf-8, gb18030, big5, utf-16, cp1252, shift_jis.",
        ) from None
    return EncodingGuess(_SUPERSETS.get(known, known), "it was asked for")


def _most_natural(sample: bytes) -> EncodingGuess:
    """The candidate that reads best of those that decode, or else of those that nearly do; or else damaged UTF-8."""
    best = None
    for errors in ("strict", "replace"):
        ranked = sorted(_scores(sample, errors), key=lambda found: -found.score)
        if ranked and ranked[0].score >= _CONVINCING:
            winner = ranked[0]
            reason = f"{winner.score:.0%} of its characters above ASCII are common ones"
            if errors == "replace":
                reason += f" (damaged places near its start: {winner.text.count(_DAMAGE)})"
            runner_up = next((found for found in ranked[1:] if found.text != winner.text), None)
            return EncodingGuess(winner.name, reason, _described(runner_up))
        best = best or next(iter(ranked), None)
    return EncodingGuess("utf-8", "it is not valid UTF-8, and no other encoding reads naturally", _described(best))


def _described(found: _Scored | None) -> str | None:
    return f"{found.name} ({found.score:.0%} common characters)" if found else None


def _scores(sample: bytes, errors: str) -> list[_Scored]:
    """Every candidate that decodes; with ``errors="replace"``, but for a few damaged places."""
    found: list[_Scored] = []
    for name in _CANDIDATES:
        text = _decoded(sample, name, errors)
        if text is not None and text.count(_DAMAGE) <= _MAX_DAMAGED_SHARE * _count_above_ascii(text):
            found.append(_Scored(name, _naturalness(text, COMMON), text))
    text = _decoded(sample, "cp1252") if _looks_western(sample) else None
    score = _naturalness(text, COMMON_WESTERN) if text is not None else 0.0
    if text is not None and score >= _CONVINCING_WESTERN:
        found.append(_Scored("cp1252", score, text))
    return found


def _looks_western(sample: bytes) -> bool:
    """Whether the bytes above ASCII mostly stand alone among letters, as accents do; those of Chinese come in pairs.

    The western table decodes nearly anything, so it needs this evidence, and more of it than a damaged byte or two.
    """
    runs = re.findall(rb"[\x80-\xff]+", sample)
    n_alone = sum(len(run) == 1 for run in runs)
    return n_alone >= max(_WESTERN_EVIDENCE, 0.8 * len(runs))


def _naturalness(text: str, common: frozenset[str]) -> float:
    """The share of the characters above ASCII that are common, less the share of the text that is control characters.

    Clean text without any character above ASCII scores 1. A single one is no evidence (it may well be one damaged byte
    of English that swallowed a letter) and scores 0.
    """
    above = "".join(_ABOVE_ASCII.findall(text))
    if len(above) == 1 or not text:
        return 0.0
    scored = above[:_SCORED_CHARACTERS]
    share = sum(map(common.__contains__, scored)) / len(scored) if scored else 1.0
    return share - len(_CONTROL.findall(text)) / len(text)


def _count_above_ascii(text: str) -> int:
    return sum(map(len, _ABOVE_ASCII.findall(text)))


def _decoded(sample: bytes, encoding: str, errors: str = "strict") -> str | None:
    """The text, when the sample decodes; a character cut off at the end of the sample is no fault."""
    try:
        return codecs.getincrementaldecoder(encoding)(errors).decode(sample, final=False)
    except UnicodeDecodeError:
        return None


def _utf8_damage(sample: bytes) -> tuple[int, int]:
    """How many places of the sample are not UTF-8, and how many characters above ASCII are."""
    text = codecs.getincrementaldecoder("utf-8")("replace").decode(sample, final=False)
    damaged = text.count(_DAMAGE) - sample.count(_DAMAGE.encode())
    valid = _count_above_ascii(text) - text.count(_DAMAGE)
    return damaged, valid
