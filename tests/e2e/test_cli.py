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

    answered = huiyan("predict", "run", "good lovely dress", "bad poor dress")
    assert [json.loads(line)["prediction"] for line in answered.stdout.splitlines()] == ["positive", "negative"]

    piped = huiyan(
        "predict", "run", "--file", "-", stdin='{"review": "good lovely dress"}\n{"review": "bad poor dress"}\n'
    )
    assert [json.loads(line)["prediction"] for line in piped.stdout.splitlines()] == ["positive", "negative"]

    evaluated = huiyan("evaluate", "run", "r.csv", "--json", "figures.json")
    assert evaluated.returncode == 0 and "macro F1" in evaluated.stdout and "trained on 96 of" in evaluated.stderr
    assert json.loads((tmp_path / "figures.json").read_text())["test"]["rows"] == 120


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian"], 'Did you mean "train"?'),
        (["train", "r.csv", "--txt", "a"], "Did you mean --text instead of --txt?"),
        (["train", "r.csv", "--text", "a", "--label", "b", "--out", "o", "--epochs", "two"], "--epochs"),
        (
            ["train", "r.csv", "--text", "a", "--label", "b", "--out", "o", "--epochs", "0"],
            "epochs option must be 1 or more",
        ),
        (["train", "none.csv", "--text", "a", "--label", "b", "--out", "o"], "none.csv"),
        (["predict", "nowhere", "text"], "nowhere"),
        (["predict", "nowhere"], "Give either texts or --file"),
        (["evaluate", "nowhere", "r.csv"], "nowhere"),
    ],
)
def test_a_users_mistake_is_one_line_and_status_2(huiyan: Command, words: list[str], message: str) -> None:
    ended = huiyan(*words)
    assert ended.returncode == 2
    assert message in ended.stderr and ended.stderr.startswith("huiyan: ")
    assert ended.stderr.count("\n") == 1 and ended.stdout == ""


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
    command = [*HUIYAN, "predict", str(tiny_run), "good [red]dress[/red]", "bad poor dress"]
    with subprocess.Popen(command, stdout=theirs, stderr=subprocess.DEVNULL) as process:
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
    assert "good [red]dress[/red]" in lines[1] and "positive" in lines[1] and "negative" in lines[2]


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
