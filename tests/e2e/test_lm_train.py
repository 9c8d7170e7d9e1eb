"""`huiyan lm train`, `evaluate`, `score` and `generate`, as their user would call them, on the project's own pages."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from huiyan.cli.main import run
from huiyan.models.segment_checkpoint import load_segment_model
from huiyan.workflows.language.config import LanguageOptions, LanguageRun, LanguageTrainingConfig, TextConfig
from huiyan.workflows.language.train import train_language_model
from huiyan.workflows.writing import TextWriter

PAGES = Path(__file__).parents[2] / "docs"
SMALL = [
    *("--layers", "2", "--width", "32", "--heads", "2", "--segment-length", "32", "--memory-length", "32"),
    *("--batch-tokens", "512", "--epochs", "1", "--precision", "fp32", "--device", "cpu", "--learning-rate", "3e-3"),
]
PROGRAM = [sys.executable, "-c", "from huiyan.cli.main import main; main()"]


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two of the project's pages, English with some Chinese."""
    path = tmp_path_factory.mktemp("text") / "pages.txt"
    pages = [(PAGES / name).read_text(encoding="utf-8") for name in ("attention.md", "attention.zh-CN.md")]
    path.write_text("".join(pages), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def trained(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Transformer-XL of characters."""
    out = tmp_path_factory.mktemp("run") / "xl"
    assert run(["lm", "train", str(text), "--tokens", "chars", "--out", str(out), *SMALL]) == 0
    return out


def test_text_becomes_a_model_with_a_report(trained: Path) -> None:
    report = json.loads((trained / "report.json").read_text())
    assert report["test"]["bits_per_character"] < 6.5
    parts = report["text"]["parts"]
    assert parts["validation"]["characters"] == pytest.approx(parts["test"]["characters"], rel=0.2)
    assert sum(part["tokens"] for part in parts.values()) == sum(part["characters"] for part in parts.values())
    assert len(report["sample"]["text"]) == 200
    page = (trained / "report.html").read_text(encoding="utf-8")
    assert "bits a character" in page and "<polyline" in page and "What surprises it" in page
    assert not (trained / "tokens").exists() and not (trained / "checkpoint").exists()
    assert json.loads((trained / "run.json").read_text())["status"] == "finished"


@pytest.mark.parametrize("model", ["transformer", "lstm"])
def test_the_other_models_learn_read_and_write(
    model: str, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / model
    options = ["--model", model, "--tokens", "bytes", "--json", str(tmp_path / "report.json")]
    assert run(["lm", "train", str(text), "--out", str(out), *SMALL, *options]) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["test"]["bits_per_byte"] < 7
    assert run(["lm", "evaluate", str(out), str(text), "--json", str(tmp_path / "test.json")]) == 0
    found = json.loads((tmp_path / "test.json").read_text())
    assert found["counts"]["bytes"] == text.stat().st_size
    assert found["test"]["bits_per_byte"] < 7
    capsys.readouterr()
    assert run(["lm", "generate", str(out), "Attention", "--max-tokens", "9", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tokens"] == 9
    assert run(["lm", "score", str(out), "Attention 注意力", "--json"]) == 0
    scored = json.loads(capsys.readouterr().out)
    assert [part["text"] for part in scored["parts"]] == list("Attention 注意力")
    assert scored["tokens"] == len("Attention 注意力".encode())


def test_another_memory_at_evaluation(trained: Path, text: Path, tmp_path: Path) -> None:
    found: list[dict[str, Any]] = []
    for more in (["--memory-length", "1"], ["--memory-length", "64", "--same-length", "--clamp-length", "32"]):
        options = [*more, "--segment-length", "8", "--json", str(tmp_path / "found.json")]
        assert run(["lm", "evaluate", str(trained), str(text), *options]) == 0
        found.append(json.loads((tmp_path / "found.json").read_text()))
    assert found[1]["test"]["loss"] < found[0]["test"]["loss"]
    read = found[1]["read"]
    assert (read["memory_length"], read["same_length"], read["clamp_length"]) == (64, True, 32)
    assert run(["lm", "evaluate", str(trained), str(text), "--memory-length", "0"]) == 0
    assert run(["lm", "evaluate", str(trained)]) == 2


def test_a_score_is_a_picture(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["lm", "score", str(trained), "Attention $x$ is", "--png", str(tmp_path / "score.png")]) == 0
    told = capsys.readouterr().out
    assert "Attention $x$ is" in told and "bits a character" in told
    assert (tmp_path / "score.png").read_bytes().startswith(b"\x89PNG")
    given = "cat\x0cdog\u2028the\n\n慧"
    (tmp_path / "text.txt").write_text(given, encoding="utf-8", newline="")
    assert run(["lm", "score", str(trained), "--file", str(tmp_path / "text.txt"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert "".join(part["text"] for part in found["parts"]) == given and found["unknown"] >= 1
    assert run(["lm", "score", str(trained), "a 慧"]) == 0
    assert "tokens are unknown to the model" in capsys.readouterr().err


def test_turns_go_on_with_what_is_remembered(
    trained: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = TextWriter.load(trained, device="cpu", max_tokens=12)
    session = writer.session()
    first = "".join(session.go_on("The map"))
    second = "".join(session.go_on("\nand then"))
    assert "".join(writer.stream("The map")) == first
    # All at once, it goes on as it did by turns.
    assert "".join(writer.stream(f"The map{first}\nand then")) == second
    assert session.tokens == len(f"The map{first}\nand then{second}")
    monkeypatch.setattr(sys, "stdin", io.StringIO("The map\nand then\n"))
    assert run(["lm", "generate", str(trained), "--turns", "--max-tokens", "12", "--device", "cpu"]) == 0
    assert capsys.readouterr().out == f"{first}\n{second}\n"


def test_presets_and_files_of_options(text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "lm.yaml").write_text(f"texts: [{text}]\npreset: tiny\nlayers: 1\ntokens: chars\nepochs: 1\n")
    out = tmp_path / "out"
    options = ["--out", str(out), "--width", "16", "--batch-tokens", "512"]
    assert run(["lm", "train", "--config", str(tmp_path / "lm.yaml"), *options]) == 0
    config = json.loads((out / "config.json").read_text())
    assert (config["n_layer"], config["d_model"], config["n_head"], config["mem_len"]) == (1, 16, 4, 64)
    assert run(["lm", "train", str(text), "--out", str(tmp_path / "no"), "--preset", "tinny"]) == 2
    assert "tiny" in capsys.readouterr().err


def test_what_cannot_be_is_said_before_anything_is_written(
    trained: Path, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "out")
    for words, told in (
        ([str(text), "--model", "lstm", "--objective", "mlm"], "both sides"),
        ([str(text), "--model", str(tmp_path / "none")], "no folder"),
        ([str(text), "--batch-tokens", "8"], "segment_length"),
        ([str(tmp_path / "none.txt")], "not there"),
        ([str(text), "--model", "transformer", "--cutoffs", "9"], "--cutoffs is for"),
    ):
        assert run(["lm", "train", *words, "--out", out]) == 2
        assert told in capsys.readouterr().err
        assert not Path(out).exists()
    assert run(["lm", "train", str(text), "--out", str(trained)]) == 2
    assert "exists already" in capsys.readouterr().err


def test_a_run_that_is_killed_goes_on_to_the_same_weights(text: Path, tmp_path: Path) -> None:
    longer = ["4" if SMALL[at - 1] == "--epochs" else word for at, word in enumerate(SMALL)]
    options = ["--tokens", "chars", *longer]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert run(["lm", "train", str(text), "--out", str(whole), *options]) == 0
    command = [*PROGRAM, "lm", "train", str(text), "--out", str(parts), *options, "--checkpoint-minutes", "0.001"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    last = parts / "checkpoint" / "last.safetensors"
    until = time.monotonic() + 60
    while not last.exists() and time.monotonic() < until and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert last.exists() and not (parts / "report.json").exists()
    resumed = [*command, "--resume"]
    subprocess.run(resumed, check=True, capture_output=True)
    one, other = load_file(whole / "model.safetensors"), load_file(parts / "model.safetensors")
    assert one.keys() == other.keys()
    assert all(bool((one[name] == other[name]).all()) for name in one)


def test_two_processes_are_one_with_the_batch_doubled(text: Path, tmp_path: Path) -> None:
    def configured(out: str, batch_tokens: int) -> LanguageRun:
        model = LanguageOptions(layers=1, width=16, heads=2, segment_length=16, memory_length=16, dropout=0.0)
        training = LanguageTrainingConfig(epochs=1, batch_tokens=batch_tokens, precision="fp32", device="cpu")
        return LanguageRun(
            texts=(str(text),), out=str(tmp_path / out), text=TextConfig(tokens="chars"), model=model, training=training
        )

    report = train_language_model(configured("one", 512))
    assert report is not None
    words = [
        *("--tokens", "chars", "--layers", "1", "--width", "16", "--heads", "2", "--segment-length", "16"),
        *("--memory-length", "16", "--dropout", "0", "--epochs", "1", "--precision", "fp32", "--device", "cpu"),
        *("--batch-tokens", "256"),
    ]
    script = tmp_path / "train.py"
    script.write_text("from huiyan.cli.main import main\nmain()\n")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "0"]
    torchrun = [*torchrun[:-2], "--standalone", str(script)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [*torchrun, "lm", "train", str(text), "--out", str(tmp_path / "two"), *words]
    subprocess.run(command, check=True, capture_output=True, env=environment)
    both = json.loads((tmp_path / "two" / "report.json").read_text())
    assert both["run"]["processes"] == 2
    curves = [[entry["train_loss"] for entry in one["training"]["history"]] for one in (report, both)]
    assert len(curves[0]) == len(curves[1]) > 10
    assert curves[0] == pytest.approx(curves[1], rel=1e-4)
    assert both["test"]["loss"] == pytest.approx(report["test"]["loss"], rel=1e-4)


@pytest.mark.parametrize("broken", ["first", "second", "taken"])
def test_a_process_that_fails_tells_why_and_nobody_waits_for_it(broken: str, text: Path, tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(
        "import os\n"
        "from huiyan.cli.main import main\n"
        "from huiyan.workflows.language.causal import CausalLearner\n"
        "def fail(self, *_):\n"
        "    raise OSError(28, 'No space left on device')\n"
        f"if os.environ['RANK'] == {str(['first', 'second', 'taken'].index(broken))!r}:\n"
        "    CausalLearner.measure = fail\n"
        "main()\n"
    )
    out = tmp_path / "out"
    if broken == "taken":
        out.mkdir()
        (out / "somebody's").touch()
    words = ["lm", "train", str(text), "--out", str(out), "--tokens", "chars", "--layers", "1", "--width", "16"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone", str(script)]
    run = subprocess.run(
        [*torchrun, *words, "--heads", "2", "--epochs", "1"], capture_output=True, text=True, timeout=120, check=False
    )
    assert run.returncode != 0
    assert ("No space left" if broken != "taken" else "exists already") in run.stderr


def test_going_on_from_a_model_keeps_its_tokens(trained: Path, text: Path, tmp_path: Path) -> None:
    out = tmp_path / "on"
    options = ["--model", str(trained), "--segment-length", "32", "--epochs", "1", "--learning-rate", "1e-3"]
    assert run(["lm", "train", str(text), "--out", str(out), *options]) == 0
    assert (out / "tokenizer.json").read_bytes() == (trained / "tokenizer.json").read_bytes()
    before, after = (json.loads((one / "report.json").read_text())["test"]["loss"] for one in (trained, out))
    assert after < before
    assert load_segment_model(out).vocab_size == load_segment_model(trained).vocab_size


def test_an_encoder_is_pretrained_and_learns_labels(text: Path, tmp_path: Path) -> None:
    out = tmp_path / "encoder"
    options = ["--objective", "mlm", "--tokens", "bpe", "--vocab-size", "600"]
    assert run(["lm", "train", str(text), "--out", str(out), *SMALL, *options]) == 0
    report = json.loads((out / "report.json").read_text())
    assert 0 < report["test"]["masked_accuracy"] < 1
    assert "bits_per_character" not in report["test"]
    rows = "".join(f"{'good' if n % 2 else 'bad'} day number {n},{'yes' if n % 2 else 'no'}\n" for n in range(120))
    (tmp_path / "table.csv").write_text("text,label\n" + rows)
    table, run_folder = str(tmp_path / "table.csv"), str(tmp_path / "labels")
    words = [table, "--text", "text", "--label", "label", "--model", str(out), "--out", run_folder, "--epochs", "1"]
    assert run(["train", *words]) == 0
    # And on from it, with its own tokens.
    more = ["--objective", "mlm", "--model", str(out), "--segment-length", "32", "--epochs", "1"]
    assert run(["lm", "train", str(text), "--out", str(tmp_path / "more"), *more]) == 0
    assert (tmp_path / "more" / "tokenizer.json").read_bytes() == (out / "tokenizer.json").read_bytes()


def test_an_encoder_is_measured_again_by_the_command(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, held, found = tmp_path / "encoder", tmp_path / "held.txt", tmp_path / "found.json"
    held.write_text("".join(text.read_text(encoding="utf-8").splitlines(keepends=True)[:40]), encoding="utf-8")
    options = ["--objective", "mlm", "--tokens", "bpe", "--vocab-size", "600", "--test", str(held)]
    assert run(["lm", "train", str(text), "--out", str(out), *SMALL, *options]) == 0
    report = json.loads((out / "report.json").read_text())
    length = ["--segment-length", SMALL[SMALL.index("--segment-length") + 1]]
    assert run(["lm", "evaluate", str(out), str(held), *length, "--json", str(found)]) == 0
    again = json.loads(found.read_text())
    assert again["test"] == pytest.approx(report["test"])
    assert 0.1 < again["read"]["hidden"] / again["read"]["tokens"] < 0.16
    capsys.readouterr()
    assert run(["lm", "evaluate", str(out), str(held), "--streams", "2"]) == 2
    assert "guesses hidden words" in capsys.readouterr().err


def test_an_encoder_without_a_head_cannot_be_measured(
    text: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["lm", "evaluate", str(tiny_model), str(text)]) == 2
    assert "lacks weights" in capsys.readouterr().err
