"""`huiyan check`: what there is to know about labelled data before a model learns from it."""

import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from huiyan.data.examples import Examples
from huiyan.data.overlap import overlap_of
from huiyan.data.quality import check_usable
from huiyan.data.rejected import RejectedRows
from huiyan.data.sample import spread
from huiyan.data.suspicious import KINDS, suspicious_texts
from huiyan.evaluation.baselines import out_of_fold
from huiyan.evaluation.doubts import doubtful_labels
from huiyan.tasks.classify import class_indices
from huiyan.text.scripts import mostly_han, script_shares
from huiyan.text.tokenise import Tokenizer
from huiyan.workflows.config import DataConfig
from huiyan.workflows.models import fetch_model
from huiyan.workflows.tables import read_file

SHOWN_DOUBTS = 50
SHOWN_CHARACTERS = 300
LOOKED_AT = 20_000
"""Texts in which scripts are counted, spread over all."""
_HISTOGRAM = 20
_IMBALANCED = 10
_FEW_OF_A_CLASS = 10


def check(
    file: str,
    data: DataConfig,
    *,
    model: str = "auto",
    max_length: int = 256,
    doubts: bool = True,
    seed: int = 0,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Look at a table and, if given, at its validation and test tables; nothing is written and nothing is trained.

    Args:
        file: the table to learn from.
        data: columns, further files, encoding.
        model: whose tokens lengths are counted in; only its tokenizer is read.
        max_length: tokens a text would be cut to.
        doubts: also cross-validate a linear model and list the labels it doubts.
        seed: of the cross-validation's folds.
        say: told, line by line, what is being done.
    Returns:
        What JSON can hold: ``rows``, ``classes``, ``lengths``, ``overlap``, ``scripts``, ``suspicious``, ``doubts``
        (None when not looked for) and ``findings``: what deserves attention, most serious first.
    Raises:
        DataError: a file or a column cannot be used, or too few rows can.
    """
    with tempfile.TemporaryDirectory(prefix="huiyan-") as folder, RejectedRows(Path(folder) / "rejected") as rejected:
        paths = {"train": file, "validation": data.validation, "test": data.test}
        parts = {name: read_file(path, data, rejected, say) for name, path in paths.items() if path is not None}
        remarks = check_usable(parts["train"], label_column=data.label)
        read = sum(examples.rows_read for examples in parts.values())
        reasons = dict(rejected.reasons)
    found = _describe(parts, rows={"read": read, "rejected": sum(reasons.values()), "reasons": reasons})
    known = parts["train"]
    say("counting tokens")
    found["lengths"] = _lengths(parts, model, max_length)
    say("looking for duplicates")
    overlap = overlap_of(parts)
    found["overlap"] = {name: value for name, value in asdict(overlap).items() if name != "blocks"}
    if doubts:
        say("cross-validating a linear model, to see which labels it doubts")
        found["doubts"] = _doubts(known, overlap.blocks[: len(known)], seed)
    found["findings"] = remarks + _findings(found)
    return found


def _describe(parts: dict[str, Examples], *, rows: dict[str, Any]) -> dict[str, Any]:
    everything = [text for examples in parts.values() for text in examples.texts]
    sources = [source for examples in parts.values() for source in examples.sources]
    return {
        "format": 1,
        "rows": {**rows, "used": len(everything), "parts": {name: len(examples) for name, examples in parts.items()}},
        "encodings": {name: examples.encoding.name for name, examples in parts.items() if examples.encoding},
        "classes": {name: dict(Counter(examples.labels).most_common()) for name, examples in parts.items()},
        "scripts": script_shares(spread(everything, LOOKED_AT)),
        "suspicious": [
            {
                "kind": one.kind,
                "meaning": KINDS[one.kind],
                "rows": one.count,
                "examples": [{"source": sources[row], "text": everything[row][:SHOWN_CHARACTERS]} for row in one.rows],
            }
            for one in suspicious_texts(everything)
        ],
        "doubts": None,
    }


def _lengths(parts: dict[str, Examples], model: str, max_length: int) -> dict[str, Any]:
    tokenizer = Tokenizer.from_folder(fetch_model(model).folder)
    counts = [np.array(tokenizer.count_tokens(examples.texts)) for examples in parts.values()]
    lengths = np.concatenate(counts)
    edges = np.unique(np.geomspace(lengths.min(), lengths.max() + 1, _HISTOGRAM + 1).round().astype(int))
    cut = lengths > max_length
    return {
        "model": model,
        "max_length": max_length,
        "median": int(np.median(lengths)),
        "p95": int(np.percentile(lengths, 95)),
        "max": int(lengths.max()),
        "mean": float(lengths.mean()),
        "cut_rows": int(cut.sum()),
        "cut_share_of_tokens": float((lengths[cut] - max_length).sum() / lengths.sum()),
        "histogram": {"edges": edges.tolist(), "rows": np.histogram(lengths, edges)[0].tolist()},
    }


def _doubts(known: Examples, blocks: list[int], seed: int) -> dict[str, Any]:
    classes = sorted(set(known.labels))
    labels = class_indices(known.labels, classes)
    probabilities = out_of_fold(
        known.texts, labels, blocks, n_classes=len(classes), character_ngrams=mostly_han(known.texts), seed=seed
    )
    found = doubtful_labels(labels, probabilities)
    return {
        "rows": len(found),
        "of": len(known),
        "accuracy": float((probabilities.argmax(1) == labels).mean()),
        "examples": [
            {
                "source": known.sources[doubt.row],
                "text": known.texts[doubt.row][:SHOWN_CHARACTERS],
                "label": classes[doubt.label],
                "likely": classes[doubt.likely],
                "probability_of_label": doubt.probability_of_label,
                "probability_of_likely": doubt.probability_of_likely,
            }
            for doubt in found[:SHOWN_DOUBTS]
        ],
    }


def _findings(found: dict[str, Any]) -> list[str]:
    """What deserves attention, in words with the next step, the most serious first."""
    overlap, lengths, doubts = found["overlap"], found["lengths"], found["doubts"]
    said: list[str] = []
    for leak in overlap["leaks"]:
        if leak["exact"] or leak["near"]:
            said.append(
                f"{leak['exact'] + leak['near']:,} of the {leak['rows']:,} {leak['part']} texts are among the "
                f"{leak['of']} texts as well ({leak['near']:,} of them nearly): figures on them flatter the model. Take "
                "them out of one of the two."
            )
        if leak["groups"]:
            said.append(f"{leak['groups']:,} groups have rows in {leak['part']} and in {leak['of']}.")
    if overlap["conflicting_texts"]:
        said.append(
            f"{overlap['conflicting_texts']:,} texts have several labels ({overlap['conflicting_rows']:,} rows): no "
            "model can get all of them right. Decide on one label for each."
        )
    said += [f"{one['rows']:,} texts: {one['meaning']}." for one in found["suspicious"]]
    if lengths["cut_rows"]:
        said.append(
            f"{lengths['cut_rows']:,} texts are longer than {lengths['max_length']} tokens and would be cut, "
            f"{lengths['cut_share_of_tokens']:.1%} of all tokens. --max-length {_round_length(lengths['p95'])} would "
            "keep 19 of 20 texts whole."
        )
    said += _of_classes(found["classes"]["train"])
    repeated = overlap["exact"] + overlap["near"]
    if repeated:
        said.append(
            f"{repeated:,} rows repeat another one ({overlap['near']:,} of them nearly). Splits of our own keep them "
            "together, so no harm is done beyond the time they take."
        )
    if doubts and doubts["rows"]:
        said.append(
            f"The labels of {doubts['rows']:,} of {doubts['of']:,} rows are doubted by a model that did not see them. "
            "Look at the first ones: a wrong label costs more than a missing row."
        )
    return said


def _of_classes(counts: dict[str, int]) -> list[str]:
    said: list[str] = []
    most, least = max(counts.values()), min(counts.values())
    if most > _IMBALANCED * least:
        said.append(
            f"The most frequent label has {most:,} rows, the rarest {least:,}. Judge by macro F1, and try "
            "--class-weights balanced."
        )
    few = [label for label, count in counts.items() if count < _FEW_OF_A_CLASS]
    if few:
        shown = ", ".join(map(repr, few[:5])) + (f" and {len(few) - 5} more" if len(few) > 5 else "")
        said.append(f"{len(few)} labels have under {_FEW_OF_A_CLASS} rows, too few to learn or to test: {shown}.")
    return said


def _round_length(tokens: int) -> int:
    return -(-tokens // 32) * 32
