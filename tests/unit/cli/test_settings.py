"""Options from a file, the environment and the command line: who counts most, and what is said of mistakes."""

from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from huiyan.cli.main import run as command
from huiyan.cli.settings import with_settings
from huiyan.core.errors import ConfigError
from huiyan.workflows.config import DataConfig, TrainRun


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(
        "file: 评论.csv\nout: runs/a\ntext: [标题, 评论]\nlabel: 情感\nepochs: 7\nlearning-rate: 2.0e-5\n"
        "freeze_words: no\ntrim_vocabulary: true\nearly_exit: false\ntest: null\n",
        encoding="utf-8",
    )
    return path


def test_the_command_line_counts_most_then_the_environment_then_the_file(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HUIYAN_TRAIN_EPOCHS", "9")
    monkeypatch.setenv("HUIYAN_TRAIN_SEED", "3")
    assert command(["config", "--config", str(file), "--seed", "5", "--out", "runs/b"]) == 0
    found = yaml.safe_load(capsys.readouterr().out)
    assert (found["file"], found["out"], found["text"], found["label"]) == (
        "评论.csv",
        "runs/b",
        ["标题", "评论"],
        "情感",
    )
    assert (found["epochs"], found["seed"], found["learning_rate"]) == (9, 5, 2.0e-5)
    assert (found["freeze_words"], found["trim_vocabulary"], found["early_exit"]) == ("no", True, False)
    assert found["batch_tokens"] == 1024 and found["test"] is None


def test_what_is_printed_can_be_read_again(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["config", f"--config={file}"]) == 0
    printed = capsys.readouterr().out
    (tmp_path / "again.yaml").write_text(printed, encoding="utf-8")
    assert command(["config", "--config", str(tmp_path / "again.yaml")]) == 0
    assert capsys.readouterr().out == printed


def test_every_option_of_a_run_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["config", "f.csv", "--text", "t", "--label", "l", "--out", "o"]) == 0
    found = yaml.safe_load(capsys.readouterr().out)
    run = TrainRun(file="f.csv", out="o", data=DataConfig(text=("t",), label="l"))
    options = {name for part in run.to_dict().values() if isinstance(part, dict) for name in part}
    assert set(found) == {"file", "out"} | options


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch: 3", r"has the key 'epoch', which is no option\. Did you mean 'epochs'"),
        ("- 3", "must hold option: value lines"),
        ("a: [", "is not YAML"),
        ("early_exit: perhaps", "early_exit option must be true or false"),
    ],
)
def test_mistakes_are_named(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        with_settings(["train", "--config", str(tmp_path / "run.yaml")], {})


def test_a_file_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["train", "--config", str(tmp_path / "none.yaml")]) == 2
    assert "cannot be read: No such file" in capsys.readouterr().err
    assert command(["train", "--config"]) == 2
    assert "--config needs a file" in capsys.readouterr().err


def test_other_commands_are_left_alone() -> None:
    words = ["predict", "run", "--", "--config", "x"]
    assert with_settings(words, {"HUIYAN_TRAIN_EPOCHS": "3"}) == words


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("epochs: !!python/object/apply:os.getcwd []")
    with pytest.raises(ConfigError, match="is not YAML"):
        with_settings(["train", "--config", str(tmp_path / "run.yaml")], {})


@pytest.mark.parametrize("line", ["label_order: [no, maybe, yes]", "drop_label: [no]", "label: yes"])
def test_what_yaml_makes_a_boolean_must_be_in_quotes(line: str, tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(f"file: a.csv\n{line}\n")
    with pytest.raises(ConfigError, match="YAML reads as true or false") as caught:
        with_settings(["train", "--config", str(path)], {})
    assert caught.value.hint is not None and '"no"' in caught.value.hint


def test_commands_of_two_words_and_presets(tmp_path: Path) -> None:
    file = tmp_path / "lm.yaml"
    file.write_text("texts: [a.txt, b.txt]\npreset: tiny\nlayers: 1\n", encoding="utf-8")
    environment = {"HUIYAN_LM_TRAIN_EPOCHS": "5", "HUIYAN_TRAIN_SEED": "3"}
    words = with_settings(["lm", "train", "--config", str(file), "--width=64", "--out", "o"], environment)
    assert words[:4] == ["lm", "train", "a.txt", "b.txt"]
    options = dict(pairwise(words))
    assert (options["--layers"], options["--epochs"], options["--segment-length"]) == ("1", "5", "64")
    assert "--width=64" in words and "--width" not in words and "--seed" not in words
    assert with_settings(["lm", "score", "r", "--config", str(file)], {}) == ["lm", "score", "r", "--config", str(file)]
    with pytest.raises(ConfigError, match="tinny"):
        with_settings(["lm", "train", "c.txt", "--preset", "tinny"], {})
