"""`huiyan compress` as a user meets it."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

HUIYAN = [sys.executable, "-c", "from huiyan.cli.main import main; main()"]
Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def huiyan(tmp_path: Path) -> Command:
    def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
        command = [*HUIYAN, *map(str, words)]
        return subprocess.run(command, check=False, capture_output=True, text=True, cwd=tmp_path, timeout=120)

    return run


def test_compress_then_predict_and_evaluate(
    huiyan: Command, tiny_run: Path, write_reviews: Callable[..., Path], tmp_path: Path
) -> None:
    write_reviews(tmp_path / "more.csv", 160, seed=5)
    options = ["--data", "more.csv", "--rank", "auto", "--max-loss", "1", "--device", "cpu", "--out", "small"]
    made = huiyan("compress", tiny_run, *options, "--json", "report.json")
    assert made.returncode == 0, made.stderr
    for word in ("before", "after", "parameters", "accuracy", "macro F1", "rows a second"):
        assert word in made.stdout
    assert "80 rows to choose the ranks by, 80 others to report on" in made.stderr
    assert "losing" in made.stderr and "Model and model card: small" in made.stderr
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert report == json.loads((tmp_path / "small/report.json").read_text(encoding="utf-8"))
    assert report["reproduce"] == f"huiyan compress {tiny_run} --data more.csv --rank auto --max-loss 1 --out small"

    answered = huiyan("predict", "small", "good great lovely dress", "bad poor awful dress")
    assert [json.loads(line)["prediction"] for line in answered.stdout.splitlines()] == ["positive", "negative"]
    evaluated = huiyan("evaluate", "small", "more.csv")
    assert evaluated.returncode == 0 and "macro F1" in evaluated.stdout, evaluated.stderr

    again = huiyan("compress", tiny_run, *options)
    assert again.returncode == 2 and again.stderr.count("\n") == 1 and "--overwrite" in again.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--max-loss", "-1"], "max_loss option must be from 0 to 100"),
        (["--rank", "many"], "rank option must be auto, a whole number"),
        (["--rank", "8", "--max-loss", "1"], "--max-loss goes with --rank auto"),
        (["--data", "none.csv"], "none.csv"),
    ],
)
def test_mistakes_are_one_line(
    huiyan: Command,
    tiny_run: Path,
    write_reviews: Callable[..., Path],
    tmp_path: Path,
    options: list[str],
    message: str,
) -> None:
    write_reviews(tmp_path / "more.csv", 20, seed=5)
    data = [] if "--data" in options else ["--data", "more.csv"]
    failed = huiyan("compress", tiny_run, *data, *options)
    assert failed.returncode == 2 and failed.stderr.count("\n") == 1
    assert message in failed.stderr
