"""`make results` goes on where it stopped: what is finished is not trained again, what was killed is resumed."""

import csv
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow


@contextmanager
def begun(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The script on the table in the folder; it never outlives the test."""
    command = [sys.executable, str(ROOT / "benchmarks" / "results.py"), "--only", "department", "--rows", "300"]
    for option, path in (("--folder", folder), ("--json", folder / "f.json"), ("--page", folder / "p.md")):
        command += [option, str(path)]
    with subprocess.Popen(command) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.timeout(240)
@pytest.mark.usefixtures("minilm_folder")  # the model is there, or the test is left out
def test_results_go_on_where_they_stopped(tmp_path: Path) -> None:
    case = tmp_path / "department-300"
    case.mkdir()
    with (ROOT / "examples" / "data" / "reviews.train.csv").open(encoding="utf-8", newline="") as file:
        rows = [(row["review"], row["department"]) for row in list(csv.DictReader(file))[:300]]
    with (case / "table.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "department"), *rows])

    run = case / "run"
    with begun(tmp_path) as first:
        until = time.monotonic() + 120
        while not list(run.rglob("start.json")):
            assert first.poll() is None and time.monotonic() < until, "it ended, or never began to train"
            time.sleep(0.02)
        first.kill()
        assert first.wait() == -signal.SIGKILL
    assert not (run / "report.json").exists()
    (run / "mark").touch()  # which a run that replaces this one would take away

    with begun(tmp_path) as second:
        assert second.wait(200) == 0
    assert (run / "mark").exists()
    written = (run / "report.json").stat().st_mtime_ns
    page = (tmp_path / "p.md").read_text(encoding="utf-8")
    assert "| accuracy | " in page and "TF-IDF" in page

    (tmp_path / "p.md").unlink()
    with begun(tmp_path) as third:
        assert third.wait(60) == 0
    assert (run / "report.json").stat().st_mtime_ns == written
    assert (tmp_path / "p.md").exists()
