"""`huiyan plan` as a user types it."""

import json
import os
import subprocess
import sys
from pathlib import Path

HUIYAN = (sys.executable, "-c", "from huiyan.cli.main import main; main()")


def huiyan(*words: str, columns: str = "200") -> subprocess.CompletedProcess[str]:
    """Run the command on a wide terminal that is none."""
    settings = {"COLUMNS": columns, "PYTHONIOENCODING": "utf-8", "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        [*HUIYAN, "plan", *words], env=os.environ | settings, capture_output=True, encoding="utf-8", check=False
    )


def test_a_plan_is_printed_and_written(tiny_model: Path, tmp_path: Path) -> None:
    words = ["--model", str(tiny_model), "--length", "32768", "--device", "cpu", "--json", str(tmp_path / "plan.json")]
    shown = huiyan(*words, "--training", "--dropout", "0.1")
    assert shown.returncode == 0, shown.stderr
    for fact in ("kernel packed", "peak foreseen", "Adam", "trained for 64 positions and cannot run at 32,768 tokens"):
        assert fact in shown.stdout
    written = json.loads((tmp_path / "plan.json").read_text("utf-8"))
    assert written["lengths"] == [32768] and written["training"] is True
    assert huiyan(*words, "--training", "--dropout", "0.1").stdout == shown.stdout


def test_what_is_wrong_is_one_line(tiny_model: Path, tmp_path: Path) -> None:
    for words, message in {
        ("--length", "0"): "The length option must be at least 1",
        ("--length", "8", "--memory", "-1"): "The memory option must be above 0, in GB",
        ("--length", "8", "--device", "abacus"): "abacus",
        ("--length", "8", "--device", "gpu", "--memory", "16"): "There is no device 'gpu'. Choose cpu, cuda",
        ("--length", "8", "--json", str(tmp_path)): "it is a folder",
    }.items():
        shown = huiyan("--model", str(tiny_model), *words)
        assert shown.returncode == 2, shown.stdout
        assert message in shown.stderr and shown.stderr.count("\n") == 1


def test_the_page_shows_what_is_printed(minilm_folder: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "plan.md").read_text("utf-8")
    command, _, shown = page.partition("```console\n$ ")[2].partition("```")[0].partition("\n")
    words = command.removeprefix("huiyan plan ").split()
    assert minilm_folder.is_dir()
    printed = huiyan(*words, columns="100").stdout
    assert [line.rstrip() for line in printed.splitlines()] == shown.splitlines()


def test_the_program_on_the_page_runs() -> None:
    page = (Path(__file__).parents[2] / "docs" / "plan.md").read_text("utf-8")
    program, _, rest = page.partition("```python\n")[2].partition("```")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == rest.partition("```text\n")[2].partition("```")[0]
