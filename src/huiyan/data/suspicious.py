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
    """How many texts are suspicious in one way, and the first of them by row."""

    kind: str
    count: int
    rows: list[int]


def suspicious_texts(texts: Sequence[str], *, examples: int = 5) -> list[Suspicious]:
    """What texts look damaged, the most frequent kind first; a text counts once for each kind."""
    counts: Counter[str] = Counter()
    rows: dict[str, list[int]] = {kind: [] for kind in KINDS}
    for row, text in enumerate(texts):
        if _PATTERN.search(text) is None:
            continue
        for kind in {match.lastgroup for match in _PATTERN.finditer(text) if match.lastgroup}:
            counts[kind] += 1
            if len(rows[kind]) < examples:
                rows[kind].append(row)
    return [Suspicious(kind, count, rows[kind]) for kind, count in counts.most_common()]
