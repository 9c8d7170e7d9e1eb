"""What the main job reaches: accuracy and macro-F1 with intervals, TF-IDF beside, calibration, time.

Run: make results, or python benchmarks/results.py [--only NAME …] [--rows 8000] [--folder FOLDER] [--json FILE]
[--page FILE]

Every run is `huiyan train` as it comes, on 8,000 rows; the rows are split 80/10/10 by the command itself.

- sentiment: English reviews, one of three by their stars (1–2, 3, 4–5); three seeds.
- department: the same reviews, one of six departments.
- both: the same, sentiment and department as labels of one text.
- chinese: Chinese reviews, positive or negative.

It goes on where it stopped: a run that is finished stays in the folder (`runs/results/`), one that was stopped is
resumed. Each takes under 20 minutes on two cores. The page is written from the figures, whatever of them there is.
"""

import argparse
import csv
import json
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from huiyan import __version__
from huiyan.core.devices import describe_machine
from huiyan.data.known import fetch_data
from huiyan.training.progress import Silent
from huiyan.workflows import wording
from huiyan.workflows.config import DataConfig, RepeatConfig, TrainRun
from huiyan.workflows.train import train

ROOT = Path(__file__).parent
FIGURES, PAGE = ROOT / "results" / "results.json", ROOT.parent / "docs" / "results.md"
FOLDER = ROOT.parent / "runs" / "results"
STARS = {"1": "negative", "2": "negative", "3": "neutral", "4": "positive", "5": "positive"}


@dataclass(frozen=True)
class Case:
    """One table and its run."""

    data: str
    title: str
    label: str = "label"
    options: dict[str, Any] = field(default_factory=dict)
    seeds: int = 1


CASES = {
    "sentiment": Case("womens-clothing", "English reviews, three-class sentiment", "sentiment", seeds=3),
    "department": Case("womens-clothing", "English reviews, department", "department"),
    "both": Case("womens-clothing", "English reviews, both as labels of one text", "both", {"label_separator": "|"}),
    "chinese": Case("online-reviews-zh", "Chinese reviews, positive or negative"),
}


def rows_of(data: str, n: int, folder: Path) -> list[dict[str, str]]:
    """The first ``n`` rows of known data in a random order, each text once."""
    path = folder / f"{data}.csv"
    fetch_data(data, path)
    with path.open(encoding="utf-8", newline="") as file:
        read = list(csv.DictReader(file))
    if data == "womens-clothing":
        read = [
            {"text": row["review"], "sentiment": STARS[row["rating"]], "department": row["department"]}
            for row in read
            if row["review"] and row["department"]
        ]
        read = [row | {"both": f"{row['sentiment']}|{row['department']}"} for row in read]
    rows = list({row["text"]: row for row in read}.values())
    random.Random(0).shuffle(rows)
    return rows[:n]


def run_case(name: str, case: Case, n: int, runs: Path) -> dict[str, Any]:
    """Train, or go on; what is published of the report."""
    folder = runs / f"{name}-{n}"
    folder.mkdir(parents=True, exist_ok=True)
    table, out = folder / "table.csv", folder / "run"
    if not table.is_file():
        rows = rows_of(case.data, n, folder)
        with table.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    finished = out / "report.json"
    if not finished.is_file():
        run = TrainRun(
            file=str(table),
            out=str(out),
            data=DataConfig(text=("text",), label=case.label, **case.options),
            repeats=RepeatConfig(seeds=case.seeds),
        )
        if train(run, reporter=Silent(), resume=out.exists()) is None:
            raise KeyboardInterrupt
    return told(json.loads(finished.read_text(encoding="utf-8"))) | {"title": case.title}


def told(report: dict[str, Any]) -> dict[str, Any]:
    """What is published of a report."""
    shown = ("accuracy", "macro_f1", "micro_f1", "exact_match", "mcc", "auroc")
    calibration = report["calibration"]
    return {
        "model": report["model"]["source"],
        "rows": report["data"]["splits"],
        "metrics": {name: value for name, value in report["test"]["metrics"].items() if name in shown},
        "baselines": [
            {
                "name": one["name"],
                "metrics": {name: value for name, value in one["metrics"].items() if name in shown},
                "words": one["comparison"]["words"],
            }
            for one in report["baselines"]
        ],
        "ece": {"before": calibration["before"]["ece"], "after": calibration["after"]["ece"]},
        "repeated": report["repeated"] and report["repeated"]["spread"],
        "seconds": {"training": report["training"]["seconds"], "whole": report["run"]["timings_s"]["total"]},
        "precision": report["training"]["precision"],
    }


def page_of(found: dict[str, Any]) -> str:
    """``docs/results.md``."""
    lines = [
        "# Results",
        "",
        (
            f"Written by `make results` (`benchmarks/results.py`) on {found['date']}: {found['machine']['processor']}, "
            f"{found['threads']} threads, no GPU; Huiyan {found['versions']['huiyan']}, torch "
            f"{found['versions']['torch']}. Each run is `huiyan train` as it comes, on rows split 80/10/10 by the "
            "command; `--model auto` chose the model. In brackets: 95 % intervals over the test rows. "
            "The data are those of `huiyan data`."
        ),
        "",
    ]
    for case in found["cases"].values():
        names = list(case["metrics"])
        names = [name for name in ("accuracy", "exact_match", "micro_f1", "macro_f1", "mcc", "auroc") if name in names]
        if "accuracy" in names:
            names.remove("micro_f1")
        rows = case["rows"]
        all_of_it = "everything, over three seeds," if case["repeated"] else "everything"
        lines += [
            f"## {case['title']}",
            "",
            (
                f"`{case['model']}`; {rows['train']:,} rows to learn from, {rows['validation']:,} to choose by, "
                f"{rows['test']:,} to test. Training took {wording.duration(case['seconds']['training'])} in "
                f"{case['precision']}, {all_of_it} {wording.duration(case['seconds']['whole'])}."
            ),
            "",
            "| score | this model | " + " | ".join(one["name"] for one in case["baselines"]) + " |",
            "|---" * (2 + len(case["baselines"])) + "|",
        ]
        for name in names:
            cells = [_cell(one["metrics"].get(name)) for one in (case, *case["baselines"])]
            lines.append(f"| {wording.metric_name(name)} | " + " | ".join(cells) + " |")
        lines += ["", *(f"{one['words']}\n" for one in case["baselines"][-1:])]
        lines.append(
            f"Expected calibration error {wording.score(case['ece']['after'])} "
            f"({wording.score(case['ece']['before'])} as trained)."
        )
        if case["repeated"]:
            spread = case["repeated"]
            said = ", ".join(
                f"{wording.metric_name(name)} {wording.score(one['low'])} to {wording.score(one['high'])} "
                f"(mean {wording.score(one['mean'])}, standard deviation {wording.score(one['sd'])})"
                for name, one in spread.items()
            )
            lines += ["", f"Over three seeds: {said}. The table is of the seed that was best on the validation rows."]
        lines.append("")
    return "\n".join(lines)


def _cell(metric: dict[str, Any] | None) -> str:
    if metric is None or metric["value"] is None:
        return wording.NO_VALUE
    if metric["low"] is None or metric["low"] == metric["high"]:
        return wording.score(metric["value"])
    return f"{wording.score(metric['value'])} ({wording.score(metric['low'])} to {wording.score(metric['high'])})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--rows", type=int, default=8000)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--json", type=Path, default=FIGURES)
    parser.add_argument("--page", type=Path, default=PAGE)
    arguments = parser.parse_args()
    cases = json.loads(arguments.json.read_text(encoding="utf-8"))["cases"] if arguments.json.is_file() else {}
    for name in arguments.only:
        print(f"{datetime.now(UTC):%H:%M:%S} {name}", flush=True)
        cases[name] = run_case(name, CASES[name], arguments.rows, arguments.folder)
        found = {
            "date": datetime.now(UTC).date().isoformat(),
            "machine": describe_machine(torch.device("cpu")),
            "threads": torch.get_num_threads(),
            "versions": {"huiyan": __version__, "torch": torch.__version__},
            "cases": {key: cases[key] for key in CASES if key in cases},
        }
        arguments.json.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        arguments.page.write_text(page_of(found), encoding="utf-8")


if __name__ == "__main__":
    main()
