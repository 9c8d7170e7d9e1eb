"""What a model reads of a row: a text or two, their words, and the tokens of two. Imports no torch."""

from collections.abc import Iterable

Text = str | tuple[str, str]
"""A text, or two that are read together: a question and an answer, a premise and a hypothesis."""

# Written as numbers: most of them cannot be told apart, or seen.
SPACES = "\t\v\f \x85\xa0\u1680" + "".join(map(chr, range(0x2000, 0x200B))) + "\u2028\u2029\u202f\u205f\u3000"
"""Where tokenizers part the words of a line; Python's own spaces have U+001C to U+001F besides."""


def plain(text: Text) -> str:
    """A text as people and word counters read it: of two, one below the other."""
    return text if isinstance(text, str) else "\n".join(text)


class PairTokens(list[int]):
    """The token ids of two texts that are read together, for a model that tells them apart by token types.

    Args:
        ids: of both, special tokens included.
        second: where the tokens of the second begin.
    """

    def __init__(self, ids: Iterable[int], second: int) -> None:
        super().__init__(ids)
        self.second = second
