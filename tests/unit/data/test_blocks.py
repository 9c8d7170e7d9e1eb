import pytest

from huiyan.data.blocks import keys_of, rows_together, text_key


@pytest.mark.parametrize("other", ["Good  PRODUCT", " good product\n", "good\u3000product"])
def test_case_and_whitespace_make_no_other_text(other):
    assert text_key(other) == text_key("good product")


@pytest.mark.parametrize("other", ["good products", "goodproduct", ""])
def test_other_words_do(other):
    assert text_key(other) != text_key("good product")


def test_half_a_character_is_no_obstacle():
    assert text_key("a\ud83d") != text_key("a")


def test_equal_texts_are_together():
    assert rows_together(5, keys_of(["a", "b", "A ", "c", "b"]), None) == [[0, 2], [1, 4], [3]]


def test_equal_groups_are_together():
    assert rows_together(4, keys_of(["a", "b", "c", "d"]), ["x", "y", "x", "z"]) == [[0, 2], [1], [3]]


def test_chains_of_texts_and_groups_are_together():
    # 0 and 1 share a text, 1 and 2 a group, 2 and 3 a text.
    assert rows_together(5, keys_of(["a", "a", "b", "b", "c"]), ["1", "2", "2", "3", "4"]) == [[0, 1, 2, 3], [4]]
    # A row that follows another already brings it along.
    assert rows_together(3, keys_of(["a", "b", "b"]), ["x", "y", "x"]) == [[0, 1, 2]]


def test_pairs_connect_what_no_key_does() -> None:
    assert rows_together(5, ["a", "b", "c", "d", "b"], pairs=[(3, 0), (0, 2)]) == [[0, 2, 3], [1, 4]]
