"""The command line as a user meets it: real processes, exit statuses, one line for every mistake."""

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

Command = Callable[..., subprocess.CompletedProcess[str]]
HUIYAN = [sys.executable, "-c", "from huiyan.cli.main import main; main()"]


@pytest.fixture
def huiyan(tmp_path: Path) -> Command:
    def run(*words: str | Path, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*HUIYAN, *map(str, words)],
            check=False,
            input=stdin,
            capture_output=True,
            text=True,
            cwd=tmp_path,
            timeout=120,
        )

    return run


def test_train_predict_and_evaluate(
    huiyan: Command, tiny_model: Path, write_reviews: Callable[..., Path], tmp_path: Path
) -> None:
    write_reviews(tmp_path / "r.csv", 120)
    options = ["--text", "review", "--label", "sentiment", "--model", tiny_model, "--epochs", "6"]
    options += ["--learning-rate", "0.003", "--batch-tokens", "64", "--max-length", "48", "--device", "cpu"]
    trained = huiyan("train", "r.csv", *options, "--out", "run", "--json", "report.json")
    assert trained.returncode == 0, trained.stderr
    assert "macro F1" in trained.stdout and "TF-IDF" in trained.stdout
    assert "validation at step" in trained.stderr and "tokens/s" in trained.stderr
    assert json.loads((tmp_path / "report.json").read_text()) == json.loads((tmp_path / "run/report.json").read_text())

    again = huiyan("train", "r.csv", *options, "--out", "run")
    assert again.returncode == 2 and again.stderr.count("\n") == 1 and "--overwrite" in again.stderr

    answered = huiyan("predict", "run", "good great lovely dress", "bad poor awful dress")
    assert [json.loads(line)["prediction"] for line in answered.stdout.splitlines()] == ["positive", "negative"]

    piped = huiyan(
        "predict",
        "run",
        "--file",
        "-",
        stdin='{"review": "good great lovely dress"}\n{"review": "bad poor awful dress"}\n',
    )
    assert [json.loads(line)["prediction"] for line in piped.stdout.splitlines()] == ["positive", "negative"]

    evaluated = huiyan("evaluate", "run", "r.csv", "--json", "figures.json")
    assert evaluated.returncode == 0 and "macro F1" in evaluated.stdout and "trained on 96 of" in evaluated.stderr
    assert json.loads((tmp_path / "figures.json").read_text())["test"]["rows"] == 120


def test_standard_input_does_for_a_file(
    huiyan: Command, tiny_model: Path, write_reviews: Callable[..., Path], tmp_path: Path
) -> None:
    table = write_reviews(tmp_path / "r.csv", 120).read_text(encoding="utf-8")
    more = write_reviews(tmp_path / "more.csv", 60, seed=1).read_text(encoding="utf-8")
    options = ["--text", "review", "--label", "sentiment", "--model", tiny_model, "--epochs", "1", "--device", "cpu"]
    trained = huiyan("train", "-", *options, "--out", "run", stdin=table)
    assert trained.returncode == 0, trained.stderr
    report = json.loads((tmp_path / "run/report.json").read_text(encoding="utf-8"))
    assert report["data"]["files"]["train"] == "-" and report["data"]["rows_used"] == 120

    for name in ("validation", "test"):
        tested = huiyan("train", "r.csv", *options, f"--{name}", "-", "--out", f"run-{name}", stdin=more)
        assert tested.returncode == 0, tested.stderr
        report = json.loads((tmp_path / f"run-{name}/report.json").read_text(encoding="utf-8"))
        assert report["data"]["files"][name] == "-" and report["data"]["splits"][name] == 60

    evaluated = huiyan("evaluate", "run", "-", "--json", "figures.json", stdin=more)
    assert evaluated.returncode == 0, evaluated.stderr
    figures = json.loads((tmp_path / "figures.json").read_text(encoding="utf-8"))
    assert figures["file"] == "-" and figures["test"]["rows"] == 60

    answered = huiyan("predict", "run", "--file", "-", "--out", "-", stdin=more)
    assert answered.returncode == 0, answered.stderr
    assert len(answered.stdout.splitlines()) == 60


@pytest.mark.timeout(60)
def test_a_live_pipe_is_answered_row_by_row(tiny_run: Path) -> None:
    command = [*HUIYAN, "predict", str(tiny_run), "--file", "-", "--out", "-"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        for text, prediction in (("good great lovely dress", "positive"), ("bad poor awful dress", "negative")):
            process.stdin.write(json.dumps({"review": text}) + "\n")
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["prediction"] == prediction
        process.stdin.close()
        assert process.wait(timeout=30) == 0


@pytest.mark.parametrize("text", ["-5 stars", "-good", "--json", "--debug", "-"])
def test_a_text_may_begin_with_a_hyphen_after_two(huiyan: Command, tiny_run: Path, text: str) -> None:
    answered = huiyan("predict", tiny_run, "--", text)
    assert answered.returncode == 0, answered.stderr
    assert json.loads(answered.stdout)["text"] == text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian"], 'Did you mean "train"?'),
        (["train", "r.csv", "--lr", "1e-4"], "Did you mean --learning-rate?"),
        (["train", "r.csv", "--text", "a", "b", "--label", "c", "--out", "o"], "once for each: --text title"),
        (["train", "r.csv", "--txt", "a"], "Did you mean --text instead of --txt?"),
        (["train", "r.csv", "--text", "a", "--label", "b", "--out", "o", "--epochs", "two"], "--epochs"),
        (
            ["train", "r.csv", "--text", "a", "--label", "b", "--out", "o", "--epochs", "0"],
            "epochs option must be 1 or more",
        ),
        (["train", "none.csv", "--text", "a", "--label", "b", "--out", "o"], "none.csv"),
        (["predict", "nowhere", "text"], "nowhere"),
        (["predict", "nowhere"], "Give either texts or --file"),
        (["predict", "nowhere", "-5 stars"], "put -- before the texts: huiyan predict RUN -- TEXT"),
        (["predict", "nowhere", "-"], "For standard input say --file -"),
        (["predict", "nowhere", ""], "Text 1 of 1 is blank"),
        (["predict", "nowhere", "text", "--out", "f.csv"], "--out goes with --file"),
        (["predict", "nowhere", "text", "--overwrite"], "--overwrite goes with --file"),
        (["evaluate", "nowhere", "r.csv"], "nowhere"),
        (["train", "-", "--text", "a", "--label", "b", "--out", "o", "--epochs", "-"], 'convert "-" into int'),
    ],
)
def test_a_users_mistake_is_one_line_and_status_2(huiyan: Command, words: list[str], message: str) -> None:
    ended = huiyan(*words)
    assert ended.returncode == 2
    assert message in ended.stderr and ended.stderr.startswith("huiyan: ")
    assert ended.stderr.count("\n") == 1 and ended.stdout == ""


@pytest.mark.parametrize("place", ["a-file/figures.json", "a-folder"])
def test_a_place_for_json_that_cannot_be_written_is_refused_before_the_work(
    huiyan: Command, tiny_run: Path, write_reviews: Callable[..., Path], tmp_path: Path, place: str
) -> None:
    write_reviews(tmp_path / "r.csv", 60)
    (tmp_path / "a-file").write_text("mine")
    (tmp_path / "a-folder").mkdir()
    trained = huiyan("train", "r.csv", "--text", "review", "--label", "sentiment", "--out", "run", "--json", place)
    evaluated = huiyan("evaluate", tiny_run, "r.csv", "--json", place)
    for ended in (trained, evaluated):
        assert ended.returncode == 2 and ended.stdout == ""
        assert ended.stderr.startswith(f"huiyan: --json {place} cannot be written") and ended.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_rows_set_aside_are_listed_where_asked(huiyan: Command, tiny_run: Path, tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text("review,sentiment\ngood,positive\nbad,negative\nodd,mixed\n")
    assert "--rejected FILE lists them" in huiyan("evaluate", tiny_run, "r.csv").stderr
    ended = huiyan("evaluate", tiny_run, "r.csv", "--rejected", "aside.jsonl")
    assert ended.returncode == 0 and "listed in aside.jsonl" in ended.stderr
    (row,) = [json.loads(line) for line in (tmp_path / "aside.jsonl").read_text().splitlines()]
    assert (row["file"], row["line"]) == ("r.csv", 4) and row["reason"].startswith("label not among")


@pytest.mark.parametrize(
    ("rows", "label", "message"),
    [(19, "sentiment", "At least 20 usable rows"), (60, "id", "mostly unique, so they are not classes")],
)
def test_data_that_cannot_be_learned_from_is_one_line_and_status_2(
    huiyan: Command, write_reviews: Callable[..., Path], tmp_path: Path, rows: int, label: str, message: str
) -> None:
    write_reviews(tmp_path / "r.csv", rows)
    ended = huiyan("train", "r.csv", "--text", "review", "--label", label, "--out", "run")
    assert ended.returncode == 2 and message in ended.stderr.splitlines()[-1]
    assert not (tmp_path / "run").exists()


def test_debug_shows_where_an_error_came_from(huiyan: Command) -> None:
    ended = huiyan("predict", "nowhere", "text", "--debug")
    assert ended.returncode == 1 and "Traceback" in ended.stderr and "ArtifactError" in ended.stderr


def test_a_reader_that_has_seen_enough_is_no_error(
    tiny_run: Path, write_reviews: Callable[..., Path], tmp_path: Path
) -> None:
    file = write_reviews(tmp_path / "r.csv", 4000)
    command = [*HUIYAN, "predict", str(tiny_run), "--file", str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        assert json.loads(process.stdout.readline())["id"] == "0"
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(timeout=60) == 0


def test_a_terminal_gets_a_table(tiny_run: Path) -> None:
    ours, theirs = pty.openpty()
    command = [*HUIYAN, "predict", str(tiny_run), "good lovely [red]great[/red]", "bad poor awful dress"]
    # On a dumb terminal rich writes no bold and no colours, whatever terminal the tests run in.
    environment = os.environ | {"TERM": "dumb"}
    with subprocess.Popen(command, stdout=theirs, stderr=subprocess.DEVNULL, env=environment) as process:
        os.close(theirs)
        shown = b""
        # Reading the end of a terminal whose other side is closed is an error on Linux.
        with contextlib.suppress(OSError):
            while part := os.read(ours, 4096):
                shown += part
        os.close(ours)
        assert process.wait(timeout=60) == 0
    lines = shown.decode().splitlines()
    assert lines[0].split() == ["text", "prediction", "probability"]
    assert "good lovely [red]great[/red]" in lines[1] and "positive" in lines[1] and "negative" in lines[2]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_says_how_to_go_on(
    tiny_model: Path, write_reviews: Callable[..., Path], tmp_path: Path, number: signal.Signals
) -> None:
    write_reviews(tmp_path / "r.csv", 400)
    command = [*HUIYAN, "train", "r.csv", "--text", "review", "--label", "sentiment", "--model", str(tiny_model)]
    command += ["--epochs", "400", "--patience", "0", "--batch-tokens", "256", "--device", "cpu", "--out", "run"]
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("validation at step"):
                break
        time.sleep(0.2)
        process.send_signal(number)
        rest = process.stderr.read()
        assert process.wait(timeout=60) == 130
    assert "--resume" in rest
    assert (tmp_path / "run" / "huiyan.json").exists() and (
        tmp_path / "run" / "checkpoint" / "last.safetensors"
    ).exists()
    answered = subprocess.run(
        [*HUIYAN, "predict", "run", "good"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert json.loads(answered.stdout)["prediction"] in ("negative", "positive")
