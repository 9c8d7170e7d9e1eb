"""SentencePiece files for tests, trained by SentencePiece itself on two pages that stay as they are."""

from pathlib import Path

import sentencepiece

_DATA = Path(__file__).parent / "data"
ENGLISH = (_DATA / "english.txt").read_text(encoding="utf-8")
CHINESE = (_DATA / "chinese.txt").read_text(encoding="utf-8")


def train_pieces(path: Path, text: str, **options: object) -> sentencepiece.SentencePieceProcessor:
    """A small model of a text's lines, at this path."""
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(line.strip() for line in text.splitlines() if line.strip()),
        model_prefix=str(path.with_suffix(".x")),
        **{"vocab_size": 1000, "minloglevel": 2, "num_threads": 1, "character_coverage": 0.98, **options},
    )
    path.with_suffix(".x.model").rename(path)
    path.with_suffix(".x.vocab").unlink()
    return sentencepiece.SentencePieceProcessor(model_file=str(path))
