"""Answers for texts and for tables."""

import csv
import io
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from rich.console import Console

from huiyan.core.errors import ColumnError, ConfigError, DataError, OutputError
from huiyan.workflows.predict import predict_file, predict_texts

HEADER = ["prediction", "probability"]


def read_csv(path: Path, delimiter: str = ",") -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter=delimiter))


def test_texts_are_answered_with_names_and_probabilities(tiny_run: Path) -> None:
    good, bad = predict_texts(tiny_run, ["the good great lovely dress", "the bad poor broken dress"], all_classes=True)
    assert good["prediction"] == "positive" and bad["prediction"] == "negative"
    assert good["probability"] == good["probability_positive"] > 0.5
    assert good["probability_positive"] + good["probability_negative"] == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl"])
def test_every_row_and_column_comes_back_in_order(
    tiny_run: Path, write_reviews: Callable[..., Path], tmp_path: Path, suffix: str
) -> None:
    file, out = write_reviews(tmp_path / "in.csv", 50), tmp_path / f"out{suffix}"
    assert predict_file(tiny_run, str(file), str(out)) == 50
    if suffix == ".jsonl":
        answered = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    else:
        answered = read_csv(out, "\t" if suffix == ".tsv" else ",")
    rows = read_csv(file)
    assert [{key: row[key] for key in rows[0]} for row in answered] == rows
    assert list(answered[0]) == [*rows[0], *HEADER]
    alone = predict_texts(tiny_run, [row["review"] for row in rows])
    assert [row["prediction"] for row in answered] == [answer["prediction"] for answer in alone]


def test_rows_without_an_answer_stay_and_are_listed(tiny_run: Path, tmp_path: Path) -> None:
    file, out = tmp_path / "in.csv", tmp_path / "out.csv"
    file.write_bytes(b"id,review\n1,good dress\n2,\n3,\xff\xfe bad byte\n4,bad dress\n")
    assert predict_file(tiny_run, str(file), str(out)) == 2
    assert [(row["id"], bool(row["prediction"])) for row in read_csv(out)] == [
        ("1", True), ("2", False), ("3", False), ("4", True),
    ]  # fmt: skip
    listed = [json.loads(line) for line in (tmp_path / "out.csv.rejected.jsonl").read_text().splitlines()]
    assert [row["line"] for row in listed] == [3, 4]


def test_nothing_is_listed_when_all_rows_have_an_answer(
    tiny_run: Path, write_reviews: Callable[..., Path], tmp_path: Path
) -> None:
    predict_file(tiny_run, str(write_reviews(tmp_path / "in.csv", 3)), str(tmp_path / "out.csv"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.csv", "out.csv"]


def test_json_lines_go_from_standard_input_to_standard_output(
    tiny_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = io.TextIOWrapper(io.BytesIO(b'{"review": "good", "n": 1}\n{"review": null, "n": 2}\n'))
    monkeypatch.setattr(sys, "stdin", source)
    predict_file(tiny_run, "-", "-", all_classes=True)
    first, second = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert first["n"] == 1 and set(first) == {"review", "n", *HEADER, "probability_negative", "probability_positive"}
    assert second["prediction"] is None


def test_outputs_are_never_replaced_unasked(tiny_run: Path, write_reviews: Callable[..., Path], tmp_path: Path) -> None:
    file, out = write_reviews(tmp_path / "in.csv", 3), tmp_path / "out.csv"
    out.write_text("precious")
    with pytest.raises(OutputError, match=r"exists already. Use --overwrite"):
        predict_file(tiny_run, str(file), str(out))
    assert out.read_text() == "precious"
    with pytest.raises(OutputError, match="is the input file"):
        predict_file(tiny_run, str(file), str(file), overwrite=True)
    with pytest.raises(OutputError, match=r"kind that is not written. Use one of: .csv"):
        predict_file(tiny_run, str(file), str(tmp_path / "out.pdf"))
    assert predict_file(tiny_run, str(file), str(out), overwrite=True) == 3


def test_a_column_of_the_same_name_is_kept(tiny_run: Path, tmp_path: Path) -> None:
    file, out = tmp_path / "in.csv", tmp_path / "out.csv"
    file.write_text("review,prediction\ngood great lovely dress,mine\n")
    with pytest.raises(OutputError, match=r"has a column 'prediction' already. .*--prefix"):
        predict_file(tiny_run, str(file), str(out))
    predict_file(tiny_run, str(file), str(out), prefix="my_")
    (row,) = read_csv(out)
    assert row["prediction"] == "mine" and row["my_prediction"] == "positive"


def test_a_missing_text_column_names_the_closest(tiny_run: Path, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("reviews\ngood\n")
    with pytest.raises(ColumnError, match=r"no column 'review'.*Did you mean 'reviews'"):
        predict_file(tiny_run, str(tmp_path / "in.csv"), str(tmp_path / "out.csv"))
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize("text", ["", " \t\n"])
def test_a_blank_text_is_no_question(text: str) -> None:
    with pytest.raises(ConfigError, match=r"Text 2 of 2 is blank. Give a text with at least one visible character"):
        predict_texts(Path("not-read-yet"), ["good", text])


def write_late_key(path: Path, key: str) -> None:
    """JSON lines whose row 151, well after the columns were learnt, has a key of its own; row 1 has no text."""
    rows: list[dict[str, str | None]] = [{"review": f"good {number}" if number else None} for number in range(150)]
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, {"review": "bad", key: "mine"}]))


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_a_key_that_a_csv_has_no_column_for_is_not_dropped(tiny_run: Path, tmp_path: Path, suffix: str) -> None:
    file, out = tmp_path / "in.jsonl", tmp_path / f"out{suffix}"
    write_late_key(file, "note")
    with pytest.raises(DataError, match=r"Line 151 of .*in.jsonl has the key 'note'.*out.jsonl"):
        predict_file(tiny_run, str(file), str(out))
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]
    assert predict_file(tiny_run, str(file), str(tmp_path / "out.jsonl")) == 150
    last = json.loads((tmp_path / "out.jsonl").read_text().splitlines()[-1])
    assert last["note"] == "mine" and last["prediction"] == "negative"


def test_a_later_row_with_the_name_of_an_added_column_keeps_its_value(tiny_run: Path, tmp_path: Path) -> None:
    file, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    write_late_key(file, "prediction")
    with pytest.raises(OutputError, match=r"Line 151 of .*in.jsonl has a column 'prediction' already. .*--prefix"):
        predict_file(tiny_run, str(file), str(out))
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_nothing_answered_is_an_error(
    tiny_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"text": "bad dress"}\n')))
    with pytest.raises(DataError, match=r"None of the 1 rows of - could be answered: no text. .* columns 'review'"):
        predict_file(tiny_run, "-", "-")
    assert json.loads(capsys.readouterr().out)["prediction"] is None


def test_a_table_given_as_text_is_refused(tiny_run: Path, write_reviews: Callable[..., Path], tmp_path: Path) -> None:
    file = write_reviews(tmp_path / "in.csv", 3)
    with pytest.raises(ConfigError, match="is a file, and texts were expected. Say --file"):
        predict_texts(tiny_run, [str(file)])
    assert predict_texts(tiny_run, ["good.csv"])


def test_a_live_row_without_text_has_no_answer(
    tiny_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"n": 1}\n{"n": 2, "review": "good great"}\n')))
    assert predict_file(tiny_run, "-", "-") == 1
    first, second = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert first == {"n": 1, "prediction": None, "probability": None}
    assert second["prediction"] == "positive"


def test_numbers_that_json_has_not_become_null(tiny_run: Path, tmp_path: Path) -> None:
    file, out = tmp_path / "in.parquet", tmp_path / "out.jsonl"
    cells = {"x": [math.nan, 1.5], "y": [math.inf, 2.0], "list": [[1.0, math.nan], []], "s": [{"a": -math.inf}] * 2}
    pl.DataFrame({"review": ["good", "bad"], **cells}).write_parquet(file)
    predict_file(tiny_run, str(file), str(out))

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    rows = [json.loads(line, parse_constant=refuse) for line in out.read_text(encoding="utf-8").splitlines()]
    assert [(row["x"], row["y"], row["list"], row["s"]) for row in rows] == [
        (None, None, [1.0, None], {"a": None}),
        (1.5, 2.0, [], {"a": None}),
    ]


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_bar_counts_the_rows_on_a_terminal_only(
    tiny_run: Path, write_reviews: Callable[..., Path], tmp_path: Path, is_terminal: bool
) -> None:
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=is_terminal, width=100, _environ={"TERM": "xterm"})
    file = write_reviews(tmp_path / "in.csv", 1500)
    predict_file(tiny_run, str(file), str(tmp_path / "out.csv"), console=console)
    assert ("predicting" in shown.getvalue()) is is_terminal
    assert ("100%" in shown.getvalue() and " 1,500 rows" in shown.getvalue().partition("answered")[0]) is is_terminal
    assert "answered 1,500 rows (" in shown.getvalue() and " a second, fp32)" in shown.getvalue()


def test_texts_that_fill_what_the_model_reads_are_counted(tiny_run: Path, tmp_path: Path) -> None:
    rows = ["review", "good dress", "good " * 47, "good " * 60]  # 48 tokens are read, two of them special
    (tmp_path / "in.csv").write_text("\n".join(rows), encoding="utf-8")
    shown = io.StringIO()
    predict_file(tiny_run, str(tmp_path / "in.csv"), str(tmp_path / "out.csv"), console=Console(file=shown, width=200))
    assert "2 texts fill the 48 tokens the model reads" in shown.getvalue()
