import importlib
import sys
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree as ET

import pytest
import torch

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


@pytest.fixture(scope="module")
def scripts():
    """The benchmark's files import each other as neighbours, as they do when the script runs."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        names = ("cells", "engines", "figure", "report")
        yield SimpleNamespace(**{name: importlib.import_module(f"attention_{name}") for name in names})
    finally:
        sys.path.remove(str(BENCHMARKS))


def cell(engine, variant, n, seconds, memory, *, dtype="fp32", mode="both", how="measured", peak=0):
    """A cell as the file has it; ``seconds`` is one number a round."""
    shared = {"engine": engine, "variant": variant, "dtype": dtype, "mode": mode, "n": n, "how": how}
    runs = [{"round": turn, "seconds": one} for turn, one in enumerate(seconds)]
    of_model = {"gflop": 100.0, "traffic_mb": 10.0, "gflops": 50.0, "from_n": 4096}
    return shared | of_model | {"seconds": seconds[0], "extra_bytes": memory, "peak_bytes": peak, "runs": runs}


def claim(scripts, cells, words, *, device="cpu"):
    found = [one for one in scripts.report.claims(cells, [], device) if words in one["claim"]]
    assert len(found) == 1
    return found[0]


def test_a_ratio_is_the_median_of_the_ratios_within_rounds(scripts):
    # The machine slows down threefold from round to round; within a round, the ratio is 1.2, 1.5 and 1.1.
    cells = [
        cell("huiyan", "plain", 4096, [1.2, 4.5, 9.9], 1),
        cell("sdpa", "plain", 4096, [1.0, 3.0, 9.0], 1),
        cell("sdpa", "plain", 8192, [9.0], 1),
        cell("sdpa", "causal", 4096, [99.0], 1),
    ]
    found = scripts.report.ratios(cells, "huiyan", "sdpa", variant="plain", dtype="fp32", mode="both")
    assert found == {4096: pytest.approx(1.2)}


def test_the_exponent_is_the_slope_of_the_logarithms(scripts):
    exponent = scripts.report.exponent
    assert exponent({n: 7 * n**1.5 for n in (4096, 8192, 16384)}) == pytest.approx(1.5)
    assert exponent({4096: 1.0, 8192: 2.0, 16384: 8.0}) == pytest.approx(1.5)
    assert exponent({4096: 5.0}) is None
    assert exponent({4096: 5.0, 8192: 0.0}) is None


@pytest.mark.parametrize(("slow", "holds"), [(1.39, True), (1.41, False)])
def test_the_slowest_cell_decides(scripts, slow, holds):
    cells = [
        cell("huiyan", "plain", 4096, [1.0], 1),
        cell("sdpa", "plain", 4096, [1.0], 1),
        cell("huiyan", "causal", 512, [slow], 1, mode="forward"),
        cell("sdpa", "causal", 512, [1.0], 1, mode="forward"),
        # Shorter than the table: measured on request, and no part of a claim.
        cell("huiyan", "causal", 256, [9.0], 1),
        cell("sdpa", "causal", 256, [1.0], 1),
    ]
    found = claim(scripts, cells, "fp32: time over SDPA's where it has a flash path")
    assert (found["holds"], found["value"]) == (holds, slow)
    assert "causal, forward, n = 512; the worst of 2" in found["measured"]


def test_falling_back_counts_where_sdpa_keeps_n_squared(scripts):
    cells = [
        *(cell("huiyan", "t5", n, [1.0], 1, mode=mode) for n in (1024, 4096) for mode in ("forward", "both")),
        cell("sdpa", "t5", 1024, [0.9], 1),
        cell("sdpa", "t5", 4096, [2.5], 1),
        # Without gradients SDPA reads the bias in its flash kernel: no fall-back, no claim.
        cell("sdpa", "t5", 4096, [0.5], 1, mode="forward"),
    ]
    assert claim(scripts, cells, "fp32: times faster than SDPA where it falls back to n², from 4,096")["holds"] is True
    assert claim(scripts, cells, "fp32: times faster than SDPA where it falls back to n², at 1,024")["holds"] is False


def test_what_was_not_measured_is_open(scripts):
    found = scripts.report.claims([], [], "cpu") + scripts.report.claims([], [], "cuda")
    assert {one["holds"] for one in found} == {None}
    assert scripts.report.claim_line(found[0]).startswith("open")
    guessed = [cell("huiyan", "t5", n, [1.0], n * n, how="extrapolated") for n in (4096, 8192)]
    assert claim(scripts, guessed, "memory grows")["holds"] is None


def test_memory_exponents_leave_short_sequences_out(scripts):
    cells = [cell("huiyan", "t5", n, [1.0], 1000 * n) for n in (4096, 8192, 16384)]
    cells.append(cell("huiyan", "t5", 512, [1.0], 1))
    assert claim(scripts, cells, "memory grows")["value"] == pytest.approx(1.0)
    cells += [cell("huiyan", "xl", n, [1.0], n**1.3) for n in (4096, 8192)]
    found = claim(scripts, cells, "memory grows")
    assert found["holds"] is False
    assert "XL-relative" in found["measured"]


@pytest.mark.parametrize(("peak", "holds"), [(2.9e9, True), (3.1e9, False)])
def test_the_whole_process_counts_at_32k_and_the_peer_is_marked(scripts, peak, holds):
    cells = [
        cell("huiyan", "t5", 32768, [100.0], 1.5e9, peak=peak),
        cell("sdpa", "t5", 32768, [300.0], 180e9, how="extrapolated"),
    ]
    found = claim(scripts, cells, "32,768 tokens")
    assert (found["holds"], found["value"]) == (holds, peak)
    assert "≈ 180 GB, extrapolated from n = 4,096" in found["measured"]


def test_flex_attention_is_the_measure_on_a_gpu(scripts):
    cells = [cell("huiyan", "xl", 4096, [1.0], 1), cell("flex", "xl", 4096, [0.85], 1)]
    found = claim(scripts, cells, "fp32: speed, ours over hand-written FlexAttention", device="cuda")
    assert (found["holds"], found["value"]) == (False, 0.85)


def test_our_error_is_held_against_that_of_the_formula(scripts):
    rows = [("huiyan", "xl", 6e-3), ("oracle", "xl", 2e-3), ("huiyan", "t5", 1e-3), ("oracle", "t5", 1e-3)]
    agreement = [{"engine": e, "variant": v, "dtype": "bf16", "error": error} for e, v, error in rows]
    first = scripts.report.claims([], agreement, "cpu")[0]
    assert (first["holds"], first["value"]) == (False, pytest.approx(3.0, rel=1e-3))
    assert "XL-relative, bf16" in first["measured"]
    agreement[2]["error"] = None  # ours raised an error
    assert scripts.report.claims([], agreement, "cpu")[0]["measured"].startswith("inf (T5 bias, learned, bf16")


def test_cells_that_did_not_run_are_foretold_by_the_law_of_their_engine(scripts):
    made = scripts.cells.Cell
    results = {
        (engine, variant, "fp32", "both", n): cell(engine, variant, n, [1.0], 10.0)
        for engine, variant, n in [
            ("sdpa", "t5", 2048), ("sdpa", "t5", 4096), ("huiyan", "t5", 4096), ("huiyan", "window", 4096),
            ("sdpa", "plain", 4096),
        ]
    }  # fmt: skip
    foretold = {
        (engine, variant): scripts.cells.foretell(made(engine, variant, "fp32", "both", 16384), results)
        for engine, variant in (("sdpa", "t5"), ("huiyan", "t5"), ("huiyan", "window"), ("sdpa", "plain"))
    }
    assert foretold["sdpa", "t5"] == {"seconds": 16.0, "extra_bytes": 160.0, "from_n": 4096}
    assert foretold["huiyan", "t5"] == {"seconds": 16.0, "extra_bytes": 40.0, "from_n": 4096}
    assert foretold["huiyan", "window"] == {"seconds": 4.0, "extra_bytes": 40.0, "from_n": 4096}
    assert foretold["sdpa", "plain"] == {"seconds": 16.0, "extra_bytes": 40.0, "from_n": 4096}
    assert scripts.cells.foretell(made("sdpa", "xl", "fp32", "both", 16384), results)["from_n"] is None


def test_the_page_marks_what_did_not_run_and_keeps_its_prose(scripts, tmp_path):
    cells = [
        cell("huiyan", "t5", 4096, [1.0], 20e6),
        cell("sdpa", "t5", 4096, [3.0], 2e9),
        cell("huiyan", "t5", 8192, [0.004], 4e6),
        cell("sdpa", "t5", 8192, [12.0], 8e9, how="extrapolated"),
        {"engine": "oracle", "variant": "t5", "dtype": "fp32", "mode": "both", "n": 4096, "how": "failed", "why": "-9"},
    ]
    results = {
        "date": "2026-01-01",
        "machine": {"processor": "a processor", "device": "cpu"},
        "versions": {"torch": "2"},
        "settings": {"threads": 2, "kernel": "blockwise"},
        "ceilings": {"gemm_fp32_gflops": 200.0, "gemm_bf16_gflops": 400.0, "copy_gb_s": 20.0},
        "claims": scripts.report.claims(cells, [], "cpu"),
        "cells": sorted(cells, key=scripts.report.order),
    }
    path = tmp_path / "page.md"
    marks = f"{scripts.report.begin('cpu')}\nyesterday's table\n{scripts.report.END}"
    path.write_text(f"before\n\n{marks}\n\nafter\n", encoding="utf-8")
    (tmp_path / "images").mkdir()
    for _ in range(2):  # the second writing finds its own marks again
        scripts.report.write(results, path, tmp_path / "images" / "page.svg")
    text = path.read_text(encoding="utf-8")
    assert text.startswith("before\n\n")
    assert text.endswith(f"{scripts.report.END}\n\nafter\n")
    assert "yesterday's" not in text
    assert "| T5 bias, learned | **Huiyan** | 1.00 s, 20 MB | 4.0 ms, 4.0 MB |" in text
    assert "|  | SDPA | 3.00 s, 2.00 GB | ≈ 12 s, 8.00 GB |" in text
    assert "|  | the formula | failed | – |" in text
    assert "| *time / SDPA's* | *0.33* |  |" in text
    assert "more than 10 FLOP a byte" in text
    assert "](images/page.svg)" in text
    drawn = ET.parse(tmp_path / "images" / "page.svg")
    circles = drawn.getroot().findall(".//{*}circle")
    assert len(circles) == 2 * 4
    assert sum(one.get("fill") == "#ffffff" for one in circles) == 2


def test_a_page_without_marks_is_refused(scripts, tmp_path):
    path = tmp_path / "page.md"
    path.write_text("prose\n", encoding="utf-8")
    with pytest.raises(SystemExit, match="needs the two marks"):
        scripts.report.write({"machine": {"device": "cpu"}}, path, None)
    assert path.read_text(encoding="utf-8") == "prose\n"


@pytest.mark.parametrize("engine", ["huiyan", "oracle", "sdpa", "huiyan-module", "torch-module"])
def test_every_engine_computes_the_same(scripts, engine):
    engines = scripts.engines
    for variant in engines.VARIANTS:
        if variant != "dropout" and engines.takes(engine, variant):
            assert engines.disagreement(engine, variant, torch.float32, n=150) < 3e-6, variant


def test_what_learns_gets_its_gradient(scripts):
    engines = scripts.engines
    for engine in ("huiyan", "sdpa"):
        for variant in ("t5", "xl"):
            run, leaves = engines.build(engine, engines.Problem(variant, 70))
            run().sum().backward()
            assert len(leaves) == (4 if variant == "t5" else 6)
            assert all(leaf.grad is not None for leaf in leaves)
