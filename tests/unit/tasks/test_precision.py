"""Answering in fewer bits: what is measured, and what "auto" makes of it."""

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file  # pyright: ignore[reportUnknownVariableType] - PathLike is left open

from huiyan.core.decision import Decision
from huiyan.core.errors import ArtifactError, ConfigError
from huiyan.models.early_exit import fresh_exits
from huiyan.models.fresh import fresh_classifier
from huiyan.models.low_rank import projections
from huiyan.tasks import precision as module
from huiyan.tasks.artifact import Artifact
from huiyan.tasks.precision import Checked, Int8Check, PrecisionCheck, answering_precision, check_precisions

CPU = torch.device("cpu")
GOOD = PrecisionCheck(rows=500, largest_change=0.01, flips=0.002)
GOOD_INT8 = Int8Check(rows=500, largest_change=0.2, flips=0.005, first_layer=0)
TEXTS = ["the good dress", "a bad poor shirt", "lovely", "of the"] * 50


def checked(artifact: Artifact, texts: list[str] = TEXTS) -> Checked:
    sequences = artifact.tokenizer.encode_batch(texts, max_length=32)
    return check_precisions(artifact.model, Decision(), calibrating=sequences, checking=sequences, device=CPU)


@pytest.mark.parametrize(
    ("check", "holds"),
    [
        (GOOD, True),
        (replace(GOOD, largest_change=0.0101), False),
        (replace(GOOD, flips=0.0021), False),
        (replace(GOOD, rows=0), False),
        (replace(GOOD, rows=49, flips=0.0), False),
    ],
)
@pytest.mark.parametrize("native", [True, False])
def test_auto_is_bfloat16_only_where_it_holds_and_is_native(
    check: PrecisionCheck, holds: bool, native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "multiplies_bf16", lambda _device: native)
    assert answering_precision("auto", CPU, bf16=check, int8=GOOD_INT8) == ("bf16" if holds and native else "fp32")
    assert answering_precision("auto", CPU, bf16=None, int8=None) == "fp32"
    assert answering_precision("fp32", CPU, bf16=check, int8=None) == "fp32"


def test_a_precision_that_is_not_there() -> None:
    with pytest.raises(ConfigError, match="fp16 needs a GPU"):
        answering_precision("fp16", CPU, bf16=None, int8=None)
    with pytest.raises(ConfigError, match="must be auto, fp32, bf16, fp16 or int8"):
        answering_precision("fp8", CPU, bf16=None, int8=None)


@pytest.mark.parametrize(
    ("check", "native", "device", "reason"),
    [
        (None, True, "cpu", "not measured"),
        (replace(GOOD_INT8, flips=0.0125), True, "cpu", "6 of 500 rows that it was measured on; 2 may"),
        (GOOD_INT8, False, "cpu", "instructions"),
        (GOOD_INT8, True, "meta", "for the CPU"),
    ],
)
def test_int8_is_refused_with_the_reason(
    check: Int8Check | None, native: bool, device: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "can_answer_int8", lambda _device: native)
    with pytest.raises(ConfigError, match=reason) as refusal:
        answering_precision("int8", torch.device(device), bf16=GOOD, int8=check)
    assert "bf16 or fp32" in str(refusal.value.hint)


def test_int8_where_it_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "can_answer_int8", lambda _device: True)
    assert answering_precision("int8", CPU, bf16=None, int8=GOOD_INT8) == "int8"


def test_what_is_measured_is_the_difference(tiny_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "multiplies_bf16", lambda _device: True)
    found = checked(Artifact.load(tiny_run)).bf16
    exact, rough = (Artifact.load(tiny_run, precision=name).outputs(TEXTS) for name in ("fp32", "bf16"))
    assert found is not None
    assert found.rows == 200
    assert found.largest_change == pytest.approx(float(np.abs(exact - rough).max()), abs=2e-5)
    assert 0 < found.largest_change < 0.05
    assert found.flips == float((exact.argmax(1) != rough.argmax(1)).mean())


def test_no_rows_vouch_for_nothing(tiny_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "multiplies_bf16", lambda _device: True)
    found = checked(Artifact.load(tiny_run), [])
    assert found.bf16 is not None
    assert not found.bf16.holds
    assert (found.int8, found.calibration) == (None, None)


def test_int8_takes_as_many_layers_as_hold(tiny_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "can_answer_int8", lambda _device: True)
    artifact = Artifact.load(tiny_run)
    found = checked(artifact)
    assert found.int8 is not None
    assert (found.int8.first_layer, found.int8.rows) == (0, 200)
    assert 0 < found.int8.largest_change < 0.05
    monkeypatch.setattr(module, "MOST_FLIPS_INT8", -1.0)
    fewest = checked(artifact)
    assert fewest.int8 is not None
    assert fewest.int8.first_layer == 2 * artifact.model.config.encoder.n_layers // 3
    assert fewest.calibration is not None
    assert fewest.calibration.first_layer == fewest.int8.first_layer
    assert fewest.int8.largest_change < found.int8.largest_change


def test_a_model_all_of_low_rank_has_no_product_for_int8(tiny_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "can_answer_int8", lambda _device: True)
    artifact = Artifact.load(tiny_run)
    config = artifact.model.config
    ranks = dict.fromkeys(projections(artifact.model.encoder), 4)
    lowered = fresh_classifier(replace(config, encoder=replace(config.encoder, ranks=ranks)), seed=0)
    found = checked(replace(artifact, model=lowered))
    assert (found.int8, found.calibration) == (None, None)


def test_int8_goes_with_full_depth_alone(int8_run: Path) -> None:
    artifact = Artifact.load(int8_run, precision="int8")
    exiting = replace(artifact, exits=fresh_exits(artifact.model.config, seed=0))
    with pytest.raises(ConfigError, match=r"does not go with patience.*precision auto"):
        exiting.outputs(TEXTS, patience=1)


def test_the_manifest_keeps_it(tiny_run: Path, tmp_path: Path) -> None:
    artifact = Artifact.load(tiny_run)
    for check in (GOOD, None):
        replace(artifact, manifest=replace(artifact.manifest, bf16=check)).save(tmp_path / "run")
        assert Artifact.load(tmp_path / "run").manifest.bf16 == check
        assert ("bf16" in (tmp_path / "run" / "huiyan.json").read_text(encoding="utf-8")) == (check is not None)


def test_a_trained_run_has_measured_it_where_that_is_native(tiny_run: Path) -> None:
    manifest = Artifact.load(tiny_run).manifest
    assert (manifest.bf16 is not None and manifest.bf16.rows > 0) == module.multiplies_bf16(CPU)
    assert manifest.int8 is None  # 24 validation rows cannot tell


@pytest.fixture
def int8_run(tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that may answer in int8, on any processor."""
    monkeypatch.setattr(module, "can_answer_int8", lambda _device: True)
    artifact = Artifact.load(tiny_run)
    found = checked(artifact)
    artifact.with_checks(replace(found, int8=replace(GOOD_INT8, first_layer=1))).save(tmp_path / "run")
    return tmp_path / "run"


def test_a_run_answers_in_int8(int8_run: Path) -> None:
    exact, rough = (Artifact.load(int8_run, precision=name) for name in ("fp32", "int8"))
    assert rough.calibration is not None
    assert rough.calibration.first_layer == 1
    difference = np.abs(exact.outputs(TEXTS) - rough.outputs(TEXTS)).max()
    assert 0 < difference < 0.05
    # As it was loaded, so it is saved.
    rough.save(int8_run.parent / "again")
    again = Artifact.load(int8_run.parent / "again", precision="int8")
    assert np.array_equal(again.outputs(TEXTS), rough.outputs(TEXTS))


def test_int8_answers_do_not_depend_on_the_company(int8_run: Path) -> None:
    artifact = Artifact.load(int8_run, precision="int8")
    alone = np.concatenate([artifact.logits([text]) for text in TEXTS[:4]])
    np.testing.assert_allclose(artifact.logits(TEXTS[:4]), alone, atol=2e-2)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(b"no safetensors"),
        lambda path: save_file({name: tensor + 1 for name, tensor in load_file(path).items()}, path),
    ],
    ids=["missing", "broken", "of another model"],
)
def test_without_its_calibration_a_run_answers_in_all_but_int8(int8_run: Path, damage: Callable[[Path], None]) -> None:
    damage(int8_run / "int8.safetensors")
    with pytest.raises(ArtifactError, match=r"int8\.safetensors is missing, or not the file"):
        Artifact.load(int8_run, precision="int8")
    plain = Artifact.load(int8_run)
    plain.save(int8_run.parent / "again")
    assert Artifact.load(int8_run.parent / "again").manifest.int8 is None


def test_what_was_measured_of_other_weights_is_forgotten(int8_run: Path) -> None:
    weights = load_file(int8_run / "model.safetensors")
    save_file({name: tensor + 0.01 for name, tensor in weights.items()}, int8_run / "model.safetensors")
    with pytest.raises(ArtifactError, match="int8 was calibrated on other weights"):
        Artifact.load(int8_run, precision="int8")
    Artifact.load(int8_run).save(int8_run.parent / "again")
    manifest = Artifact.load(int8_run.parent / "again").manifest
    assert (manifest.bf16, manifest.int8) == (None, None)


def test_of_int8_that_is_refused_the_figures_are_kept(int8_run: Path) -> None:
    artifact = Artifact.load(int8_run)
    bad = replace(GOOD_INT8, flips=0.02)
    replace(artifact, manifest=replace(artifact.manifest, int8=bad)).save(int8_run)
    assert not (int8_run / "int8.safetensors").exists()
    assert Artifact.load(int8_run).manifest.int8 == bad
    with pytest.raises(ConfigError, match="10 of 500"):
        Artifact.load(int8_run, precision="int8")


def test_an_int8_artifact_can_be_copied(int8_run: Path) -> None:
    artifact = Artifact.load(int8_run, precision="int8")
    answers = artifact.outputs(TEXTS)
    assert np.array_equal(copy.deepcopy(artifact).outputs(TEXTS), answers)


def test_an_earlier_calibration_does_not_outlive_its_model(int8_run: Path, tiny_run: Path) -> None:
    artifact = Artifact.load(tiny_run)
    replace(artifact, calibration=None).save(int8_run)
    assert not (int8_run / "int8.safetensors").exists()
    assert Artifact.load(int8_run).manifest.int8 is None
