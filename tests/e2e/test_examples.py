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


def run(name: str, *options: str) -> str:
    """What an example prints."""
    command = [sys.executable, ROOT / "examples" / name, *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=250, check=True).stdout


def test_the_transformer_by_hand_is_the_library_s() -> None:
    assert float(run("transformer_by_hand.py").split()[-1]) < 1e-4


def test_the_page_reads_the_example_as_it_is() -> None:
    """Each piece of code of docs/transformer.md stands in the example."""
    page = (ROOT / "docs" / "transformer.md").read_text(encoding="utf-8")
    example = (ROOT / "examples" / "transformer_by_hand.py").read_text(encoding="utf-8")
    pieces = [block.partition("```")[0].strip() for block in page.split("```python")[1:]]
    assert len(pieces) > 5
    assert [piece for piece in pieces if piece not in example] == []


@pytest.mark.slow
@pytest.mark.parametrize("task", ["copy", "reverse"])
def test_the_transformer_of_2017_learns(task: str) -> None:
    right = int(run("transformer_2017.py", "--task", task).splitlines()[-1].split()[0])
    assert right >= 180  # of 200 new rows
