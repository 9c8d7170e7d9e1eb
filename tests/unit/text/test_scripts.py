import pytest

from huiyan.text.scripts import han_share, mostly_han, script_of, script_shares


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


def test_each_letter_counts_for_its_script() -> None:
    shares = script_shares(["好 good", "хорошо", "１２ ＡＢ", "!?"])
    assert shares == {"Cyrillic": 6 / 13, "Latin": 6 / 13, "Han": 1 / 13}
    assert script_shares(["123 😀"]) == {}


@pytest.mark.parametrize(
    ("letter", "script"),
    [
        ("é", "Latin"),
        ("ß", "Latin"),
        ("ﬁ", "Latin"),
        ("𝐀", "Latin"),
        ("𠀀", "Han"),
        ("あ", "Hiragana"),
        ("ー", "Katakana"),
        ("한", "Hangul"),
        ("ق", "Arabic"),
        ("ह", "Devanagari"),
        ("µ", "Greek"),
    ],
)
def test_the_script_of_a_letter(letter: str, script: str) -> None:
    assert script_of(letter) == script
