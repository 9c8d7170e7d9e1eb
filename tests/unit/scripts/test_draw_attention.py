import importlib
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree as ET

import pytest

ROOT = Path(__file__).parents[3]
IMAGES = ROOT / "docs" / "images" / "attention"
PAGES = [ROOT / "docs" / name for name in ("attention.md", "attention.zh-CN.md")]
OF_MINILM = {"maps", "positions"}
NAMES = ["steps", "scale", "masks", "corner", "blocks", "order", "positions", "heads", "maps", "dropout", "cost"]


@pytest.fixture(scope="module")
def scripts():
    """The two scripts and the pictures of the examples, which they import as neighbours."""
    folders = [str(ROOT / "scripts"), str(ROOT / "examples")]
    sys.path[:0] = folders
    try:
        names = ("draw_attention", "build_notebook", "pictures", "peak")
        yield SimpleNamespace(**{name: importlib.import_module(name) for name in names})
    finally:
        for folder in folders:
            sys.path.remove(folder)


@pytest.mark.parametrize("name", NAMES)
def test_the_committed_picture_is_what_the_code_draws(scripts, name: str, request: pytest.FixtureRequest) -> None:
    if name in OF_MINILM:
        request.getfixturevalue("minilm_folder")
    draw, label = scripts.draw_attention.PICTURES[name]
    committed = (IMAGES / f"{name}.svg").read_text(encoding="utf-8")
    assert scripts.build_notebook.equal_but_for_rounding(committed, draw().svg(label))
    ET.fromstring(committed)


def test_every_picture_is_drawn_committed_and_on_both_pages(scripts) -> None:
    assert set(NAMES) == set(scripts.draw_attention.PICTURES) == {path.stem for path in IMAGES.iterdir()}
    for page in PAGES:
        shown = re.findall(r"!\[([^\]]+)\]\(images/attention/(\w+)\.svg\)", page.read_text(encoding="utf-8"))
        assert sorted(name for _, name in shown) == sorted(NAMES)


def test_both_pages_have_the_same_code_and_links() -> None:
    english, chinese = (page.read_text(encoding="utf-8") for page in PAGES)

    def links(text: str) -> set[str]:
        return set(re.findall(r"\]\((\.\./[^)]+)\)", text))

    def code(text: str) -> list[str]:
        return re.findall(r"^```(?:python|sh)\n.*?^```", text, re.DOTALL | re.MULTILINE)

    assert links(english) == links(chinese)
    assert code(english) == code(chinese)
    assert [link for link in links(english) if not (ROOT / "docs" / link).is_file()] == []
    assert {"../src/huiyan/attention/oracle.py", "../src/huiyan/attention/kernels/blockwise.py"} <= links(english)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_the_code_of_the_page_runs(page: Path) -> None:
    [code] = re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    names: dict[str, object] = {}
    exec(code, names)
    assert names["out"].shape == (2, 8, 300, 64)
    assert names["rows"].shape == (450, 512)


def test_texts_are_compared_by_number_and_by_word(scripts) -> None:
    equal = scripts.build_notebook.equal_but_for_rounding
    assert equal("a 0.12, −3.4", "a  0.13,\n−3.4")
    assert equal("error 3e-15", "error 1e-16")
    assert not equal("a 0.12", "a 0.14")
    assert not equal("a 0.12", "b 0.12")
    assert not equal("7 tokens", "8 tokens")
    assert not equal("error 3e-15", "error 3e-3")


def test_a_heat_map_writes_its_numbers_and_colours_by_sign(scripts) -> None:
    svg = scripts.pictures.heat_map([[1.0, -0.5], [0.0, -0.001]], rows=["<a>", "b"], columns=["x", "y"]).svg()
    root = ET.fromstring(svg)
    texts = [element.text for element in root.findall(".//{*}text")]
    assert texts == ["x", "y", "<a>", "b", "1.00", "−0.50", "0.00", "0.00"]
    filled = [element.attrib for element in root.findall(".//{*}rect") if "fill-opacity" in element.attrib]
    assert [(one["fill"], one["fill-opacity"]) for one in filled] == [
        (scripts.pictures.PLUS, "1.00"),
        (scripts.pictures.MINUS, "0.50"),
    ]


def test_peak_memory_counts_what_is_held_at_once(scripts) -> None:
    import torch

    given = torch.zeros(1000)  # 4,000 bytes, there before and not counted

    def one_after_the_other() -> torch.Tensor:
        for _ in range(5):
            kept = given + 1
        return kept

    def all_at_once() -> list[torch.Tensor]:
        return [given + 1 for _ in range(5)]

    assert scripts.peak.peak_bytes(lambda: given.view(10, 100)) == 0
    assert scripts.peak.peak_bytes(one_after_the_other) == 8000
    assert scripts.peak.peak_bytes(all_at_once) == 20000
