from pathlib import Path

import pytest

from huiyan.core.errors import SourceError
from huiyan.text.wordpiece import wordpiece_from_vocabulary

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "cafe", "Café", "##s", "好", ",", "un", "##able"]


@pytest.fixture
def vocabulary(tmp_path: Path) -> Path:
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(PIECES) + "\n", encoding="utf-8")
    return path


def tokens(vocabulary: Path, text: str, **settings: object) -> list[str]:
    return wordpiece_from_vocabulary(vocabulary, settings).encode(text).tokens


def test_longest_pieces_first_and_one_token_for_the_unknown(vocabulary: Path) -> None:
    assert tokens(vocabulary, "unable cafes, zzz") == [
        "[CLS]", "un", "##able", "cafe", "##s", ",", "[UNK]", "[SEP]",
    ]  # fmt: skip


def test_lower_casing_is_the_settings_word(vocabulary: Path) -> None:
    assert tokens(vocabulary, "Café")[1:-1] == ["cafe"]
    assert tokens(vocabulary, "Café", do_lower_case=False)[1:-1] == ["Café"]
    assert tokens(vocabulary, "Café", strip_accents=False)[1:-1] == ["[UNK]"]


def test_han_characters_stand_alone_unless_told_otherwise(vocabulary: Path) -> None:
    assert tokens(vocabulary, "好好")[1:-1] == ["好", "好"]
    assert tokens(vocabulary, "好好", tokenize_chinese_chars=False)[1:-1] == ["[UNK]"]


def test_special_tokens_in_a_text_are_themselves(vocabulary: Path) -> None:
    assert tokens(vocabulary, "cafe [MASK]")[1:-1] == ["cafe", "[MASK]"]


def test_lines_may_end_in_carriage_returns(vocabulary: Path, tmp_path: Path) -> None:
    windows = tmp_path / "windows.txt"
    windows.write_bytes("\r\n".join(PIECES).encode())
    assert tokens(windows, "cafe") == tokens(vocabulary, "cafe")


def test_a_list_of_anything_is_no_vocabulary(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("a\nb\n[CLS]\n")
    with pytest.raises(SourceError, match=r"no \[UNK\], \[SEP\]"):
        wordpiece_from_vocabulary(tmp_path / "vocab.txt", {})
