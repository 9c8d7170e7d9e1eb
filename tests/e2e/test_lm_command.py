"""`huiyan lm generate`, on real files of every part, as its user would call it."""

import io
import json
import sys
from pathlib import Path

import pytest
import torch
import transformers
from tests.pieces import ENGLISH, train_pieces

from huiyan.cli.main import run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small T5 that says in generation_config.json how it writes."""
    folder = tmp_path_factory.mktemp("t5")
    torch.manual_seed(0)
    config = transformers.T5Config(
        vocab_size=600, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, decoder_start_token_id=0
    )
    model = transformers.T5ForConditionalGeneration(config)
    model.generation_config.max_new_tokens = 9
    model.save_pretrained(folder)
    train_pieces(folder / "spiece.model", ENGLISH, vocab_size=500, pad_id=0, eos_id=1, unk_id=2, bos_id=-1)
    return folder


def test_a_text_is_written_as_it_comes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["lm", "generate", str(folder), "how to train"]) == 0
    text = capsys.readouterr().out
    assert run(["lm", "generate", str(folder), "how to train", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["prompt"], found["text"] + "\n", found["ended"]) == ("how to train", text, "length")
    assert found["tokens"] == 9


def test_texts_come_from_a_file(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "texts.txt").write_text("one\ntwo 第二\n", encoding="utf-8")
    options = ["--beams", "3", "--best", "2", "--max-tokens", "6", "--precision", "fp32", "--device", "cpu", "--json"]
    assert run(["lm", "generate", str(folder), "--file", str(tmp_path / "texts.txt"), *options]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["prompt"] for one in found] == ["one", "one", "two 第二", "two 第二"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("one\ntwo 第二\n".encode()), encoding="utf-8"))
    assert run(["lm", "generate", str(folder), "--file", "-", *options]) == 0
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == found


def test_a_seed_draws_the_same_again(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told: list[str] = []
    for seed in ("1", "1", "2"):
        assert run(["lm", "generate", str(folder), "a", "--temperature", "2", "--top-k", "50", "--seed", seed]) == 0
        told.append(capsys.readouterr().out)
    assert told[0] == told[1] != told[2]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "There is no text to go on with"),
        (["a", "--temperature", "0"], "temperature"),
        (["a", "--best", "3"], "--best 3 asks for more"),
        (["a", "--beams", "2", "--top-p", "0.9"], "--top-p draws tokens"),
        (["a", "--file", "nowhere.txt"], "nowhere.txt cannot be read"),
        (["a", "--stop", ""], "stops"),
        (["a", "--sample", "--beams", "2"], "sample"),
    ],
)
def test_a_mistake_is_one_line(
    words: list[str], message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["lm", "generate", str(folder), *words]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""
    assert "Traceback" not in captured.err


def test_a_folder_that_is_none_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["lm", "generate", str(tmp_path / "nothing"), "a"]) != 0
    assert "config.json" in capsys.readouterr().err
