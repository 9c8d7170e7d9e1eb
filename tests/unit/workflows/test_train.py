"""The main job, on a model small enough to train in a test."""

import csv
import json
import os
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from huiyan.core.errors import ColumnError, ConfigError, DataError, NonFiniteLossError, OutputError
from huiyan.models.carried import DEFAULT_MODEL, MULTILINGUAL_MODEL
from huiyan.training.progress import Silent
from huiyan.workflows.config import TrainRun
from huiyan.workflows.models import model_for
from huiyan.workflows.run_folder import replacing
from huiyan.workflows.train import command_line, language_warnings, train


class Notes(Silent):
    """Remembers what it was told; after ``stop_after`` steps it sends what Ctrl-C sends."""

    def __init__(self, stop_after: int = -1) -> None:
        self.notes: list[str] = []
        self.stop_after = stop_after

    def note(self, text: str) -> None:
        self.notes.append(text)

    def step(self, step: int, **_: float) -> None:
        if step == self.stop_after:
            os.kill(os.getpid(), signal.SIGINT)


Options = Callable[..., TrainRun]
Write = Callable[..., Path]


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def append_rows(path: Path, rows: list[list[str]]) -> None:
    with path.open("a", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)


def test_the_folder_holds_everything_and_the_model_learned(tiny_run: Path) -> None:
    names = {path.name for path in tiny_run.iterdir()}
    assert names == {
        "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
        "huiyan.json", "run.json", "report.json", "report.html", "README.md", "splits.jsonl", "profile.json",
    }  # fmt: skip
    report = json.loads((tiny_run / "report.json").read_text(encoding="utf-8"))
    assert report["data"]["splits"] == {"train": 192, "validation": 24, "test": 24}
    assert report["test"]["metrics"]["accuracy"]["value"] > 0.9
    assert report["test"]["metrics"]["accuracy"]["low"] <= report["test"]["metrics"]["accuracy"]["value"]
    assert [baseline["name"] for baseline in report["baselines"]]
    assert all(baseline["comparison"]["words"] for baseline in report["baselines"])


def test_run_json_says_how_to_do_it_again(tiny_run: Path) -> None:
    run = json.loads((tiny_run / "run.json").read_text(encoding="utf-8"))
    assert run["status"] == "finished" and run["seed"] == 0
    assert run["versions"]["torch"] == torch.__version__
    assert run["machine"]["threads"] == torch.get_num_threads()
    assert set(run["timings_s"]) == {"total", "training", "evaluation"}
    assert set(run["data_fingerprint"]) == {"train", "validation", "test"}
    options = TrainRun.from_dict(run["config"])
    assert options.data.text == ("review",) and options.training.batch_tokens == 512 and options.out == str(tiny_run)
    folder = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    assert (run["commit"] or "").startswith(folder.stdout.strip())
    assert run["command"].startswith("huiyan train ") and "--text review --label sentiment" in run["command"]


def test_the_same_seed_gives_the_same_model(
    tiny_model: Path, tiny_options: Options, write_reviews: Write, tmp_path: Path
) -> None:
    file = write_reviews(tmp_path / "r.csv", 80)
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        train(tiny_options(file, tiny_model, tmp_path / name, epochs=1, seed=seed))
    weights = {name: load_file(tmp_path / name / "model.safetensors") for name in "abc"}
    assert all(torch.equal(weights["a"][key], weights["b"][key]) for key in weights["a"])
    assert not all(torch.equal(weights["a"][key], weights["c"][key]) for key in weights["a"])
    assert (tmp_path / "a" / "splits.jsonl").read_text() == (tmp_path / "b" / "splits.jsonl").read_text()
    assert (tmp_path / "a" / "splits.jsonl").read_text() != (tmp_path / "c" / "splits.jsonl").read_text()


def test_rows_that_cannot_be_used_are_listed_with_the_reason(
    tiny_model: Path, tiny_options: Options, write_reviews: Write, tmp_path: Path
) -> None:
    file = write_reviews(tmp_path / "r.csv", 60)
    append_rows(file, [["60", "", "s", "positive"], ["61", "good", "s", ""], ["62", "too", "few"]])
    said = Notes()
    report = train(tiny_options(file, tiny_model, tmp_path / "out", epochs=1), reporter=said)
    assert report is not None
    rejected = lines(tmp_path / "out" / "rejected.jsonl")
    assert [row["line"] for row in rejected] == [62, 63, 64]
    assert [row["reason"].partition(":")[0] for row in rejected][:2] == ["no text", "no label"]
    assert report["data"]["rows_rejected"] == 3 and report["data"]["rows_read"] == 63
    assert any("set aside 3 rows" in note for note in said.notes)


def test_given_files_are_respected_and_test_never_validates(
    tiny_model: Path, tiny_options: Options, write_reviews: Write, tmp_path: Path
) -> None:
    file, test = write_reviews(tmp_path / "r.csv", 100), write_reviews(tmp_path / "t.csv", 40, seed=9)
    append_rows(test, [["x", "good dress", "s", "ecstatic"]])
    report = train(tiny_options(file, tiny_model, tmp_path / "out", data={"test": str(test)}, epochs=1))
    assert report is not None
    splits = Counter(
        (Path(row["source"].rpartition(":")[0]).name, row["split"]) for row in lines(tmp_path / "out" / "splits.jsonl")
    )
    assert splits == {("r.csv", "train"): 90, ("r.csv", "validation"): 10, ("t.csv", "test"): 40}
    (rejected,) = lines(tmp_path / "out" / "rejected.jsonl")
    assert rejected["reason"] == "label not among the training rows: 'ecstatic'"

    validation = write_reviews(tmp_path / "v.csv", 20, seed=4)
    both = {"test": str(test), "validation": str(validation)}
    report = train(tiny_options(file, tiny_model, tmp_path / "out2", data=both, epochs=1))
    assert report is not None and report["data"]["splits"] == {"train": 100, "validation": 20, "test": 40}
    report = train(tiny_options(file, tiny_model, tmp_path / "out3", data={"validation": str(validation)}, epochs=1))
    assert report is not None and report["data"]["splits"] == {"train": 90, "validation": 20, "test": 10}


def test_texts_in_both_files_are_said(
    tiny_model: Path, tiny_options: Options, write_reviews: Write, tmp_path: Path
) -> None:
    file = write_reviews(tmp_path / "r.csv", 60)
    test = Path(shutil.copyfile(file, tmp_path / "t.csv"))
    append_rows(test, [["x", "good dress", "s", "ecstatic"]])
    report = train(tiny_options(file, tiny_model, tmp_path / "out", data={"test": str(test)}, epochs=1))
    assert report is not None
    said = "Test texts that are among the train texts as well: 60 of 60"
    assert any(said in text for text in report["warnings"])


def test_groups_stay_together(tiny_model: Path, tiny_options: Options, write_reviews: Write, tmp_path: Path) -> None:
    file = write_reviews(tmp_path / "r.csv", 210)
    train(tiny_options(file, tiny_model, tmp_path / "out", data={"group": "shop"}, epochs=1))
    with file.open(encoding="utf-8") as table:
        shops = [row["shop"] for row in csv.DictReader(table)]
    where: dict[str, set[str]] = {}
    for row in lines(tmp_path / "out" / "splits.jsonl"):
        where.setdefault(shops[int(row["source"].rpartition(":")[2]) - 2], set()).add(row["split"])
    assert len(where) == 7 and all(len(splits) == 1 for splits in where.values())


def test_an_interrupted_run_leaves_a_usable_model_and_goes_on(
    tiny_model: Path, tiny_options: Options, write_reviews: Write, tmp_path: Path
) -> None:
    from huiyan.workflows.predict import predict_texts

    file = write_reviews(tmp_path / "r.csv", 120)
    train(tiny_options(file, tiny_model, tmp_path / "whole", epochs=2))
    options = tiny_options(file, tiny_model, tmp_path / "broken", epochs=2)
    assert train(options, reporter=Notes(stop_after=4)) is None
    assert json.loads((tmp_path / "broken" / "run.json").read_text())["status"] == "interrupted"
    assert predict_texts(tmp_path / "broken", ["good"])[0]["prediction"] in ("negative", "positive")
    with pytest.raises(OutputError, match=r"exists already. Use --resume to go on"):
        train(options)
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        with pytest.raises(ConfigError, match=rf"OMP_NUM_THREADS={threads} to --resume"):
            train(options, resume=True)
    finally:
        torch.set_num_threads(threads)
    assert train(options, resume=True) is not None
    whole, broken = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "broken"))
    assert all(torch.equal(whole[key], broken[key]) for key in whole)
    assert not (tmp_path / "broken" / "checkpoint").exists()
    with pytest.raises(OutputError, match="is finished: there is nothing to resume"):
        train(options, resume=True)


def test_out_is_refused_before_any_work(
    tiny_model: Path, tiny_options: Options, tiny_run: Path, tmp_path: Path
) -> None:
    missing = tmp_path / "missing.csv"
    with pytest.raises(OutputError, match=r"exists already.*--overwrite"):
        train(tiny_options(missing, tiny_model, tiny_run))
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.doc").write_text("years of work")
    with pytest.raises(OutputError, match="no run of Huiyan wrote"):
        train(tiny_options(missing, tiny_model, foreign), overwrite=True)
    assert (foreign / "thesis.doc").exists()
    with pytest.raises(OutputError, match="give one of them"):
        train(tiny_options(missing, tiny_model, tmp_path / "x"), resume=True, overwrite=True)
    with pytest.raises(OutputError, match="is a file"):
        train(tiny_options(missing, tiny_model, foreign / "thesis.doc"))


def test_unusable_data_leaves_the_old_run_alone(
    tiny_model: Path, tiny_options: Options, write_reviews: Write, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    train(tiny_options(write_reviews(tmp_path / "r.csv", 60), tiny_model, out, epochs=1))
    before = sorted(path.name for path in out.iterdir())
    small = write_reviews(tmp_path / "small.csv", 19)
    with pytest.raises(DataError, match="At least 20 usable rows"):
        train(tiny_options(small, tiny_model, out), overwrite=True)
    assert sorted(path.name for path in out.iterdir()) == before


@pytest.mark.parametrize("options", [{"precision": "fp16"}, {"device": "cuda:99"}])
def test_options_that_cannot_be_leave_the_old_run_alone(
    tiny_model: Path, tiny_options: Options, write_reviews: Write, tmp_path: Path, options: dict[str, str]
) -> None:
    file, out = write_reviews(tmp_path / "r.csv", 40), tmp_path / "out"
    train(tiny_options(file, tiny_model, out, epochs=1))
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(ConfigError):
        train(tiny_options(file, tiny_model, out, **options), overwrite=True)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert train(tiny_options(file, tiny_model, out, epochs=1, seed=1), overwrite=True) is not None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "r.csv"]


def test_overwrite_never_deletes_what_it_reads(
    tiny_model: Path, tiny_options: Options, write_reviews: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    train(tiny_options(write_reviews(tmp_path / "r.csv", 40), tiny_model, out, epochs=1))
    inside = write_reviews(out / "r.csv", 40)
    for file, model in ((inside, tiny_model), (tmp_path / "r.csv", out)):
        with pytest.raises(OutputError, match="--overwrite would delete"):
            train(tiny_options(file, model, out), overwrite=True)
    monkeypatch.chdir(out)
    with pytest.raises(OutputError, match="--overwrite would delete"):
        train(tiny_options(tmp_path / "r.csv", tiny_model, Path()), overwrite=True)
    assert inside.exists() and (out / "huiyan.json").exists()


def test_a_refused_resume_leaves_the_run_as_it_was(
    tiny_model: Path, tiny_options: Options, write_reviews: Write, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    train(tiny_options(write_reviews(tmp_path / "r.csv", 60), tiny_model, out), reporter=Notes(stop_after=3))
    before = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
    with pytest.raises(ConfigError, match="This run was started with"):
        train(tiny_options(write_reviews(tmp_path / "other.csv", 80, seed=2), tiny_model, out), resume=True)
    assert {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()} == before


def test_a_loss_that_becomes_nan_is_said_and_written_down(
    tiny_model: Path, tiny_options: Options, write_reviews: Write, tmp_path: Path
) -> None:
    options = tiny_options(write_reviews(tmp_path / "r.csv", 60), tiny_model, tmp_path / "out", learning_rate=1e38)
    with pytest.raises(NonFiniteLossError, match=r"became nan.*lower --learning-rate"):
        train(options)
    described = json.loads((tmp_path / "out" / "run.json").read_text())
    assert described["status"] == "failed" and "became nan" in described["error"]


def test_rows_rejected_by_a_refused_run_are_listed(
    tiny_model: Path, tiny_options: Options, write_reviews: Write, tmp_path: Path
) -> None:
    file, out, said = write_reviews(tmp_path / "r.csv", 10), tmp_path / "out", Notes()
    append_rows(file, [[str(row), "", "s", "positive"] for row in range(30)])
    with pytest.raises(DataError, match="At least 20 usable rows"):
        train(tiny_options(file, tiny_model, out), reporter=said)
    assert len(lines(out / "rejected.jsonl")) == 30 and "rejected.jsonl" in said.notes[-1]
    assert train(tiny_options(write_reviews(file, 40), tiny_model, out, epochs=1)) is not None


def test_a_folder_of_a_run_that_was_killed_at_once_can_be_used_again(
    tiny_model: Path, tiny_options: Options, write_reviews: Write, tmp_path: Path
) -> None:
    file, out = write_reviews(tmp_path / "r.csv", 40), tmp_path / "out"
    with replacing(out, overwrite=False):
        assert [path.name for path in out.iterdir()] == ["run.json"]
    assert train(tiny_options(file, tiny_model, out, epochs=1), resume=True) is not None


def test_few_rows_train_with_a_warning_and_small_classes_are_named(
    tiny_model: Path, tiny_options: Options, write_reviews: Write, tmp_path: Path
) -> None:
    file = write_reviews(tmp_path / "r.csv", 40)
    append_rows(file, [["90", "so so", "s", "mixed"], ["91", "well well", "s", "mixed"]])
    report = train(tiny_options(file, tiny_model, tmp_path / "out", epochs=1))
    assert report is not None
    assert any("wide intervals" in warning for warning in report["warnings"])
    assert any("'mixed'" in warning and "training only" in warning for warning in report["warnings"])
    assert report["data"]["class_counts"]["train"]["mixed"] == 2
    assert "mixed" not in report["data"]["class_counts"]["test"]


def test_wrong_columns_name_the_closest(
    tiny_model: Path, tiny_options: Options, write_reviews: Write, tmp_path: Path
) -> None:
    file = write_reviews(tmp_path / "r.csv", 40)
    for changes, message in (
        ({"label": "sentimental"}, r"no column 'sentimental' .*Did you mean 'sentiment'"),
        ({"text": ("reviews",)}, r"no column 'reviews' .*Did you mean 'review'"),
    ):
        values = tiny_options(file, tiny_model, tmp_path / "out").to_dict()
        values["data"] |= changes
        with pytest.raises(ColumnError, match=message):
            train(TrainRun.from_dict(values))


def test_a_label_column_of_unique_values_is_refused(
    tiny_model: Path, tiny_options: Options, write_reviews: Write, tmp_path: Path
) -> None:
    values = tiny_options(write_reviews(tmp_path / "r.csv", 60), tiny_model, tmp_path / "out").to_dict()
    values["data"]["label"] = "id"
    with pytest.raises(DataError, match=r"mostly unique.*'sentiment' \(2 values\)"):
        train(TrainRun.from_dict(values))


@pytest.mark.parametrize("pooling", ["mean", "attention"])
def test_other_poolings_train_and_answer(
    tiny_model: Path, tiny_options: Options, write_reviews: Write, tmp_path: Path, pooling: str
) -> None:
    from huiyan.workflows.predict import predict_texts

    values = tiny_options(write_reviews(tmp_path / "r.csv", 60), tiny_model, tmp_path / "out", epochs=1).to_dict()
    values["model"]["pooling"] = pooling
    assert train(TrainRun.from_dict(values)) is not None
    assert json.loads((tmp_path / "out" / "config.json").read_text())["model_type"] == "huiyan-bert"
    assert len(predict_texts(tmp_path / "out", ["good", "bad"])) == 2


def test_a_run_that_fails_before_its_first_step_leaves_nothing(
    tiny_model: Path, tiny_options: Options, write_reviews: Write, tmp_path: Path
) -> None:
    file, out = write_reviews(tmp_path / "r.csv", 40), tmp_path / "out"
    with pytest.raises(ConfigError, match="cannot be used here"):
        train(tiny_options(file, tiny_model, out, device="cuda:99"))
    assert not out.exists()
    with pytest.raises(DataError, match="nowhere.csv"):
        train(tiny_options(file, tiny_model, out, data={"test": str(tmp_path / "nowhere.csv")}))


def test_auto_is_a_model_that_knows_the_script() -> None:
    chinese, english, mixed = ["质量很好，价格不贵"] * 9, ["lovely dress"] * 9, ["iPhone 屏幕很清晰"] * 9
    assert model_for("auto", english) == DEFAULT_MODEL == model_for("auto", ["12 ½ !!"])
    assert model_for("auto", chinese) == model_for("auto", mixed) == MULTILINGUAL_MODEL
    assert model_for("auto", ["Здравствуйте, мир"]) == MULTILINGUAL_MODEL
    assert model_for("./mine", chinese) == "./mine"


def test_chinese_on_the_english_encoder_is_warned_of() -> None:
    chinese = ["质量很好，价格不贵"] * 9
    assert any("Leave --model away" in warning for warning in language_warnings(DEFAULT_MODEL, chinese))
    assert language_warnings(DEFAULT_MODEL, ["lovely dress"] * 9) == []
    assert language_warnings(MULTILINGUAL_MODEL, chinese) == []


def test_the_command_line_names_what_is_not_default(tiny_model: Path, tiny_options: Options, tmp_path: Path) -> None:
    run = tiny_options(Path("my reviews.csv"), Path("model"), Path("out"), epochs=9)
    words = command_line(run)
    assert words.startswith("huiyan train 'my reviews.csv' --text review --label sentiment --model model")
    assert "--epochs 9" in words and words.endswith("--out out") and "--patience" not in words
