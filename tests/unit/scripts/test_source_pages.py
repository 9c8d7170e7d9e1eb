import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

CONFIG = f"""
site_name: Small
theme: mkdocs
use_directory_urls: false
hooks: [{ROOT / "scripts" / "source_pages.py"}]
plugins: []
validation: {{links: {{not_found: warn, unrecognized_links: warn}}, nav: {{omitted_files: warn}}}}
nav: [index.md, deep/page.md]
"""


def build(folder: Path, index: str) -> subprocess.CompletedProcess[str]:
    """A site of two pages beside a file of code and a notebook."""
    for name, text in {
        "mkdocs.yml": CONFIG,
        "docs/index.md": index,
        "docs/deep/page.md": "[up](../../code/one.py), [page](../index.md)\n",
        "code/one.py": "answer = 42\n",
        "code/book.ipynb": "{}",
    }.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict"],
        cwd=folder,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_links_to_code_lead_to_pages_that_show_it(tmp_path: Path) -> None:
    done = build(tmp_path, "[one](../code/one.py#L1) and [book](../code/book.ipynb)\n")
    assert done.returncode == 0, done.stderr
    site = tmp_path / "site"
    assert 'href="source/code/one.py.html"' in (site / "index.html").read_text("utf-8")
    assert 'href="files/code/book.ipynb"' in (site / "index.html").read_text("utf-8")
    assert 'href="../source/code/one.py.html"' in (site / "deep" / "page.html").read_text("utf-8")
    shown = (site / "source" / "code" / "one.py.html").read_text("utf-8")
    assert "answer = 42" in shown
    assert 'href="../../index.html"' in shown
    assert 'href="../../deep/page.html"' in shown
    assert (site / "files" / "code" / "book.ipynb").read_text("utf-8") == "{}"


@pytest.mark.parametrize("link", ["../code/two.py", "../../elsewhere.py", "gone.md"])
def test_links_to_nothing_still_fail_the_build(tmp_path: Path, link: str) -> None:
    done = build(tmp_path, f"[lost]({link})\n")
    assert done.returncode != 0
    assert link in done.stderr
