"""The examples, run as a reader would run them."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.usefixtures("minilm_folder")
def test_the_article_runs() -> None:
    ended = subprocess.run(
        [sys.executable, ROOT / "examples" / "article.py"], capture_output=True, text=True, timeout=500, check=True
    )
    figures = dict(line.rsplit(None, 1) for line in ended.stdout.splitlines() if "mistake" not in line)
    accuracy = float(figures["accuracy"])
    error = float(ended.stdout.split("error rate")[1].split()[0])
    assert accuracy + error == pytest.approx(1.0, abs=0.002)
    assert accuracy > 0.5  # three balanced classes: chance is a third
    assert sum(line.startswith("precision of") for line in ended.stdout.splitlines()) == 3
