"""Answering in fewer bits: what is measured, and what "auto" makes of it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from huiyan.core.decision import Decision
from huiyan.core.errors import ConfigError
from huiyan.tasks import precision as module
from huiyan.tasks.artifact import Artifact
from huiyan.tasks.precision import PrecisionCheck, answering_precision, check_precision

CPU = torch.device("cpu")
GOOD = PrecisionCheck(rows=500, largest_change=0.01, flips=0.002)


@pytest.mark.parametrize(
    ("check", "holds"),
    [
        (GOOD, True),
        (replace(GOOD, largest_change=0.0101), False),
        (replace(GOOD, flips=0.0021), False),
        (replace(GOOD, rows=0), False),
    ],
)
@pytest.mark.parametrize("native", [True, False])
def test_auto_is_bfloat16_only_where_it_holds_and_is_native(
    check: PrecisionCheck, holds: bool, native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "multiplies_bf16", lambda _device: native)
    assert answering_precision("auto", CPU, bf16=check) == ("bf16" if holds and native else "fp32")
    assert answering_precision("auto", CPU, bf16=None) == "fp32"
    assert answering_precision("fp32", CPU, bf16=check) == "fp32"


def test_a_precision_that_is_not_there() -> None:
    with pytest.raises(ConfigError, match="fp16 needs a GPU"):
        answering_precision("fp16", CPU, bf16=None)
    with pytest.raises(ConfigError, match="must be auto, fp32, bf16 or fp16"):
        answering_precision("fp8", CPU, bf16=None)


def test_what_is_measured_is_the_difference(tiny_run: Path) -> None:
    artifact = Artifact.load(tiny_run)
    texts = ["the good dress", "a bad poor shirt", "lovely", "of the"] * 5
    sequences = artifact.tokenizer.encode_batch(texts, max_length=32)
    found = check_precision(artifact.model, sequences, Decision(), "bf16")
    exact, rough = (Artifact.load(tiny_run, precision=name).probabilities(texts) for name in ("fp32", "bf16"))
    assert found.rows == 20
    assert found.largest_change == pytest.approx(float(np.abs(exact - rough).max()), abs=1e-6)
    assert 0 < found.largest_change < 0.05
    assert found.flips == float((exact.argmax(1) != rough.argmax(1)).mean())
    same = check_precision(artifact.model, sequences, Decision(), "fp32")
    assert (same.largest_change, same.flips) == (0.0, 0.0)
    assert check_precision(artifact.model, [], Decision(), "bf16").holds is False


def test_the_manifest_keeps_it(tiny_run: Path, tmp_path: Path) -> None:
    artifact = Artifact.load(tiny_run)
    for check in (GOOD, None):
        replace(artifact, manifest=replace(artifact.manifest, bf16=check)).save(tmp_path / "run")
        assert Artifact.load(tmp_path / "run").manifest.bf16 == check
        assert ("bf16" in (tmp_path / "run" / "huiyan.json").read_text(encoding="utf-8")) == (check is not None)


def test_a_trained_run_has_measured_it_where_that_is_native(tiny_run: Path) -> None:
    found = Artifact.load(tiny_run).manifest.bf16
    assert (found is not None and found.rows > 0) == module.multiplies_bf16(CPU)
