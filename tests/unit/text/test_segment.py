"""Words of Chinese texts."""

from huiyan.text.segment import segment_words


def test_words_are_found_and_white_space_is_none() -> None:
    assert segment_words("我来到北京清华大学") == ["我", "来到", "北京", "清华大学"]
    assert segment_words("颜色\n very 好 ") == ["颜色", "very", "好"]
    assert segment_words("") == []
