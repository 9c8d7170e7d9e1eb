"""Every kind of label through the main job: train, report, predict, evaluate, and `transformers` on the folder."""

import csv
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from rich.console import Console

from huiyan import TextClassifier, TextRegressor
from huiyan.core.errors import ArtifactError, ConfigError, DataError
from huiyan.tasks.artifact import Artifact
from huiyan.workflows.compress import compress
from huiyan.workflows.config import AnswersConfig, DataConfig, ModelConfig, RepeatConfig, TrainRun
from huiyan.workflows.evaluate import evaluate
from huiyan.workflows.predict import predict_file, predict_texts
from huiyan.workflows.report import figures_table, terminal_summary
from huiyan.workflows.train import train

WORDS = ["awful", "poor", "size", "good", "great"]
Run = Callable[..., TrainRun]


def table(path: Path, n: int, seed: int = 0) -> Path:
    """Reviews whose words tell how good they are (0 to 4), which of three things they speak of, and a second text."""
    random = Random(seed)
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["review", "other", "stars", "things", "second"])
        for number in range(n):
            stars = number % 5
            things = [thing for thing in ("dress", "shirt", "fabric") if random.random() < 0.4]
            words = [WORDS[stars]] * 3 + things + ["the", "was", "it", "and"]
            random.shuffle(words)
            other = (random.random() < 0.5) * 1
            second = WORDS[stars] if other else WORDS[(stars + 2) % 5]
            rows.writerow(
                [f"{' '.join(words)} {seed} {number}", f"it was {second} {number}", stars, "|".join(things) or "none",
                 ("not", "glad")[second in ("good", "great")]]
            )  # fmt: skip
    return path


def options(file: Path, model: Path, out: Path, data: dict[str, Any], **training: Any) -> TrainRun:
    from huiyan.training.config import TrainingConfig

    defaults: dict[str, Any] = {
        "epochs": 12, "learning_rate": 3e-3, "batch_tokens": 512, "precision": "fp32", "device": "cpu", "patience": 0
    }  # fmt: skip
    return TrainRun(
        file=str(file),
        out=str(out),
        data=DataConfig(text=("review",), **data),
        model=ModelConfig(model=str(model), max_length=48),
        training=TrainingConfig(**defaults | training),
    )


KINDS: dict[str, dict[str, Any]] = {
    "multilabel": {"label": "things", "label_separator": "|"},
    "ordinal": {"label": "stars", "task": "ordinal"},
    "regression": {"label": "stars", "task": "regression"},
    "classify": {"label": "second", "text_pair": ("other",)},
}


@pytest.fixture(scope="module", params=KINDS)
def run(request: pytest.FixtureRequest, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    file = table(folder / "t.csv", 400)
    report = train(options(file, tiny_model, folder / "run", KINDS[request.param]))
    assert report is not None and report["task"] == request.param
    return folder / "run"


def reported(run: Path) -> dict[str, Any]:
    return json.loads((run / "report.json").read_text(encoding="utf-8"))


def printed(renderable: Any) -> str:
    console = Console(width=160, file=io.StringIO())
    console.print(renderable)
    return console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue] - it is the one above


def test_it_learns_and_beats_saying_the_same_thing(run: Path) -> None:
    report = reported(run)
    metrics = report["test"]["metrics"]
    least = {
        "multilabel": ("micro_f1", 0.7),
        "ordinal": ("qwk", 0.8),
        "regression": ("r2", 0.6),
        "classify": ("accuracy", 0.75),  # who reads only the first text gets 0.6
    }[report["task"]]
    assert metrics[least[0]]["low"] <= metrics[least[0]]["value"]
    assert metrics[least[0]]["value"] > least[1]
    assert report["baselines"][0]["comparison"]["verdict"] == "better"


def test_the_page_the_card_and_the_terminal_tell_it(run: Path) -> None:
    report = reported(run)
    page, card = ((run / name).read_text(encoding="utf-8") for name in ("report.html", "README.md"))
    said = printed(terminal_summary(report))
    for shown in (page, said):
        assert "95 % interval" in shown
    assert ("What is taken for what" in page) == (report["task"] in ("classify", "ordinal"))
    assert ("Number by number" in page) == (report["task"] == "regression")
    assert ("said from" in page) == (report["task"] == "multilabel")
    assert ("How sure it is" in page) == (report["task"] != "regression")
    assert "None" not in said and "## Results" in card
    if report["task"] in ("classify", "regression"):
        assert ".predict([" in card


def test_predict_answers_in_its_kind(run: Path, tmp_path: Path) -> None:
    kind, out = reported(run)["task"], tmp_path / "out.csv"
    file = table(tmp_path / "new.csv", 40, seed=9)
    assert predict_file(run, str(file), str(out), all_classes=True) == 40
    with out.open(encoding="utf-8", newline="") as answers:
        rows = list(csv.DictReader(answers))
    if kind == "multilabel":
        right = sum(set(row["prediction"].split("|")) == set(row["things"].split("|")) for row in rows)
        assert right > 15 and 0 <= float(rows[0]["probability_dress"]) <= 1 and "probability" not in rows[0]
    elif kind == "regression":
        assert np.abs([float(row["prediction"]) - float(row["stars"]) for row in rows]).mean() < 1
        assert not [name for name in rows[0] if name.startswith("probability")]
    elif kind == "ordinal":
        assert np.mean([abs(int(row["prediction"]) - int(row["stars"])) for row in rows]) < 0.7
        assert sum(float(rows[0][f"probability_{stars}"]) for stars in range(5)) == pytest.approx(1, abs=1e-5)
    else:
        assert np.mean([row["prediction"] == row["second"] for row in rows]) > 0.7


def test_no_label_is_not_the_same_as_no_answer(run: Path, tmp_path: Path) -> None:
    if reported(run)["task"] != "multilabel":
        return
    artifact = Artifact.load(run)
    high = replace(artifact.manifest.decision, thresholds=(1.0,) * len(artifact.manifest.classes))
    replace(artifact, manifest=replace(artifact.manifest, decision=high)).save(tmp_path / "silent")
    (tmp_path / "t.csv").write_text("review,tags\nthe dress,x\n,y\n")
    predict_file(tmp_path / "silent", str(tmp_path / "t.csv"), str(tmp_path / "out.csv"))
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as file:
        assert [row["prediction"] for row in csv.DictReader(file)] == ["[]", ""]


def test_texts_are_answered_and_pairs_two_by_two(run: Path) -> None:
    kind = reported(run)["task"]
    (answer,) = predict_texts(run, ["the dress was great great great", "it was great"][: 1 + (kind == "classify")])
    expected = {"multilabel": list, "regression": float, "ordinal": str, "classify": str}[kind]
    assert isinstance(answer["prediction"], expected)
    if kind == "classify":
        with pytest.raises(ConfigError, match="two by two"):
            predict_texts(run, ["one alone"])


def test_evaluate_gives_the_figures_of_the_kind(run: Path, tmp_path: Path) -> None:
    file = table(tmp_path / "new.csv", 60, seed=9)
    figures = evaluate(run, str(file), say=lambda _: None)
    report = reported(run)
    assert figures["task"] == report["task"] and figures["test"]["rows"] == 60
    assert set(figures["test"]["metrics"]) == set(report["test"]["metrics"])
    assert "test texts" in printed(figures_table(figures))


def test_transformers_gives_the_same_raw_logits(run: Path) -> None:
    artifact = Artifact.load(run)
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(run).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(run)
    pairs = [("the dress was great", "it was poor"), ("awful size", "the shirt")]
    is_pair = bool(artifact.manifest.text_pair_columns)
    texts = pairs if is_pair else [first for first, _ in pairs]
    with torch.no_grad():
        batches = [tokenizer(*(pair if is_pair else pair[:1]), return_tensors="pt") for pair in pairs]
        logits = np.concatenate([theirs(**batch).logits.numpy() for batch in batches])
    np.testing.assert_allclose(artifact.logits(texts), logits, atol=1e-4)
    kind = artifact.manifest.task
    expected = {"classify": "single_label", "multilabel": "multi_label", "ordinal": "multi_label"}
    assert theirs.config.problem_type == (f"{expected[kind]}_classification" if kind in expected else "regression")


def test_only_one_of_several_labels_can_be_compressed(run: Path, tmp_path: Path) -> None:
    if reported(run)["task"] != "classify":
        with pytest.raises(ArtifactError, match="compress knows classify"):
            compress(run, str(table(tmp_path / "t.csv", 40)), out=tmp_path / "c")


@pytest.mark.parametrize(
    ("kind", "more", "message"),
    [
        ("multilabel", {"answers": AnswersConfig(abstain_at=0.9)}, "--abstain-at is for one label a text"),
        ("regression", {"answers": AnswersConfig(label_precision=0.9)}, "--label-precision is not for"),
        ("ordinal", {"model": {"early_exit": True}}, "--early-exit is for --task classify"),
        ("regression", {"training": {"sampling": "balanced"}}, "--sampling balanced is for labels"),
        ("regression", {"training": {"metric": "macro_f1"}}, "--metric macro_f1 is not for --task regression"),
        ("ordinal", {"training": {"label_smoothing": 0.1}}, "--label-smoothing has no meaning"),
    ],
)
def test_options_of_another_kind_are_refused_before_training(
    tiny_model: Path, tmp_path: Path, kind: str, more: dict[str, Any], message: str
) -> None:
    run = options(table(tmp_path / "t.csv", 60), tiny_model, tmp_path / "out", KINDS[kind], **more.get("training", {}))
    if "answers" in more:
        run = replace(run, answers=more["answers"])
    if "model" in more:
        run = replace(run, model=replace(run.model, **more["model"]))
    with pytest.raises(ConfigError, match=message):
        train(run)
    assert not (tmp_path / "out").exists()


def test_ordinal_names_need_an_order(tiny_model: Path, tmp_path: Path) -> None:
    data = {"label": "second", "task": "ordinal"}
    with pytest.raises(DataError, match="must be numbers, or have an order"):
        train(options(table(tmp_path / "t.csv", 60), tiny_model, tmp_path / "out", data))


def test_numbers_that_are_no_classes_name_the_task(tiny_model: Path, tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text("review,score\n" + "".join(f"good dress {n},{n / 7:.3f}\n" for n in range(60)))
    with pytest.raises(DataError, match="--task regression"):
        train(options(file, tiny_model, tmp_path / "out", {"label": "score"}))


@pytest.mark.parametrize("kind", ["multilabel", "regression"])
def test_folds_of_every_kind_are_written(tiny_model: Path, tmp_path: Path, kind: str) -> None:
    run = options(table(tmp_path / "t.csv", 120), tiny_model, tmp_path / "out", KINDS[kind], epochs=1)
    report = train(replace(run, repeats=RepeatConfig(folds=2)))
    assert report is not None and len(report["repeated"]["trainings"]) == 2
    with (tmp_path / "out" / "out-of-fold.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == report["test"]["rows"] and all(row["prediction"] for row in rows)
    assert "Every row was answered" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_a_label_that_one_fold_has_alone_is_known_to_all(tiny_model: Path, tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    labels = [("a", "b", "a|b")[row % 3] + "|rare" * (row == 7) for row in range(120)]
    texts = [f"{row * 7919} {label.replace('|', ' ')} {row * 31}" for row, label in enumerate(labels)]
    file.write_text("review,things\n" + "".join(f"{t},{one}\n" for t, one in zip(texts, labels, strict=True)))
    run = options(file, tiny_model, tmp_path / "out", KINDS["multilabel"], epochs=1)
    report = train(replace(run, repeats=RepeatConfig(folds=3)))
    assert report is not None and report["classes"] == ["a", "b", "rare"]
    with (tmp_path / "out" / "out-of-fold.csv").open(encoding="utf-8", newline="") as table_of_answers:
        rows = list(csv.DictReader(table_of_answers))
    assert sum("rare" in json.loads(row["label"]) for row in rows) == 1
    assert all(isinstance(json.loads(row["prediction"]), list) and "probability_rare" in row for row in rows)


@pytest.mark.parametrize("training", [{"sampling": "balanced"}, {"focal": 2.0}, {"class_weights": "balanced"}])
@pytest.mark.parametrize("kind", ["multilabel", "classify"])
def test_imbalance_has_three_answers(tiny_model: Path, tmp_path: Path, kind: str, training: dict[str, Any]) -> None:
    file, losses = table(tmp_path / "t.csv", 80), []
    for name, more in (("with", training), ("without", {})):
        report = train(options(file, tiny_model, tmp_path / name, KINDS[kind], epochs=1, seed=3, **more))
        assert report is not None and report["test"]["rows"] > 0
        losses.append([entry["train_loss"] for entry in report["training"]["history"]])
    assert losses[0] != pytest.approx(losses[1], rel=1e-4)


def test_numbers_in_scikit_learns_manner(tiny_model: Path, tmp_path: Path) -> None:
    with table(tmp_path / "t.csv", 120).open(encoding="utf-8") as file:
        texts = [row["review"] for row in csv.DictReader(file)]
    numbers = [100.0 + row % 5 for row in range(120)]
    model = TextRegressor(
        str(tiny_model), epochs=12, learning_rate=3e-3, batch_tokens=256, precision="fp32", max_length=32
    )
    assert model.fit(texts, numbers).score(texts, numbers) > 0.7
    model.save(tmp_path / "m")
    np.testing.assert_allclose(TextRegressor.load(tmp_path / "m").predict(texts), model.predict(texts), atol=1e-3)
    with pytest.raises(ArtifactError, match="Use TextRegressor.load"):
        TextClassifier.load(tmp_path / "m")


def test_pairs_in_scikit_learns_manner(tiny_model: Path) -> None:
    pairs = [(f"the dress {row * 7919} {row * 31}", f"was {WORDS[row % 2]} {row * row}") for row in range(60)]
    with pytest.raises(DataError, match="validation texts must be tuples of two"):
        TextClassifier(str(tiny_model)).fit(pairs, [r % 2 for r in range(60)], validation=(["one"], [0]))
    model = TextClassifier(str(tiny_model), epochs=1, precision="fp32", max_length=32).fit(
        pairs, [r % 2 for r in range(60)]
    )
    assert model.artifact_.manifest.text_pair_columns == ("text_pair",)
    assert model.predict_proba(pairs).shape == (60, 2)
    with pytest.raises(DataError, match="tuples of two strings"):
        model.predict([("a", "b"), "c"])
    with pytest.raises(DataError, match="tuples of two strings"):
        model.predict(["a good dress"])
