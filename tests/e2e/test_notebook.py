"""The notebook, run from top to bottom as a reader would."""

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build_notebook", ROOT / "scripts" / "build_notebook.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def stored(script: ModuleType) -> dict[str, Any]:
    return json.loads(script.NOTEBOOK.read_text(encoding="utf-8"))


def shown(cell: dict[str, Any]) -> str:
    """Everything a cell prints and draws."""
    return "\n".join(
        "".join(lines)
        for output in cell.get("outputs", [])
        for lines in ([output["text"]] if "text" in output else output["data"].values())
    )


@pytest.mark.usefixtures("minilm_folder")
def test_it_runs_and_shows_what_is_stored(script: ModuleType, stored: dict[str, Any]) -> None:
    n_threads = torch.get_num_threads()
    try:
        with torch.random.fork_rng():
            now = script.build(script.SOURCE.read_text(encoding="utf-8"))
    finally:
        torch.set_num_threads(n_threads)
    assert [cell["source"] for cell in now["cells"]] == [cell["source"] for cell in stored["cells"]]
    differ = [
        new["id"]
        for old, new in zip(stored["cells"], now["cells"], strict=True)
        if not script.equal_but_for_rounding(shown(old), shown(new))
    ]
    assert differ == []


def test_every_cell_has_been_run_in_order(stored: dict[str, Any]) -> None:
    code = [cell for cell in stored["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == [*range(1, len(code) + 1)]
    assert [cell["id"] for cell in code[1:] if not cell["outputs"]] == []
    assert not any("error" in output["output_type"] for cell in code for output in cell["outputs"])


def test_every_text_is_in_both_languages(stored: dict[str, Any]) -> None:
    texts = ["".join(cell["source"]) for cell in stored["cells"] if cell["cell_type"] == "markdown"]
    chinese = re.compile(r"[\u4e00-\u9fff]{4}")
    assert len(texts) > 10
    for text in texts:
        paragraphs = text.split("\n\n")
        assert any(chinese.search(paragraph) for paragraph in paragraphs), text
        assert any(not chinese.search(paragraph) for paragraph in paragraphs), text


def test_a_cell_gives_what_it_prints_and_what_it_ends_with(script: ModuleType) -> None:
    source = (
        '"""No cell."""\n\n# %% [markdown]\n# # Title\n#\n# text\n\n# %%\nx = 2\nprint("two")\nx + 1\n\n# %%\nx = 5\n'
    )
    title, first, second = script.build(source)["cells"]
    assert "".join(title["source"]) == "# Title\n\ntext"
    assert first["outputs"][0]["text"] == ["two\n"]
    assert first["outputs"][1]["data"] == {"text/plain": ["3"]}
    assert second["outputs"] == []
