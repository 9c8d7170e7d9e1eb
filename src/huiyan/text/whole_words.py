"""Words as they stand between spaces, and the end of a line as one of them: the text of many benchmarks."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers

from huiyan.core.errors import SourceError


def whole_words(vocabulary: Mapping[str, int], *, unknown: str, end_of_line: str) -> tokenizers.Tokenizer:
    """A tokenizer of words.

    Args:
        vocabulary: words → ids.
        unknown: stands for every word that is not among them.
        end_of_line: stands for the end of a line.
    """
    backend = tokenizers.Tokenizer(models.WordLevel(dict(vocabulary), unk_token=unknown))
    backend.normalizer = normalizers.Replace("\n", f" {end_of_line} ")
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    # No word begins with the prefix, so that a space stands between all; then the ends of lines are put right.
    joined = (decoders.WordPiece(prefix="\0", cleanup=False), decoders.Fuse())
    ends = (f" {end_of_line} ", f" {end_of_line}", f"{end_of_line} ", end_of_line)
    backend.decoder = decoders.Sequence([*joined, *(decoders.Replace(end, "\n") for end in ends)])
    return backend


def words_of_file(path: Path) -> Sequence[str]:
    """The first word of every line: a vocabulary in plain text, with or without counts behind the words.

    Raises:
        SourceError: a line is empty, a word stands twice, or it is not UTF-8.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{path} cannot be read as UTF-8: {error}.", hint="Fetch the model again.") from error
    lines = lines[:-1] if lines and not lines[-1] else lines
    words = [line.split()[0] if line.split() else "" for line in lines]
    if not words or "" in words or len(set(words)) < len(words):
        raise SourceError(f"{path} must have a word on every line, each once.", hint="Fetch the model again.")
    return words
