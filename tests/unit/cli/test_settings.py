"""Options from a file, the environment and the command line: who counts most, and what is said of mistakes."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from huiyan.cli.main import app, bind
from huiyan.cli.main import run as command
from huiyan.core.errors import ConfigError
from huiyan.workflows.config import DataConfig, TrainRun

COMMANDS = [
    *("check", "train", "config", "evaluate", "predict", "attention", "compress", "plan", "data", "models"),
    *("lm train", "lm evaluate", "lm score", "lm generate", "data fetch", "models fetch"),
]


def options(words: Sequence[str], environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """What a command is called with, by the names of its options."""
    found: dict[str, Any] = {}
    for name, value in bind(words, environment or {})[1].arguments.items():
        found |= asdict(value) if is_dataclass(value) and not isinstance(value, type) else {name: value}
    return found


def yaml_file(folder: Path, text: str) -> str:
    (folder / "options.yaml").write_text(text, encoding="utf-8")
    return str(folder / "options.yaml")


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
    ("words", "text", "environment", "expected"),
    [
        ("check", "text: t\nlabel: l", {"CHECK_FILE": "a.csv", "CHECK_SEED": "3"}, {"file": "a.csv", "seed": 3}),
        ("predict r", "file: a.csv\nprobabilities: true", {"PREDICT_PATIENCE": "2"}, {"patience": 2, "file": "a.csv"}),
        ("predict", "run: r\ntexts: [one, two]", {}, {"run": Path("r"), "texts": ("one", "two")}),
        ("predict r", 'file: "-"', {"PREDICT_OUT": "-"}, {"file": "-", "out": "-"}),
        ("evaluate r", "file: a.csv\njson: b.json", {}, {"run": Path("r"), "file": "a.csv", "json": Path("b.json")}),
        ("attention r", "texts: [one]\nhead: 3", {"ATTENTION_LAYER": "2"}, {"head": 3, "layer": 2, "texts": ("one",)}),
        ("compress r", "data: a.csv\nmax-loss: 2", {"COMPRESS_RANK": "64"}, {"data": "a.csv", "rank": "64"}),
        ("plan", "length: [128, 256]\ntraining: on", {"PLAN_MEMORY": "8"}, {"length": [128, 256], "training": True}),
        ("lm evaluate m t", "streams: 2", {"LM_EVALUATE_SAME_LENGTH": "1"}, {"streams": 2, "same_length": True}),
        ("lm score m t", "png: a.png", {"LM_SCORE_DEVICE": "cpu"}, {"png": Path("a.png"), "device": "cpu"}),
        ("lm generate m t", "stop: [one, two]", {"LM_GENERATE_TOP_K": "5"}, {"stop": ("one", "two"), "top_k": 5}),
        ("data fetch", "name: n", {"DATA_FETCH_OVERWRITE": "yes"}, {"name": "n", "overwrite": True}),
        ("models fetch n", "json: false", {"MODELS_FETCH_REVISION": "main"}, {"json": False, "revision": "main"}),
    ],
)
def test_every_command_takes_options_from_a_file_and_from_the_environment(
    words: str, text: str, environment: dict[str, str], expected: dict[str, Any], tmp_path: Path
) -> None:
    variables = {f"HUIYAN_{name}": value for name, value in environment.items()}
    found = options([*words.split(), "--config", yaml_file(tmp_path, text)], variables)
    assert {name: found[name] for name in expected} == expected


def test_who_counts_most_is_the_same_for_every_command(tmp_path: Path) -> None:
    words = ["predict", "--config", yaml_file(tmp_path, "run: a\nfile: a\ndevice: a\nprefix: a\nprobabilities: true")]
    environment = {f"HUIYAN_PREDICT_{name}": "b" for name in ("FILE", "DEVICE", "PREFIX")}
    found = options([*words, "--prefix", "c", "c"], environment | {"HUIYAN_PREDICT_PROBABILITIES": "false"})
    assert (found["run"], found["file"], found["device"], found["prefix"]) == (Path("c"), "b", "b", "c")
    assert found["probabilities"] is False
    assert options(words, {})["device"] == "a"


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_every_command_says_so(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command([*name.split(), "--help"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    [(variable, value)] = re.findall(r"YAML file \(--config FILE\) and from the environment \((\w+)=(\S+)\)", said)
    place = app
    for word in ("train" if name == "config" else name).split():
        place = place[word]
    known = {argument.field_info.name: argument for argument in place.assemble_argument_collection()}
    prefix = f"HUIYAN_{'train' if name == 'config' else name.replace(' ', '_')}_".upper()
    assert variable.startswith(prefix) and variable.removeprefix(prefix).lower() in known and value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch: 3", r"has the key 'epoch', which is no option of huiyan train\. Did you mean 'epochs'"),
        ("- 3", "must hold option: value lines"),
        ("a: [", "is not YAML"),
        ("early_exit: perhaps", "early_exit option must be true or false"),
        ("seed: []", r"seed option must be one value\. Got \[\] instead"),
        ("text: {a: b}", r"text option must be one value, or a list of them\. Got \{'a': 'b'\} instead"),
    ],
)
def test_mistakes_are_named(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        bind(["train", "--config", yaml_file(tmp_path, text)], {})


@pytest.mark.parametrize(
    ("words", "text", "message"),
    [
        ("predict r t", "devise: cpu", r"'devise', which is no option of huiyan predict\. Did you mean 'device'"),
        ("lm generate m t", "beam: 2", r"'beam', which is no option of huiyan lm generate\. Did you mean 'beams'"),
        ("lm train t", "early_exit: true", r"'early_exit', which is no option of huiyan lm train"),
        ("plan", "compute: cpu", r"'compute', which is no option of huiyan plan"),
    ],
)
def test_a_key_that_is_no_option_of_the_command(words: str, text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        bind([*words.split(), "--config", yaml_file(tmp_path, text)], {})


def test_one_file_serves_check_and_train(tmp_path: Path) -> None:
    words = ["check", "--config", yaml_file(tmp_path, "file: a.csv\ntext: t\nlabel: l\nepochs: 3")]
    assert options(words)["file"] == "a.csv"
    with pytest.raises(ConfigError, match=r"'epoch', which is no option of huiyan check\. Did you mean 'epochs'"):
        bind(["check", "--config", yaml_file(tmp_path, "epoch: 3")], {})


@pytest.mark.parametrize(
    ("name", "rest", "variable", "meant"),
    [
        ("train", "f", "HUIYAN_TRAIN_EPOCH", "HUIYAN_TRAIN_EPOCHS"),
        ("config", "f", "HUIYAN_TRAIN_EPOCH", "HUIYAN_TRAIN_EPOCHS"),
        ("config", "f", "HUIYAN_CONFIG_EPOCHS", "HUIYAN_TRAIN_EPOCHS"),
        ("predict", "r t", "HUIYAN_PREDICT_DEVISE", "HUIYAN_PREDICT_DEVICE"),
        ("lm train", "t", "HUIYAN_LM_TRAIN_LAYER", "HUIYAN_LM_TRAIN_LAYERS"),
        ("lm score", "m t", "HUIYAN_LM_SCORE_FILES", "HUIYAN_LM_SCORE_FILE"),
        ("models", "", "HUIYAN_MODELS_FETCHES", "HUIYAN_MODELS_JSON"),
    ],
)
def test_a_variable_that_is_no_option_is_refused(
    name: str, rest: str, variable: str, meant: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(variable, "3")
    assert command([*name.split(), *rest.split()]) == 2
    assert capsys.readouterr().err == (
        f"huiyan: The environment has {variable}, which is no option of huiyan {name}. "
        f"Did you mean {meant!r}? If you meant none, unset it.\n"
    )


@pytest.mark.parametrize(
    ("words", "variable"),
    [
        ("predict r t", "HUIYAN_TRAIN_EPOCH"),
        ("predict r t", "HUIYAN_CACHE"),
        ("lm score m t", "HUIYAN_LM_TRAIN_LAYER"),
        ("lm score m t", "HUIYAN_SCORE"),
        ("models", "HUIYAN_MODELS_FETCH_REVISIONS"),
        ("config f --text t --label l --out o", "HUIYAN_TRAIN_RESUME"),
        ("check f --text t --label l", "HUIYAN_TRAIN_EPOCH"),
    ],
)
def test_variables_of_others_are_left_alone(words: str, variable: str) -> None:
    assert options(words.split(), {variable: "3"}) == options(words.split())


def test_a_value_that_does_not_fit_is_told_with_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(["plan", "--config", yaml_file(tmp_path, "length: 9\nbatch-tokens: many")]) == 2
    told = f"Invalid value for batch_tokens from {tmp_path / 'options.yaml'}: unable to convert"
    assert told in capsys.readouterr().err
    assert command(["plan", "--config", yaml_file(tmp_path, "length: 9\nmemory: [1, 2]")]) == 2
    assert "memory option must be one value. Got [1, 2] instead" in capsys.readouterr().err
    monkeypatch.setenv("HUIYAN_PLAN_LENGTH", "long")
    assert command(["plan"]) == 2
    assert "HUIYAN_PLAN_LENGTH from the environment" in capsys.readouterr().err


def test_a_file_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["train", "--config", str(tmp_path / "none.yaml")]) == 2
    assert "cannot be read: No such file" in capsys.readouterr().err
    for words in (["train", "--config"], ["train", "--config="], ["train", "--config", ""]):
        assert command(words) == 2
        assert "--config needs a file" in capsys.readouterr().err


def test_what_stands_after_two_hyphens_is_text() -> None:
    assert options(["predict", "run", "--", "--config", "x"])["texts"] == ("--config", "x")


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not YAML"):
        bind(["train", "--config", yaml_file(tmp_path, "epochs: !!python/object/apply:os.getcwd []")], {})


@pytest.mark.parametrize("line", ["label_order: [no, maybe, yes]", "drop_label: [no]", "label: yes"])
def test_what_yaml_makes_a_boolean_must_be_in_quotes(line: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="YAML reads as true or false") as caught:
        bind(["train", "--config", yaml_file(tmp_path, f"file: a.csv\n{line}\n")], {})
    assert caught.value.hint is not None and '"no"' in caught.value.hint


def test_presets_count_least(tmp_path: Path) -> None:
    file = yaml_file(tmp_path, "texts: [a.txt, b.txt]\npreset: tiny\nlayers: 1\n")
    environment = {"HUIYAN_LM_TRAIN_EPOCHS": "5", "HUIYAN_TRAIN_SEED": "3"}
    found = options(["lm", "train", "--config", file, "--width=64", "--out", "o"], environment)
    assert found["texts"] == ("a.txt", "b.txt")
    assert (found["layers"], found["epochs"], found["segment_length"]) == (1, 5, 64)
    assert (found["width"], found["seed"]) == (64, 0)
    found = options(["lm", "train", "c.txt", "--config", file, "--preset", "small", "--out", "o"])
    assert (found["texts"], found["layers"], found["width"]) == (("c.txt",), 1, 256)
    found = options(["lm", "train", "c.txt", "--preset", "lm1b-base", "--out", "o"])
    assert found["cutoffs"] and found["own_projections"]
    file = yaml_file(tmp_path, "preset: lm1b-base\ncutoffs: []\nown_projections: false\n")
    found = options(["lm", "train", "c.txt", "--config", file, "--out", "o"])
    assert (found["cutoffs"], found["own_projections"]) == ((), False)
    with pytest.raises(ConfigError, match="tinny"):
        bind(["lm", "train", "c.txt", "--preset", "tinny", "--out", "o"], {})
