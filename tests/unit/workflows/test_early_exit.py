"""`huiyan train --early-exit` and `huiyan predict --patience`: the choice, the curve, the folder."""

import io
import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
import torch
import transformers
from rich.console import Console
from safetensors.torch import load_file

import huiyan
from huiyan.cli.main import run as command
from huiyan.core.errors import ConfigError
from huiyan.core.packed import Packed
from huiyan.tasks.artifact import Artifact
from huiyan.tasks.manifest import Manifest
from huiyan.training.progress import Silent
from huiyan.workflows.config import ComputeConfig, TrainRun
from huiyan.workflows.early_exit import choose_patience, depths_left, exit_curve
from huiyan.workflows.predict import predict_file, predict_texts
from huiyan.workflows.report import terminal_summary
from huiyan.workflows.train import train
from huiyan.workflows.wording import early_exit_sentence

FILES = {"exits.safetensors", "early_exit.json", "early_exit.svg"}
TEXTS = ["the good great lovely dress", "bad poor fabric", "the shirt", "差 质 量", "very very very good size", "and"]

Options = Callable[..., TrainRun]
Write = Callable[..., Path]


class StopAfter(Silent):
    """Sends what Ctrl-C sends after some steps."""

    def __init__(self, step: int) -> None:
        self.last = step

    def step(self, step: int, **_: float) -> None:
        if step == self.last:
            os.kill(os.getpid(), signal.SIGINT)


def exiting_options(options: TrainRun) -> TrainRun:
    return replace(options, model=replace(options.model, early_exit=True))


@pytest.fixture(scope="module")
def deep_model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with four layers."""
    folder = tmp_path_factory.mktemp("deep-bert")
    for name in ("vocab.txt", "tokenizer_config.json"):
        (folder / name).write_bytes((tiny_model / name).read_bytes())
    config = transformers.BertConfig.from_pretrained(tiny_model)
    config.num_hidden_layers = 4
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformers.BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Reviews that praise and blame at once: the label is what there is more of, and some texts are hard."""
    path = tmp_path_factory.mktemp("reviews") / "r.csv"
    random = np.random.default_rng(0)
    good, bad = ["good", "great", "pretty"], ["bad", "poor", "ugly"]
    lines = ["review,sentiment"]
    for row in range(320):
        more, less = (bad, good) if row % 2 == 0 else (good, bad)
        n_less = int(random.integers(0, 4))
        words = [*random.choice(more, n_less + 1), *random.choice(less, n_less), *random.choice(["the", "dress"], 3)]
        random.shuffle(words)
        lines.append(f"{' '.join(words)} {row},{('negative', 'positive')[row % 2]}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def exiting_run(
    deep_model: Path, reviews: Path, tiny_options: Options, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("exiting") / "run"
    train(exiting_options(tiny_options(reviews, deep_model, out, epochs=6, batch_tokens=256)))
    return out


@pytest.fixture(scope="module")
def record(exiting_run: Path) -> dict[str, Any]:
    return json.loads((exiting_run / "early_exit.json").read_text(encoding="utf-8"))


def test_the_curve_has_every_patience_with_its_cost_and_its_scores(record: dict[str, Any]) -> None:
    assert record["layers"] == 4 and 1 <= record["patience"] <= 4 and record["parameters_of_exits"] > 0
    assert record["test"]["rows"] == record["test"]["timed_rows"] == 32
    assert record["test"]["device"] == "cpu" and record["test"]["threads"] == torch.get_num_threads()
    for part in ("validation", "test"):
        curve = record[part]["curve"]
        assert [point["patience"] for point in curve] == [1, 2, 3, 4]
        assert curve[0]["leaving"] == [1, 0, 0, 0] and curve[-1]["leaving"] == [0, 0, 0, 1]
        for point in curve:
            assert sum(point["leaving"]) == pytest.approx(1)
            layers = sum(layer * share for layer, share in enumerate(point["leaving"], start=1))
            assert point["mean_layers"] == pytest.approx(layers)
            assert 0 <= point["macro_f1"] <= 1 and 0 <= point["accuracy"] <= 1
    assert all(point["seconds_per_row"] > 0 for point in record["test"]["curve"])
    last = record["test"]["curve"][-1]
    assert last["times_as_fast"] == 1
    assert [head["layer"] for head in record["test"]["heads"]] == [1, 2, 3, 4]
    assert record["test"]["heads"][-1]["accuracy"] == last["accuracy"]


def test_the_curve_s_scores_are_those_of_the_answers_predict_gives(exiting_run: Path, record: dict[str, Any]) -> None:
    report = json.loads((exiting_run / "report.json").read_text(encoding="utf-8"))
    splits = [json.loads(line) for line in (exiting_run / "splits.jsonl").read_text(encoding="utf-8").splitlines()]
    rows = Path(report["data"]["files"]["train"]).read_text(encoding="utf-8").splitlines()
    test = [rows[int(row["source"].rpartition(":")[2]) - 1].split(",") for row in splits if row["split"] == "test"]
    for point in record["test"]["curve"]:
        answers = predict_texts(
            exiting_run, [text for text, _ in test], compute=ComputeConfig(patience=point["patience"])
        )
        right = [answer["prediction"] == label for answer, (_, label) in zip(answers, test, strict=True)]
        assert point["accuracy"] == pytest.approx(sum(right) / 32)
    assert report["test"]["metrics"]["accuracy"]["value"] == record["test"]["curve"][-1]["accuracy"]
    assert report["early_exit"] == record


def test_the_patience_is_the_one_the_validation_rows_choose(exiting_run: Path, record: dict[str, Any]) -> None:
    own = Manifest.read(exiting_run).early_exit
    assert own is not None and own.patience == record["patience"] == choose_patience(record["validation"]["curve"])


def test_the_picture_shows_a_point_for_every_patience(exiting_run: Path, record: dict[str, Any]) -> None:
    root = ET.fromstring((exiting_run / "early_exit.svg").read_text(encoding="utf-8"))
    svg = "{http://www.w3.org/2000/svg}"
    assert root.tag == f"{svg}svg"
    assert len(list(root.iter(f"{svg}polyline"))) == 2 and len(list(root.iter(f"{svg}circle"))) == 8
    shown = ["".join(text.itertext()) for text in root.iter(f"{svg}text")]
    assert shown[-4:] == ["1", "2", "3", "4"] and shown[0] == "Test scores against texts a second, by patience"
    assert f"dashed: the chosen patience, {record['patience']}" in shown
    for circle in root.iter(f"{svg}circle"):
        assert 0 <= float(circle.get("cx", "-1")) <= 480 and 0 <= float(circle.get("cy", "-1")) <= 240


def test_page_card_and_terminal_tell_of_it(exiting_run: Path, record: dict[str, Any]) -> None:
    page = (exiting_run / "report.html").read_text(encoding="utf-8")
    card = (exiting_run / "README.md").read_text(encoding="utf-8")
    sentence = early_exit_sentence(record)
    for text in (page, card):
        assert sentence in text and f"{record['patience']} (chosen)" in text
    assert page.count("<h2>Early exit</h2>") == 1 and page.count("<polyline") >= 5
    report = json.loads((exiting_run / "report.json").read_text(encoding="utf-8"))
    shown = io.StringIO()
    Console(file=shown, width=500).print(terminal_summary(report))
    assert f"Early exit: {sentence}" in shown.getvalue()


def test_without_the_option_nothing_of_it_is_written(tiny_run: Path) -> None:
    assert not FILES & {path.name for path in tiny_run.iterdir()}
    assert "early_exit" not in json.loads((tiny_run / "report.json").read_text(encoding="utf-8"))
    for name in ("report.html", "README.md"):
        assert "Early exit" not in (tiny_run / name).read_text(encoding="utf-8")


def test_every_exit_learned(deep_model: Path, write_reviews: Write, tiny_options: Options, tmp_path: Path) -> None:
    file = write_reviews(tmp_path / "r.csv", 240)
    report = train(exiting_options(tiny_options(file, deep_model, tmp_path / "out", epochs=10)))
    assert report is not None
    assert all(head["accuracy"] > 0.9 for head in report["early_exit"]["test"]["heads"])


def test_full_depth_is_what_predict_gives_unasked(exiting_run: Path) -> None:
    unasked = predict_texts(exiting_run, TEXTS, all_classes=True)
    assert predict_texts(exiting_run, TEXTS, all_classes=True, compute=ComputeConfig(patience=4)) == unasked
    assert predict_texts(exiting_run, TEXTS, all_classes=True, compute=ComputeConfig(patience=1)) != unasked


def test_tables_leave_early_as_texts_do(exiting_run: Path, tmp_path: Path) -> None:
    file, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    file.write_text("".join(json.dumps({"review": text}) + "\n" for text in TEXTS), encoding="utf-8")
    predict_file(exiting_run, str(file), str(out), compute=ComputeConfig(patience=2))
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert [{key: row[key] for key in ("prediction", "probability")} for row in rows] == predict_texts(
        exiting_run, TEXTS, compute=ComputeConfig(patience=2)
    )


def test_the_command_takes_a_number_or_auto(
    exiting_run: Path, tiny_run: Path, capsys: pytest.CaptureFixture[str], record: dict[str, Any]
) -> None:
    def answers(*options: str) -> list[dict[str, Any]]:
        assert command(["predict", str(exiting_run), *TEXTS, "--json", *options]) == 0
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    assert answers("--patience", "auto") == answers("--patience", str(record["patience"]))
    assert answers("--patience", "1") != answers()
    assert command(["predict", str(tiny_run), "good", "--patience", "2"]) == 2
    assert "has no early exits" in capsys.readouterr().err
    assert command(["predict", str(exiting_run), "good", "--patience", "0"]) == 2
    assert "must be auto, or a number of layers from 1. Got 0" in capsys.readouterr().err


def test_the_run_says_how_to_do_it_again(exiting_run: Path) -> None:
    run = json.loads((exiting_run / "run.json").read_text(encoding="utf-8"))
    assert " --early-exit --epochs" in run["command"]
    assert TrainRun.from_dict(run["config"]).model.early_exit


def test_an_interrupted_run_keeps_its_exits_and_goes_on(
    deep_model: Path, reviews: Path, tiny_options: Options, tmp_path: Path
) -> None:
    whole, broken = (
        exiting_options(tiny_options(reviews, deep_model, tmp_path / name, epochs=2)) for name in ("whole", "broken")
    )
    assert train(whole) is not None
    assert train(broken, reporter=StopAfter(4)) is None
    early = Manifest.read(tmp_path / "broken").early_exit
    assert early is not None and early.patience == 4  # None was chosen yet: full depth.
    assert predict_texts(tmp_path / "broken", ["good"], compute=ComputeConfig(patience=1))[0]["prediction"] in (
        "negative",
        "positive",
    )
    without = replace(broken, model=replace(broken.model, early_exit=False))
    with pytest.raises(ConfigError, match="This run was started with model options"):
        train(without, resume=True)
    assert train(broken, resume=True) is not None
    for name in ("exits.safetensors", "model.safetensors"):
        one, other = load_file(tmp_path / "whole" / name), load_file(tmp_path / "broken" / name)
        assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_a_model_of_one_layer_is_refused_and_leaves_nothing(
    tiny_model: Path, reviews: Path, tiny_options: Options, tmp_path: Path
) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    for name in ("vocab.txt", "tokenizer_config.json"):
        (flat / name).write_bytes((tiny_model / name).read_bytes())
    config = transformers.BertConfig.from_pretrained(tiny_model)
    config.num_hidden_layers = 1
    transformers.BertModel(config).save_pretrained(flat)
    with pytest.raises(ConfigError, match="at least 2 layers"):
        train(exiting_options(tiny_options(reviews, flat, tmp_path / "out")))
    assert not (tmp_path / "out").exists()


def test_the_estimator_learns_chooses_and_keeps_its_exits(deep_model: Path, tmp_path: Path) -> None:
    texts = [f"the {word} dress {number}" for number in range(30) for word in ("good", "bad", "lovely", "poor")]
    model = huiyan.TextClassifier(
        str(deep_model),
        epochs=10,
        learning_rate=3e-3,
        max_length=32,
        batch_tokens=128,
        precision="fp32",
        early_exit=True,
    ).fit(texts, [1, 0] * 60, validation=(texts[::7], ([1, 0] * 60)[::7]))
    asked = ["the good dress 5", "the bad dress 5", "lovely", "shirt"]
    assert model.predict(asked, patience=1)[:2].tolist() == [1, 0]
    assert model.artifact_.manifest.early_exit is not None
    chosen = model.artifact_.manifest.early_exit.patience
    np.testing.assert_array_equal(
        model.predict_proba(asked, patience="auto"), model.predict_proba(asked, patience=chosen)
    )
    assert not np.allclose(model.predict_proba(asked, patience=1), model.predict_proba(asked))
    model.save(tmp_path / "saved")
    loaded = huiyan.TextClassifier.load(tmp_path / "saved")
    assert loaded.early_exit and loaded.get_params()["early_exit"] is True
    for patience in (None, 1, 2, "auto"):
        expected = model.predict_proba(asked, patience=patience)
        np.testing.assert_allclose(loaded.predict_proba(asked, patience=patience), expected, atol=1e-6)


def test_depths_told_from_all_heads_are_those_of_leaving(exiting_run: Path) -> None:
    artifact = Artifact.load(exiting_run)
    exiting = artifact.exiting
    with torch.no_grad():
        for head in exiting.exits.heads:
            head.output.weight.normal_(generator=torch.Generator().manual_seed(7))  # So that the heads disagree.
    random = np.random.default_rng(1)
    sequences = [[2, *random.integers(5, 24, size=int(random.integers(1, 12))).tolist(), 3] for _ in range(80)]
    packed = Packed.from_lists(sequences)
    with torch.inference_mode():
        choices = exiting(packed).argmax(dim=2).numpy()
        left = {patience: exiting.leave_early(packed, patience=patience)[1].tolist() for patience in range(1, 6)}
    assert len(set(left[2])) > 1
    for patience, depths in left.items():
        assert depths_left(choices, patience=patience).tolist() == depths


def test_depths_by_hand() -> None:
    choices = np.array([[0, 0, 1, 0], [0, 1, 1, 1], [1, 1, 1, 0], [1, 1, 1, 1]])
    assert depths_left(choices, patience=1).tolist() == [1, 1, 1, 1]
    assert depths_left(choices, patience=2).tolist() == [2, 3, 2, 4]
    assert depths_left(choices, patience=3).tolist() == [4, 4, 3, 4]
    assert depths_left(choices, patience=4).tolist() == [4, 4, 4, 4]


def test_the_curve_scores_the_head_at_which_a_row_left() -> None:
    # Two layers; the first is right on row 0 alone, the last on rows 0 and 1.
    logits = np.array([[[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]], [[2.0, 0.0], [0.0, 2.0], [2.0, 0.0]]])
    first, full = exit_curve(logits, np.array([0, 1, 1]), ["a", "b"])
    assert (first["accuracy"], first["mean_layers"], first["leaving"]) == (pytest.approx(1 / 3), 1.0, [1.0, 0.0])
    assert (full["accuracy"], full["mean_layers"], full["leaving"]) == (pytest.approx(2 / 3), 2.0, [0.0, 1.0])


@pytest.mark.parametrize(
    ("accuracies", "chosen"),
    [
        ([0.9, 0.9, 0.9], 1),
        ([0.8, 0.895, 0.9], 2),
        ([0.8, 0.894, 0.9], 3),
        ([0.5, 0.99, 0.9], 2),
        ([0.3, 0.1 + 0.2 - 0.005, 0.1 + 0.2], 1),
    ],
)
def test_the_cheapest_patience_that_costs_half_a_point_at_most_is_chosen(accuracies: list[float], chosen: int) -> None:
    curve = [{"patience": patience, "accuracy": accuracy} for patience, accuracy in enumerate(accuracies, start=1)]
    assert choose_patience(curve) == chosen


def test_a_run_for_which_no_patience_was_good_enough_says_so(record: dict[str, Any]) -> None:
    assert "no patience kept the accuracy of full depth" in early_exit_sentence(record | {"patience": 4})
    assert "With patience 2 a test text used" in early_exit_sentence(record | {"patience": 2})
