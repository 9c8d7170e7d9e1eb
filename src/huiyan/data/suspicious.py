"""Texts that went wrong on their way into the table: decoded with the wrong encoding, escaped twice, cut in a byte."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

KINDS = {
    "replacement": "holds U+FFFD, which stands where bytes could not be decoded",
    "mojibake": "looks like UTF-8 that was decoded as Latin-1 or GBK",
    "control": "holds control characters",
    "entities": "holds HTML entities or tags",
    "half": "holds half a character (a lone surrogate)",
}
"""What may be wrong with a text, and how that is said."""
_PATTERN = re.compile(
    "(?P<replacement>\N{REPLACEMENT CHARACTER})"
    # UTF-8 read as Latin-1 or Windows-1252: a lead byte as a letter, a continuation byte as a sign. UTF-8 read as GBK:
    # the replacement character's own bytes, over and over.
    "|(?P<mojibake>[\xc2\xc3\xc5][\x80-\xbf]|\xe2\u20ac[\u2122\u0153\x9d\u201c\u201d\u02dc\xa6]|\xef\xbb\xbf|锟斤拷|烫烫烫)"
    "|(?P<control>[\x00-\x08\x0b\x0c\x0e-\x1f\x7f])"
    "|(?P<entities>&(?:amp|lt|gt|quot|nbsp|#\\d{2,5}|#x[0-9a-fA-F]{2,4});|</?(?:p|br|div|span|a|b|i|li|ul|img)\\b[^>]{0,200}>)"
    "|(?P<half>[\ud800-\udfff])"
)


@dataclass(frozen=True, slots=True)
class Suspicious:
    """How many texts are suspicious in one way; of the first of them row, and place of the damage in the text."""

    kind: str
    count: int
    places: list[tuple[int, int]]


def suspicious_texts(texts: Sequence[str], *, examples: int = 5) -> list[Suspicious]:
    """What texts look damaged, the most frequent kind first; a text counts once for each kind."""
    counts: Counter[str] = Counter()
    places: dict[str, list[tuple[int, int]]] = {kind: [] for kind in KINDS}
    for row, text in enumerate(texts):
        if _PATTERN.search(text) is None:
            continue
        first = {match.lastgroup: match.start() for match in reversed([*_PATTERN.finditer(text)]) if match.lastgroup}
        for kind, place in first.items():
            counts[kind] += 1
            if len(places[kind]) < examples:
                places[kind].append((row, place))
    return [Suspicious(kind, count, places[kind]) for kind, count in counts.most_common()]
