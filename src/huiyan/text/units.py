"""What a token can be. Imports nothing heavy."""

from typing import Literal, get_args

Unit = Literal["bytes", "chars", "words", "bpe", "unigram"]
UNITS = get_args(Unit)
