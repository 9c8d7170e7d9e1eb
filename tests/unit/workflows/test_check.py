"""`huiyan check`: what was planted in a table is found, said and can be read by a program."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from huiyan.cli.main import run as command
from huiyan.core.errors import DataError
from huiyan.workflows.check import check
from huiyan.workflows.check_summary import WHERE_WIDTH, _where, check_summary
from huiyan.workflows.config import DataConfig

DATA = DataConfig(text=("review",), label="sentiment")


def write(path: Path, rows: list[tuple[str, str]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("review", "sentiment"), *rows])
    return path


def shown(found: dict[str, Any]) -> str:
    console = Console(file=io.StringIO(), width=120)
    console.print(check_summary(found))
    return console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue] (it is the StringIO)


@pytest.fixture
def reviews(write_reviews: Callable[..., Path], tmp_path: Path) -> list[tuple[str, str]]:
    with write_reviews(tmp_path / "reviews.csv", 200).open(encoding="utf-8") as file:
        return [(row["review"], row["sentiment"]) for row in csv.DictReader(file)]


def test_a_sound_table_has_nothing_to_remark(reviews: list[tuple[str, str]], tiny_model: Path, tmp_path: Path) -> None:
    found = check(str(write(tmp_path / "t.csv", reviews)), DATA, model=str(tiny_model))
    assert found["findings"] == []
    assert found["rows"] == {"read": 200, "used": 200, "rejected": 0, "reasons": {}}
    assert found["class_counts"] == {"train": {"negative": 100, "positive": 100}}
    assert sum(found["tokens"]["histogram"]["rows"]) == 200
    assert "Nothing to remark" in shown(found)


def test_what_was_planted_is_found(reviews: list[tuple[str, str]], tiny_model: Path, tmp_path: Path) -> None:
    wrong = [(text, "negative" if label == "positive" else "positive") for text, label in reviews[:12]]
    planted = [
        *wrong,
        *reviews[12:],
        *reviews[14:16],  # exactly the same
        (reviews[20][0], "negative" if reviews[20][1] == "positive" else "positive"),  # with another label
        ("it was &lt;b&gt; good", "positive"),
        ("good " * 60, "positive"),
        ("", "positive"),
    ]
    test = [reviews[30], ("nothing like it", "negative")]
    found = check(
        str(write(tmp_path / "t.csv", planted)),
        DataConfig(text=("review",), label="sentiment", test=str(write(tmp_path / "u.csv", test))),
        model=str(tiny_model),
        max_length=48,
    )
    assert found["rows"]["rejected"] == 1 and found["rows"]["reasons"] == {"no text": 1}
    overlap = found["overlap"]
    assert overlap["conflicting_texts"] == 1 and overlap["exact"] == 4
    assert [(leak["part"], leak["of"], leak["exact"]) for leak in overlap["leaks"]] == [("test", "train", 1)]
    assert found["tokens"]["cut_rows"] == 1 and found["tokens"]["max"] == 62
    share = (62 - 48) / (found["tokens"]["mean"] * found["rows"]["used"])
    assert found["tokens"]["cut_share_of_tokens"] == pytest.approx(share)
    assert [one["kind"] for one in found["suspicious"]] == ["entities"]
    doubted = [int(one["source"].rpartition(":")[2]) for one in found["doubts"]["examples"]]
    assert len(set(doubted) & set(range(2, 14))) >= 4  # the surest half of those with the wrong label
    assert set(doubted[:3]) <= set(range(2, 14))
    words = " ".join(found["findings"])
    said = ("among the train texts", "labelled in several ways", "HTML entities", "longer than 48 tokens", "doubts")
    for part in said:
        assert part in words
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    seen = shown(found)
    for part in ("one text, several labels", "in test and in train", "labels in doubt", "entities (1)"):
        assert part in seen


def test_labels_of_a_set_are_doubted_one_by_one(
    reviews: list[tuple[str, str]], tiny_model: Path, tmp_path: Path
) -> None:
    # Each review has its mood and, when it says "good", a second label; of ten the mood is left out, ten have both.
    sets = [{label} | ({"hello"} if n % 2 else set[str]()) for n, (_, label) in enumerate(reviews)]
    texts = [text + " hello" * ("hello" in names) for (text, _), names in zip(reviews, sets, strict=True)]
    moods = {"positive", "negative"}
    for names in sets[:10]:
        names -= moods
    for names in sets[10:20]:
        names |= moods
    rows = [(text, "|".join(sorted(names)) or "-") for text, names in zip(texts, sets, strict=True)]
    found = check(
        str(write(tmp_path / "t.csv", rows)),
        DataConfig(text=("review",), label="sentiment", label_separator="|"),
        model=str(tiny_model),
    )
    first = found["doubts"]["examples"][:8]
    assert len(first) == 8
    lines = [int(one["source"].rpartition(":")[2]) - 2 for one in first]
    assert found["doubts"]["of"] == 200 and set(lines) <= set(range(20)), first
    for line, one in zip(lines, first, strict=True):
        right = {reviews[line][1]} | ({"hello"} if line % 2 else set[str]())
        assert set(one["label"].split(", ")) != right
        assert moods & set(one["likely"].split(", ")) == moods & right
        assert one["probability_of_likely"] > 0.5
    assert "labels in doubt" in shown(found)


MANY = [f"text number {n} of {'apple' if n % 2 else 'pear'} {n * n}" for n in range(48)]


@pytest.mark.parametrize(
    ("rows", "separator", "judged"),
    [
        ([(text, f"c{n // 4}|d{n // 4}") for n, text in enumerate(MANY)], "|", 48),  # every label has four rows
        ([(text, f"c{n // 4}") for n, text in enumerate(MANY)], None, 48),
        (
            [(text, "one" if n else "two") for n, text in enumerate(MANY)],
            None,
            38,
        ),  # a label of one row: its fold is not answered
        ([(text, f"all|c{n // 2}") for n, text in enumerate(MANY)], "|", None),  # of every label two rows, or all
        ([("the same text again", "ab"[n % 2]) for n in range(40)], None, None),  # one block
        ([("the same text again", "a|b" if n % 2 else "a") for n in range(40)], "|", None),
        ([(["red", "green", "blue"][n % 3] * 20, "ab"[n % 2]) for n in range(40)], None, 40),  # three blocks
    ],
)
def test_where_a_model_has_no_opinion_nothing_is_doubted(
    rows: list[tuple[str, str]], separator: str | None, judged: int | None, tiny_model: Path, tmp_path: Path
) -> None:
    data = DataConfig(text=("review",), label="sentiment", label_separator=separator)
    said: list[str] = []
    found = check(str(write(tmp_path / "t.csv", rows)), data, model=str(tiny_model), say=said.append)["doubts"]
    assert (found and found["of"]) == judged
    assert any("cannot be said" in text for text in said) == (judged is None)
    if found:
        assert all(one["probability_of_likely"] < 1 for one in found["examples"])


def test_doubts_can_be_left_out(reviews: list[tuple[str, str]], tiny_model: Path, tmp_path: Path) -> None:
    found = check(str(write(tmp_path / "t.csv", reviews)), DATA, model=str(tiny_model), doubts=False)
    assert found["doubts"] is None
    assert "in doubt" not in shown(found)


def test_an_imbalance_and_rare_labels_are_said(tiny_model: Path, tmp_path: Path) -> None:
    draw = Random(0)
    rows = [("".join(draw.choices("abcdefgh ", k=40)), "common") for _ in range(300)]
    rows += [("".join(draw.choices("ijklmnop ", k=40)), "rare") for _ in range(4)]
    found = check(str(write(tmp_path / "t.csv", rows)), DATA, model=str(tiny_model))
    words = " ".join(found["findings"])
    assert (
        "The most frequent label has 300 rows, the rarest 4" in words
        and "under 10 rows, too few to learn or to test: 'rare'" in words
    )


def test_texts_are_shown_as_they_are(reviews: list[tuple[str, str]], tiny_model: Path, tmp_path: Path) -> None:
    evil = "[red]markup[/red] \x1b[31m and \u202e more"
    found = check(str(write(tmp_path / "t.csv", [*reviews, (evil, "a]b"), (evil, "c")])), DATA, model=str(tiny_model))
    seen = shown(found)
    assert "[red]markup[/red]" in seen and "\x1b" not in seen and "\u202e" not in seen


def test_chinese_names_of_files_are_cut_by_the_places_they_take(tmp_path: Path) -> None:
    name = "二零二六年第三季度全部客户评论与标签汇总.csv"
    shown = _where(f"{tmp_path / name}:12345")
    assert shown.startswith("…") and shown.endswith("汇总.csv:12345")
    assert WHERE_WIDTH - 1 <= cell_len(shown) <= WHERE_WIDTH
    assert _where(f"{tmp_path}/short.csv:7") == "short.csv:7"


def test_a_table_nobody_could_learn_from_is_an_error(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="At least 20 usable rows"):
        check(str(write(tmp_path / "t.csv", [("good", "a"), ("bad", "b")])), DATA, model=str(tiny_model))


def test_the_command(
    reviews: list[tuple[str, str]], tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = write(tmp_path / "t.csv", [*reviews, reviews[0]]), tmp_path / "check.json"
    words = ["check", str(file), "--text", "review", "--label", "sentiment", "--model", str(tiny_model)]
    assert command([*words, "--json", str(out)]) == 0
    assert "Rows that repeat another one: 1, and 0 nearly." in capsys.readouterr().out
    assert json.loads(out.read_text(encoding="utf-8"))["overlap"]["exact"] == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["check.json", "reviews.csv", "t.csv"]
