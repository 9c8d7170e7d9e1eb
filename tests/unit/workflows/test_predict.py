"""Answers for texts and for tables."""

import csv
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from huiyan.core.errors import ColumnError, OutputError
from huiyan.workflows.predict import predict_file, predict_texts

HEADER = ["prediction", "probability"]


def read_csv(path: Path, delimiter: str = ",") -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter=delimiter))


def test_texts_are_answered_with_names_and_probabilities(tiny_run: Path) -> None:
    good, bad = predict_texts(tiny_run, ["the good lovely dress", "the bad broken dress"], all_classes=True)
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
    file.write_text("review,prediction\ngood,mine\n")
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
