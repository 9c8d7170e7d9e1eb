"""The Makefile and the scripts behind it, with stand-ins for what they call."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
TOOLS = ["ruff", "basedpyright", "lint-imports", "python", "mkdocs"]
PASSED = "============ 3 passed in 0.10s ============"
SKIPPED = "======= 3 passed, 1 skipped in 0.10s ======="


def stand_in(path: Path, *, prints: str = "", status: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{prints}'\nexit {status}\n")
    path.chmod(0o755)


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A bin folder where every check passes and so do the tests."""
    for name in TOOLS:
        stand_in(tmp_path / "bin" / name)
    stand_in(tmp_path / "bin" / "pytest", prints=PASSED)
    return tmp_path / "bin"


def run(*command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if name not in {"CI", "MAKEFLAGS", "MAKELEVEL"}}
    words = [str(word) for word in command]
    return subprocess.run(words, cwd=ROOT, env=clean | environment, capture_output=True, text=True, check=False)


def test_the_tests_come_last_and_all_is_well(tools: Path):
    done = run("sh", "scripts/run-checks.sh", tools)
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == PASSED


@pytest.mark.parametrize("name", TOOLS)
def test_one_failed_check_fails_all_though_the_tests_still_run(tools: Path, name: str):
    stand_in(tools / name, status=1)
    done = run("sh", "scripts/run-checks.sh", tools)
    assert done.returncode == 1
    assert PASSED in done.stdout
    assert "These checks failed" in done.stderr


def test_failed_tests_keep_their_status(tools: Path):
    stand_in(tools / "pytest", prints="==== 1 failed in 0.10s ====", status=3)
    assert run("sh", "scripts/run-checks.sh", tools).returncode == 3


def test_a_skipped_test_fails_in_ci_only(tools: Path):
    stand_in(tools / "pytest", prints=SKIPPED)
    assert run("sh", "scripts/run-checks.sh", tools).returncode == 0
    done = run("sh", "scripts/run-checks.sh", tools, CI="true")
    assert done.returncode == 1
    assert "tests were skipped" in done.stderr


@pytest.mark.parametrize("status", [0, 2])
def test_ci_ends_with_the_closing_line_and_the_status(tmp_path: Path, status: int):
    stand_in(tmp_path / "make", prints=f"{PASSED}\n$CI $1\nmake: noise after it", status=status)
    make = (tmp_path / "make").read_text().replace("'", '"')  # let the stand-in's shell fill in CI and the target
    (tmp_path / "make").write_text(make)
    done = run(ROOT / ".ci" / "run", PATH=f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert done.returncode == status
    lines = done.stdout.splitlines()
    assert "true test" in lines
    assert lines[-1] == PASSED


def test_an_older_python_is_refused_by_name(tmp_path: Path):
    stand_in(tmp_path / "python-old", prints="3.10.2", status=1)
    done = run("make", "quickstart", f"VENV={tmp_path / 'venv'}", f"PYTHON={tmp_path / 'python-old'}")
    assert done.returncode != 0
    assert "Huiyan needs Python 3.11 or newer" in done.stderr
    assert "is 3.10.2" in done.stderr
    assert not (tmp_path / "venv").exists()


def test_help_lists_every_target():
    makefile = (ROOT / "Makefile").read_text("utf-8")
    [phony] = [line for line in makefile.splitlines() if line.startswith(".PHONY:")]
    listed = [line.split()[1] for line in run("make").stdout.splitlines() if line.startswith("  make ")]
    assert sorted(listed) == sorted(phony.removeprefix(".PHONY:").split())
