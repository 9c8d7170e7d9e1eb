"""`huiyan attention`: maps in words, in a terminal, as PNG and as JSON."""

import io
import json
from pathlib import Path

import pytest
import torch
from rich.cells import cell_len
from rich.console import Console

from huiyan.cli.main import run as command
from huiyan.core.errors import ConfigError, MissingExtraError
from huiyan.workflows import drawing
from huiyan.workflows.attention import Looked, look
from huiyan.workflows.attention_picture import head_table, notebook_table, save_png, terminal_picture
from huiyan.workflows.config import ComputeConfig

TEXT = "good dress 很好 unbelievable!"


@pytest.fixture(scope="module")
def looked(tiny_run: Path) -> Looked:
    return look(tiny_run, TEXT, compute=ComputeConfig(device="cpu"))


def printed(renderable: object, width: int) -> str:
    console = Console(width=width, file=io.StringIO())
    console.print(renderable)
    return console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue] - it is the one above


def test_maps_in_words_are_those_in_pieces_joined(looked: Looked) -> None:
    dense = looked.layers[1][0].to_dense()
    words = looked.in_words(1, 0)
    assert words.shape == (len(looked.words), len(looked.words))
    torch.testing.assert_close(words.sum(1), torch.ones(len(words)))
    one, other = looked.groups[1], looked.groups[-2]
    torch.testing.assert_close(words[1, -2], dense[one][:, other].sum(1).mean())
    assert looked.special == (0, len(looked.words) - 1)
    assert [number for group in looked.groups for number in group] == list(range(len(dense)))


def test_statistics_are_means_over_the_tokens(looked: Looked) -> None:
    rows = looked.statistics()
    assert [(one["layer"], one["head"]) for one in rows][:3] == [(0, 0), (0, 1), (0, 2)] or len(looked.layers[0]) < 3
    one, dense = rows[0], looked.layers[0][0].to_dense()
    assert one["entropy"] == pytest.approx(float(-torch.special.xlogy(dense, dense).sum(1).mean()), abs=1e-5)
    assert one["to_special"] == pytest.approx(float((dense[:, 0] + dense[:, -1]).mean()), abs=1e-5)
    layer, head = looked.telling_head()
    looked.check(layer, head)
    with pytest.raises(ConfigError, match="head option must be from 0 to"):
        looked.check(0, 99)


@pytest.mark.parametrize("width", [40, 80, 160])
def test_the_picture_fits_the_terminal(looked: Looked, width: int) -> None:
    shown = printed(terminal_picture(looked, 0, 1, width=width), width)
    assert "layer 0, head 1" in shown and "looks at" in shown
    assert all(cell_len(line) <= width for line in shown.splitlines())
    assert ("looked at most" in shown) == (width == 40)


def test_texts_are_shown_as_they_are(tiny_run: Path) -> None:
    hostile = look(tiny_run, "[bold]good[/bold] <b> \x1b[31m dress", compute=ComputeConfig(device="cpu"))
    assert "\x1b" not in printed(terminal_picture(hostile, 0, 0), 200)
    assert "looked at most" in printed(head_table(hostile), 200)
    assert "<script>" not in notebook_table([{"most": "<script>", "entropy": 0.5}])
    assert "<table>" in hostile._repr_html_()


def test_png_with_chinese(looked: Looked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    remarks = save_png(looked, path, 0, 0)
    assert len(remarks) == len(drawing.fonts_for("好")[1])  # none where a font has the characters
    assert path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 10_000
    monkeypatch.setattr(drawing, "_CJK", ("No such font",))
    (remark,) = save_png(looked, path, 0, 0)
    assert "fonts-noto-cjk" in remark and drawing.fonts_for("good")[1] == []


def test_without_matplotlib_the_extra_is_named(looked: Looked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'huiyan\[plot\]'"):
        save_png(looked, tmp_path / "a.png", 0, 0)


def test_the_command(tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["attention", str(tiny_run), TEXT, "--heads", "--png", str(tmp_path / "a.png")]) == 0
    captured = capsys.readouterr()
    assert "entropy" in captured.out and "a.png" in captured.err and (tmp_path / "a.png").is_file()
    assert command(["attention", str(tiny_run), TEXT, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["words"][1] == "good" and {"layer", "head", "entropy"} <= found["heads"][0].keys()
    assert found["answer"]["prediction"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["good", "--layer", "1"], "--layer and --head go together"),
        (["good", "--layer", "99", "--head", "0"], "layer option must be from 0"),
        (["good", "bad"], "reads one text"),
        (["a", "b", "c"], "Give one text, or the two of a pair. Got 3"),
        ([" "], "blank"),
    ],
)
def test_mistakes_are_named(tiny_run: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["attention", str(tiny_run), *words]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
