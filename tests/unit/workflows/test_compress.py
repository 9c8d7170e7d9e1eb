"""A trained model made smaller: what is chosen, what is reported, what is written, and what is refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from huiyan.core.errors import ArtifactError, ColumnError, ConfigError, DataError, OutputError
from huiyan.models.low_rank import InputMoments, LowRankLinear, factorise
from huiyan.tasks.artifact import Artifact
from huiyan.workflows.compress import CompressConfig, compress, default_out
from huiyan.workflows.config import ComputeConfig
from huiyan.workflows.estimators import TextClassifier
from huiyan.workflows.evaluate import evaluate
from huiyan.workflows.figures import size_chart
from huiyan.workflows.rank_search import Trial, _search, _smallest_that_holds


def silent(_: str) -> None:
    """Nothing."""


@pytest.fixture
def table(write_reviews: Callable[..., Path], tmp_path: Path) -> str:
    return str(write_reviews(tmp_path / "more.csv", 120, seed=5))


@pytest.fixture(scope="module")
def compressed(
    tiny_run: Path, write_reviews: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict, list[str]]:
    """A compressed tiny run, its report, and what was said. Tests leave the folder as it is."""
    folder = tmp_path_factory.mktemp("compressed")
    write_reviews(folder / "more.csv", 240, seed=5)
    said: list[str] = []
    report = compress(tiny_run, str(folder / "more.csv"), out=folder / "small", device="cpu", say=said.append)
    return folder / "small", report, said


def test_auto_saves_and_keeps_the_accuracy(compressed: tuple[Path, dict, list[str]]) -> None:
    _, report, said = compressed
    size, trials = report["size"], report["trials"]
    assert size["parameters"]["after"] < 0.9 * size["parameters"]["before"]
    assert trials[0]["parameters"] == size["parameters"]["before"]
    assert trials[-1]["parameters"] == size["parameters"]["after"]
    assert 100 * (trials[0]["accuracy"] - trials[-1]["accuracy"]) <= 0.5
    assert any("gathering activations of 120 rows, and factorising 12 matrices" in line for line in said)


def test_the_report_compares_on_rows_that_chose_nothing(
    compressed: tuple[Path, dict, list[str]], tiny_run: Path
) -> None:
    folder, report, _ = compressed
    data = report["data"]
    assert data["choosing_rows"] == data["reporting_rows"] == report["test"]["rows"] == report["before"]["rows"] == 120
    assert {found["metric"] for found in report["comparisons"]} == {"accuracy", "macro_f1"}
    accuracy = [report[when]["metrics"]["accuracy"]["value"] for when in ("before", "test")]
    assert report["comparisons"][0]["difference"] == pytest.approx(accuracy[1] - accuracy[0])
    for name, run in (("before", tiny_run), ("after", folder)):
        artifact = Artifact.load(run)
        assert sum(p.numel() for p in artifact.model.parameters()) == report["size"]["parameters"][name]
        assert (run / "model.safetensors").stat().st_size == report["size"]["bytes"][name]
        assert report["speed"]["rows_per_second"][name] > 0


def test_the_folder_holds_the_ranks_and_is_read_by_everything(
    compressed: tuple[Path, dict, list[str]], tiny_run: Path
) -> None:
    folder, report, _ = compressed
    artifact = Artifact.load(folder)
    ranks = {name: it["rank"] for name, it in report["ranks"].items() if it["rank"] is not None}
    assert artifact.model.config.encoder.ranks == ranks and ranks
    for name, rank in ranks.items():
        layer = artifact.model.encoder.get_submodule(name)
        assert isinstance(layer, LowRankLinear) and layer.down.out_features == rank
    classifier = TextClassifier.load(folder, device="cpu")
    assert classifier.predict(["good great lovely dress", "bad poor awful dress"]).tolist() == ["positive", "negative"]
    figures = evaluate(
        folder, str(folder.parent / "more.csv"), compute=ComputeConfig(device="cpu", precision="fp32"), say=silent
    )
    assert figures["test"]["metrics"]["accuracy"]["value"] > 0.9
    assert figures["seen_in_training"] == 0, "splits.jsonl came along"
    with pytest.raises(ValueError, match="huiyan-bert"):
        AutoModelForSequenceClassification.from_pretrained(folder)


def test_the_card_says_what_it_cost(compressed: tuple[Path, dict, list[str]], tiny_run: Path) -> None:
    folder, report, _ = compressed
    assert json.loads((folder / "report.json").read_text(encoding="utf-8")) == report
    card = (folder / "README.md").read_text(encoding="utf-8")
    for part in (
        f"{report['size']['parameters']['after']:,}",
        f"{report['size']['bytes']['before']:,} bytes",
        "more.csv",
        "120 rows",
        "| accuracy | ",
        "| macro F1 | ",
        "| rows a second | ",
        "neither gave activations nor chose ranks",
        "| 1 |",
        "compression.svg",
    ):
        assert part in card, part
    for it in report["ranks"].values():
        assert f"{it['rank'] or 'whole'} of {it['full']}" in card
    assert (folder / "compression.svg").read_text(encoding="utf-8").count("<circle") >= len(report["trials"])
    assert json.loads((folder / "run.json").read_text(encoding="utf-8"))["status"] == "finished"


def test_the_same_again_is_the_same_model(compressed: tuple[Path, dict, list[str]], tiny_run: Path) -> None:
    folder, report, _ = compressed
    again = compress(tiny_run, report["data"]["file"], out=folder.parent / "again", device="cpu", say=silent)
    assert again["ranks"] == report["ranks"] and again["test"] == report["test"]
    assert (folder.parent / "again/model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()


@pytest.mark.parametrize(("rank", "attention", "feed_forward"), [("8", 8, 8), (0.25, 8, 8), (20, None, 20)])
def test_a_fixed_rank(tiny_run: Path, table: str, tmp_path: Path, rank, attention, feed_forward) -> None:
    """Of 32 × 32 and 32 × 64 matrices; a rank of 20 makes the square ones no smaller, so they stay whole."""
    report = compress(tiny_run, table, CompressConfig(rank=rank), out=tmp_path / "o", device="cpu", say=silent)
    assert {it["rank"] for name, it in report["ranks"].items() if "attention" in name} == {attention}
    assert {it["rank"] for name, it in report["ranks"].items() if "feed_forward" in name} == {feed_forward}
    assert len(report["trials"]) == 2 and report["options"]["max_loss"] is None
    assert f"Rank asked for: {rank}" in (tmp_path / "o/README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("rank", ["half", "0", "-3", "1.0", "1.5", "0.0", "nan", 0, -1, 1.0, True])
def test_ranks_that_are_none(rank) -> None:
    with pytest.raises(ConfigError, match=r"rank option must be auto, a whole number of at least 1, or a share"):
        CompressConfig(rank=rank)


@pytest.mark.parametrize("max_loss", [-0.1, float("nan"), 101])
def test_losses_that_are_none(max_loss: float) -> None:
    with pytest.raises(ConfigError, match="max_loss option must be from 0 to 100 accuracy points"):
        CompressConfig(max_loss=max_loss)


def test_a_loss_beside_a_fixed_rank() -> None:
    with pytest.raises(ConfigError, match="--max-loss goes with --rank auto"):
        CompressConfig(rank=8, max_loss=1.0)
    assert CompressConfig(max_loss=2).allowed_loss == 2 and CompressConfig().allowed_loss == 0.5


@pytest.mark.parametrize("rank", [22, 32, 0.7])
def test_a_rank_that_saves_nothing_anywhere(tiny_run: Path, table: str, tmp_path: Path, rank) -> None:
    with pytest.raises(ConfigError, match=r"rank option must be at most 21 of 32, or as a share 0.66, to make"):
        compress(tiny_run, table, CompressConfig(rank=rank), out=tmp_path / "o", say=silent)
    assert not (tmp_path / "o").exists()


def test_when_nothing_holds_the_closest_is_named() -> None:
    original = Trial({}, 1000, 0.9, 0.9, 0.0)
    trials = [Trial({"x": 8}, 900, 0.9, 0.893, 0.001, 0.01), Trial({"x": 2}, 300, 0.7, 0.7, 0.01, 0.3)]
    with pytest.raises(ConfigError, match=r"at most 0.5 points for certain. The closest: 900 parameters, .*--max-loss"):
        _smallest_that_holds(original, trials, 0.5)
    assert _smallest_that_holds(original, trials, 1) is trials[0]
    assert _smallest_that_holds(original, trials, 25) is trials[1]


def test_a_trial_holds_in_accuracy_and_in_probability() -> None:
    original = Trial({}, 100, accuracy=0.80, probability=0.70, error=0.0)
    for accuracy, probability, error, holds in (
        (0.795, 0.70, 0.001, True),
        (0.794, 0.70, 0.001, False),
        (0.80, 0.696, 0.0009, True),
        (0.80, 0.696, 0.0011, False),
        (0.85, 0.69, 0.0, False),
    ):
        assert Trial({"x": 1}, 50, accuracy, probability, error).holds(original, 0.5) == holds


def test_the_search_comes_close_to_what_may_be_given_up() -> None:
    """Accuracy falls here by a tenth of the energy lost, so that one point is a tenth of the energy."""
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer = torch.nn.Linear(200, 200)
    moments = InputMoments(200)
    moments.add(torch.randn(5000, 200, generator=generator) * torch.logspace(0, -3, 200))
    factors = {"only": factorise(layer, moments)}

    def attempt(ranks: dict[str, int], lost: float | None) -> Trial:
        accuracy = 0.9 - (lost or 0.0) / 10
        return Trial(ranks, ranks["only"], accuracy, accuracy, 0.0, lost)

    original = Trial({}, 1000, 0.9, 0.9, 0.0)
    trials = _search(factors, attempt, original, 1.0, silent)
    chosen = _smallest_that_holds(original, trials, 1.0)
    assert chosen.lost is not None and 0.09 < chosen.lost <= 0.1
    assert chosen.ranks == {"only": factors["only"].rank_losing(chosen.lost)}
    assert any(not trial.holds(original, 1.0) for trial in trials)


def test_few_rows_and_training_texts_are_said(
    tiny_run: Path, write_reviews: Callable[..., Path], tmp_path: Path
) -> None:
    file = write_reviews(tmp_path / "t.csv", 60)
    said: list[str] = []
    report = compress(tiny_run, str(file), CompressConfig(rank=8), out=tmp_path / "o", device="cpu", say=said.append)
    assert any(line.startswith("warning: Only 30 rows to choose by: one of them is 3.3") for line in said)
    assert report["data"]["seen_in_training"] > 0
    assert any("so the figures flatter it" in warning for warning in report["warnings"])
    card = (tmp_path / "o/README.md").read_text(encoding="utf-8")
    assert "Only 30 rows to choose by" in card and "so the figures flatter it" in card


def test_a_folder_that_is_no_run(table: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ArtifactError, match="is not a model folder of Huiyan"):
        compress(tmp_path / "empty", table, say=silent)


def test_a_compressed_run(compressed: tuple[Path, dict, list[str]], table: str) -> None:
    with pytest.raises(ArtifactError, match="is compressed already. Compress the run it was made from"):
        compress(compressed[0], table, say=silent)


def test_a_table_that_lacks_a_column(tiny_run: Path, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("text,sentiment\ngood,positive\n")
    with pytest.raises(ColumnError, match="review"):
        compress(tiny_run, str(tmp_path / "t.csv"), out=tmp_path / "o", say=silent)


def test_a_table_too_small_for_halves(tiny_run: Path, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("review,sentiment\ngood,positive\nbad,ecstatic\n")
    said: list[str] = []
    with pytest.raises(DataError, match="must have rows for two halves. Got 1 that can be used"):
        compress(tiny_run, str(tmp_path / "t.csv"), out=tmp_path / "o", say=said.append)
    assert any("set aside 1 rows: label not among the training rows" in line for line in said)
    (tmp_path / "t.csv").write_text("review,sentiment\n" + "the good dress,positive\n" * 6)
    with pytest.raises(DataError, match=r"No row is left for the .* Give a larger table") as caught:
        compress(tiny_run, str(tmp_path / "t.csv"), out=tmp_path / "o", say=silent)
    assert "--" not in str(caught.value)


def test_a_place_that_is_taken(tiny_run: Path, table: str, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/letter.txt").write_text("dear")
    with pytest.raises(OutputError, match=r"mine exists already. Use --overwrite to replace it, or name another"):
        compress(tiny_run, table, out=tmp_path / "mine", say=silent)
    with pytest.raises(OutputError, match="holds files that no run of Huiyan wrote"):
        compress(tiny_run, table, out=tmp_path / "mine", overwrite=True, say=silent)
    run = shutil.copytree(tiny_run, tmp_path / "run")
    with pytest.raises(OutputError, match=r"--overwrite would delete .*run, which lies in --out"):
        compress(run, table, out=run, overwrite=True, say=silent)
    assert (tmp_path / "mine/letter.txt").read_text() == "dear"


def test_overwriting_replaces_a_run_and_a_failure_brings_it_back(tiny_run: Path, table: str, tmp_path: Path) -> None:
    out = tmp_path / "o"
    compress(tiny_run, table, CompressConfig(rank=8), out=out, device="cpu", say=silent)
    first = (out / "model.safetensors").read_bytes()
    with pytest.raises(ConfigError):
        compress(tiny_run, table, CompressConfig(rank=32), out=out, overwrite=True, say=silent)
    assert (out / "model.safetensors").read_bytes() == first
    compress(tiny_run, table, CompressConfig(rank=4), out=out, overwrite=True, device="cpu", say=silent)
    assert set(Artifact.load(out).model.config.encoder.ranks.values()) == {4}


def test_an_interruption_leaves_what_was_there(tiny_run: Path, table: str, tmp_path: Path) -> None:
    """Nothing where nothing was, and with --overwrite the whole old run, though the new model is saved by then."""

    def interrupt(line: str) -> None:
        if line.startswith("comparing both"):
            raise KeyboardInterrupt

    out, before = tmp_path / "o", set(tmp_path.iterdir())
    with pytest.raises(KeyboardInterrupt):
        compress(tiny_run, table, CompressConfig(rank=8), out=out, device="cpu", say=interrupt)
    assert set(tmp_path.iterdir()) == before
    compress(tiny_run, table, CompressConfig(rank=8), out=out, device="cpu", say=silent)
    kept = {path.name: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(KeyboardInterrupt):
        compress(tiny_run, table, CompressConfig(rank=4), out=out, overwrite=True, device="cpu", say=interrupt)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == kept
    assert set(tmp_path.iterdir()) == before | {out}
    assert ".o.new" not in (out / "README.md").read_text(encoding="utf-8")


def test_the_folder_beside_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert default_out(Path("runs/reviews")) == Path("runs/reviews-compressed")
    monkeypatch.chdir(tmp_path)
    assert default_out(Path()) == tmp_path.parent / f"{tmp_path.name}-compressed"


def test_the_full_model_is_left_as_it_was(
    compressed: tuple[Path, dict, list[str]], tiny_run: Path, tmp_path: Path
) -> None:
    """What is compared before and after are two models, and the run folder is only read."""
    assert Artifact.load(tiny_run).model.config.encoder.ranks == {}
    texts = ["good great lovely dress", "bad poor awful dress"]
    before, after = (Artifact.load(run).outputs(texts) for run in (tiny_run, compressed[0]))
    assert not np.array_equal(before, after)
    assert np.array_equal(before.argmax(1), after.argmax(1))


def test_sizes_and_accuracies_are_drawn() -> None:
    trials = [{"parameters": n * 1e6, "accuracy": a} for n, a in ((20, 0.8), (10, 0.7), (15, 0.79))]
    chart = size_chart({"trials": trials, "options": {"max_loss": 2.0}})
    assert chart is not None and [line["name"] for line in chart["lines"]] == ["accuracy", "least allowed"]
    assert [x for x, _ in chart["lines"][0]["dots"]] == sorted(x for x, _ in chart["lines"][0]["dots"])
    assert chart["lines"][1]["last"] == pytest.approx(78)
    assert chart["mark"] == chart["lines"][0]["dots"][1][0]
    alone = size_chart({"trials": trials[:2], "options": {"max_loss": None}})
    assert alone is not None and len(alone["lines"]) == 1
