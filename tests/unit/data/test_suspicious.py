"""Texts that went wrong on the way: damage made on purpose is found, ordinary texts of many languages are not."""

import pytest

from huiyan.data.suspicious import suspicious_texts

ORDINARY = [
    "The dress was lovely, and it fits!",
    "质量很好，价格也不贵。物流快",
    "Émile a déjà reçu le colis à Zürich – très bien",
    "Ça coûte 10 £, naïve façade; «Oui»",
    "Здравствуйте, отлично",
    "これは良いです。한국어도",
    "a < b and c > d, R&D; AT&T",
    "tabs\tand\nline breaks\r\nare fine",
    "😀👍🏽 1️⃣",
    "Â is a letter, so is Ã",
]


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_texts_are_left_alone(text: str) -> None:
    assert suspicious_texts([text]) == []


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("half of it is \ufffd gone", "replacement"),
        ("déjà vu, l’été".encode().decode("latin-1"), "mojibake"),
        ("it’s".encode().decode("cp1252"), "mojibake"),
        ("“quoted”…".encode().decode("cp1252", "replace"), "mojibake"),
        ("价格\ufffd\ufffd".encode().decode("gbk", "replace"), "mojibake"),
        ("烫烫烫烫", "mojibake"),
        ("a\x00b", "control"),
        ("red \x1b[31m", "control"),
        ("fish &amp; chips", "entities"),
        ("first<br/>second", "entities"),
        ("&#8217;", "entities"),
        ("half \ud83d", "half"),
    ],
)
def test_damage_is_named(text: str, kind: str) -> None:
    found = suspicious_texts([*ORDINARY, text])
    assert kind in {one.kind for one in found}
    assert all([row for row, _ in one.places] == [len(ORDINARY)] for one in found)


def test_each_kind_is_counted_once_a_text_and_a_few_are_shown() -> None:
    found = suspicious_texts(["&amp;&amp;"] * 8 + ["a\x00\x01b"] * 2)
    assert [(one.kind, one.count, [row for row, _ in one.places]) for one in found] == [
        ("entities", 8, [0, 1, 2, 3, 4]),
        ("control", 2, [8, 9]),
    ]


def test_the_place_is_that_of_the_first_damage() -> None:
    (entities, control) = sorted(
        suspicious_texts(["fish &amp; chips &lt; \x00"]), key=lambda one: one.kind, reverse=True
    )
    assert (entities.places, control.places) == ([(0, 5)], [(0, 22)])
