"""`make results` goes on where it stopped: what is finished is not trained again, what was killed is resumed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow


def begin(folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(ROOT / "benchmarks" / "results.py"), "--only", "department", "--rows", "300"]
    for option, path in (("--folder", folder), ("--json", folder / "f.json"), ("--page", folder / "p.md")):
        command += [option, str(path)]
    return subprocess.Popen(command)


@pytest.mark.timeout(240)
def test_results_go_on_where_they_stopped(tmp_path: Path) -> None:
    run = tmp_path / "department-300" / "run"
    first = begin(tmp_path)
    until = time.monotonic() + 120
    while not list(run.rglob("start.json")):
        assert first.poll() is None and time.monotonic() < until, "it ended, or never began to train"
        time.sleep(0.02)
    os.kill(first.pid, signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL and not (run / "report.json").exists()

    assert begin(tmp_path).wait(200) == 0
    page = (tmp_path / "p.md").read_text(encoding="utf-8")
    assert "| accuracy | " in page and "TF-IDF" in page

    written = (run / "report.json").stat().st_mtime_ns
    assert begin(tmp_path).wait(60) == 0
    assert (run / "report.json").stat().st_mtime_ns == written
