"""Words in mixed text, and which pieces make them."""

import pytest

from huiyan.text.words import group_pieces, word_spans


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("这件 dress 很好看, size合适!", ["这件", "dress", "很", "好看", ",", "size", "合适", "!"]),
        ("It's a so-so fit.", ["It's", "a", "so-so", "fit", "."]),
        ("  \n ", []),
        ("😀好", ["😀", "好"]),
    ],
)
def test_words_of_mixed_text(text: str, words: list[str]) -> None:
    assert [text[start:stop] for start, stop in word_spans(text)] == words


def test_pieces_are_joined_where_they_share_a_word() -> None:
    words = [(0, 2), (3, 8)]  # "这件 dress"
    assert group_pieces([None, (0, 1), (1, 2), (3, 6), (6, 8), None], words) == [[0], [1, 2], [3, 4], [5]]


def test_a_piece_over_two_words_joins_them_and_a_space_goes_with_what_follows() -> None:
    words = [(0, 1), (1, 3), (4, 6)]  # "很|好看|!!"
    assert group_pieces([(0, 2), (2, 3), (3, 4), (4, 6)], words) == [[0, 1], [2, 3]]
    assert group_pieces([(0, 1), (3, 4), None], words) == [[0], [1], [2]]
    assert group_pieces([(3, 4)], words) == [[0]]
