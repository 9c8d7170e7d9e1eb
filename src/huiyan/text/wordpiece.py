"""BERT's tokenizer from its vocabulary alone, for checkpoints older than tokenizer.json."""

from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from huiyan.core.errors import SourceError

UNKNOWN, START, END = "[UNK]", "[CLS]", "[SEP]"
SPECIAL = ("[PAD]", UNKNOWN, START, END, "[MASK]")


def wordpiece_from_vocabulary(path: Path, settings: dict[str, Any]) -> tokenizers.Tokenizer:
    """BERT's tokenizer: clean, split at spaces, punctuation and Han characters, then the longest pieces first.

    Source: Devlin et al. 2019 and its published ``tokenization.py``.

    Args:
        path: vocab.txt, one piece a line, its id the line's number from 0.
        settings: of tokenizer_config.json: ``do_lower_case``, ``strip_accents``, ``tokenize_chinese_chars``.
    Raises:
        SourceError: the vocabulary lacks a special token.
    """
    pieces = path.read_text(encoding="utf-8").split("\n")
    vocabulary = {piece.rstrip("\r"): i for i, piece in enumerate(pieces) if piece}
    missing = [token for token in (UNKNOWN, START, END) if token not in vocabulary]
    if missing:
        raise SourceError(f"{path} is not a WordPiece vocabulary: it has no {', '.join(missing)}.")
    backend = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token=UNKNOWN, max_input_chars_per_word=100))
    backend.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=settings.get("tokenize_chinese_chars", True),
        strip_accents=settings.get("strip_accents"),
        lowercase=settings.get("do_lower_case", True),
    )
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece(prefix="##")
    backend.post_processor = processors.TemplateProcessing(
        single=f"{START}:0 $A:0 {END}:0",
        pair=f"{START}:0 $A:0 {END}:0 $B:1 {END}:1",
        special_tokens=[(token, vocabulary[token]) for token in (START, END)],
    )
    backend.add_special_tokens([token for token in SPECIAL if token in vocabulary])
    return backend
