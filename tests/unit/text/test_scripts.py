import pytest

from huiyan.text.scripts import han_share, mostly_han


@pytest.mark.parametrize(
    ("texts", "share"),
    [
        ([], 0.0),
        (["", "123 !?", "😀"], 0.0),
        (["abc"], 0.0),
        (["质量很好"], 1.0),
        (["质量 ok"], 0.5),
        (["质量", "ok good"], 0.25),
        (["𠀀㐀豈"], 1.0),
        (["ひらがな한글"], 0.0),
        (["，。！质"], 1.0),
    ],
)
def test_share_of_letters_that_are_han(texts: list[str], share: float) -> None:
    assert han_share(texts) == pytest.approx(share)


def test_it_streams() -> None:
    assert han_share(text for text in ("好", "a")) == 0.5


def test_chinese_with_some_english_is_chinese() -> None:
    assert mostly_han(["iPhone 屏幕很好", "质量不错"])
    assert not mostly_han(["a good 手机 for the price"])
    assert not mostly_han([])
