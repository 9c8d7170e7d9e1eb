"""What the README promises about itself and about `make quickstart`."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
READMES = ("README.md", "README.zh-CN.md")


@pytest.mark.parametrize("name", READMES)
def test_a_real_run_stands_in_the_first_forty_lines(name: str) -> None:
    start = "\n".join((ROOT / name).read_text(encoding="utf-8").splitlines()[:40])
    assert "make quickstart" in start
    assert "$ huiyan train examples/data/reviews.train.csv" in start
    assert re.search(r"macro F1 +0\.\d{3} \(0\.\d{3}…0\.\d{3}\)", start)


@pytest.mark.parametrize("name", READMES)
def test_quickstart_runs_what_the_readme_shows(name: str) -> None:
    script = (ROOT / "scripts" / "quickstart.sh").read_text(encoding="utf-8").replace("\\\n", " ")
    run = next(line for line in script.splitlines() if line.startswith("run train"))
    shown = (ROOT / name).read_text(encoding="utf-8").replace("\\\n", " ")
    command = next(line for line in shown.splitlines() if line.startswith("$ huiyan train"))
    out = re.search(r"^out=(\S+)$", script, re.MULTILINE)
    assert out is not None
    expected = run.replace("run train", "huiyan train").replace('"$out"', out.group(1)).replace(" --overwrite", "")
    assert command.removeprefix("$ ").split() == expected.split()
