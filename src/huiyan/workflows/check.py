"""`huiyan check`: what there is to know about labelled data before a model learns from it."""

import itertools
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from huiyan.core.texts import Text
from huiyan.data.examples import Examples
from huiyan.data.labels import counts_of, strata
from huiyan.data.overlap import Overlap, overlap_of
from huiyan.data.quality import check_usable
from huiyan.data.rejected import RejectedRows
from huiyan.data.sample import spread
from huiyan.data.suspicious import KINDS, suspicious_texts
from huiyan.tasks.profile import histogram_edges
from huiyan.text.scripts import script_shares
from huiyan.text.tokenise import Tokenizer
from huiyan.workflows import wording
from huiyan.workflows.config import DataConfig
from huiyan.workflows.doubts import SHOWN_CHARACTERS, doubts_of
from huiyan.workflows.models import fetch_model, model_for
from huiyan.workflows.tables import read_file

LOOKED_AT = 20_000
"""Texts in which scripts are counted, spread over all."""
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
        What JSON can hold: that of ``look_at``, and ``rows`` (read, rejected, why) and ``encodings``.
    Raises:
        DataError: a file or a column cannot be used, or too few rows can.
    """
    with tempfile.TemporaryDirectory(prefix="huiyan-") as folder, RejectedRows(Path(folder) / "rejected") as rejected:
        paths = {"train": file, "validation": data.validation, "test": data.test}
        labels = data.label_reader()
        parts = {name: read_file(path, data, labels, rejected, say) for name, path in paths.items() if path is not None}
        remarks = check_usable(parts["train"], label_column=data.label, order=data.label_order)
        reasons = dict(rejected.reasons)
    if reasons:
        listed = ", ".join(f"{reason} ({count:,})" for reason, count in rejected.reasons.most_common())
        where = "`huiyan train` writes down which they are, in rejected.jsonl."
        remarks = [f"Rows that cannot be used: {sum(reasons.values()):,}: {listed}. {where}", *remarks]
    source = fetch_model(model_for(model, parts["train"].plain))
    tokenizer = Tokenizer.from_folder(source.folder)
    say("looking for duplicates")
    overlap = overlap_of(parts)
    found = look_at(
        parts,
        overlap,
        count_tokens=tokenizer.count_tokens,
        max_length=max_length,
        doubted=parts["train"] if doubts else None,
        seed=seed,
        say=say,
    )
    read = sum(examples.rows_read for examples in parts.values())
    return {
        "format": 1,
        "rows": {"read": read, "used": sum(map(len, parts.values())), "rejected": sum(reasons.values())}
        | {"reasons": reasons},
        "encodings": {name: examples.encoding.name for name, examples in parts.items() if examples.encoding},
        **found,
        "tokens": {"model": source.name, **found["tokens"]},
        "findings": remarks + found["findings"],
    }


def look_at(
    parts: dict[str, Examples],
    overlap: Overlap,
    *,
    count_tokens: Callable[[Sequence[Text]], list[int]],
    max_length: int,
    doubted: Examples | None,
    seed: int,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Describe rows that have been read.

    Args:
        parts: rows by the name of their part, training first.
        overlap: what ``overlap_of`` found in them.
        count_tokens: how many tokens each text has.
        max_length: tokens a text would be cut to.
        doubted: rows whose labels a linear model is cross-validated on; None leaves that out.
        seed: of its folds.
        say: told, line by line, what is being done.
    Returns:
        What JSON can hold: ``splits``, ``class_counts``, ``tokens``, ``overlap``, ``scripts``, ``suspicious``,
        ``doubts`` (None when not looked for, or where nothing can be said) and ``findings``: what deserves attention,
        most serious first.
    """
    say("counting tokens, looking for texts that are damaged")
    found = _describe(parts)
    found["tokens"] = _tokens(parts, count_tokens, max_length)
    found["overlap"] = {name: value for name, value in asdict(overlap).items() if name != "first_alike"}
    if doubted is not None and doubted.kind != "regression":
        several = f" for each of {len(doubted.label_names()):,} labels" if doubted.kind == "multilabel" else ""
        say(f"cross-validating a linear model{several}, to see which labels it doubts")
        found["doubts"] = doubts_of(doubted, overlap.keys_of(doubted), seed=seed)
        if found["doubts"] is None:
            say("which labels are in doubt cannot be said: there are too few rows, or texts that differ")
    found["findings"] = _findings(found)
    return found


def _describe(parts: dict[str, Examples]) -> dict[str, Any]:
    everything = [text for examples in parts.values() for text in examples.plain]
    sources = [source for examples in parts.values() for source in examples.sources]
    return {
        "splits": {name: len(examples) for name, examples in parts.items()},
        "task": parts["train"].kind,
        "class_counts": _class_counts(parts),
        "scripts": script_shares(spread(everything, LOOKED_AT)),
        "suspicious": [
            {
                "kind": one.kind,
                "meaning": KINDS[one.kind],
                "rows": one.count,
                "examples": [{"source": sources[row], "text": _around(everything[row], at)} for row, at in one.places],
            }
            for one in suspicious_texts(everything)
        ],
        "doubts": None,
    }


def _class_counts(parts: dict[str, Examples]) -> dict[str, dict[str, int]]:
    """Rows of each name in each part; of numbers, rows of each tenth of all."""
    kind = parts["train"].kind
    if kind != "regression":
        return {name: counts_of(examples.labels, kind) for name, examples in parts.items()}
    order = counts_of([label for examples in parts.values() for label in examples.labels], kind)
    named = iter(strata([label for examples in parts.values() for label in examples.labels], kind))
    counts = {name: Counter(itertools.islice(named, len(examples))) for name, examples in parts.items()}
    return {name: {one: found[one] for one in order} for name, found in counts.items()}


def _around(text: str, place: int) -> str:
    start = max(0, place - 30)
    return ("…" if start else "") + text[start : place + SHOWN_CHARACTERS - 30]


def _tokens(
    parts: dict[str, Examples], count_tokens: Callable[[Sequence[Text]], list[int]], max_length: int
) -> dict[str, Any]:
    lengths = np.concatenate([np.array(count_tokens(examples.texts)) for examples in parts.values()])
    edges = histogram_edges(lengths)
    cut = lengths > max_length
    return {
        "max_length": max_length,
        "median": int(np.median(lengths)),
        "p95": int(np.percentile(lengths, 95)),
        "max": int(lengths.max()),
        "mean": float(lengths.mean()),
        "cut_rows": int(cut.sum()),
        "cut_share_of_tokens": float((lengths[cut] - max_length).sum() / lengths.sum()),
        "histogram": {"edges": edges.tolist(), "rows": np.histogram(lengths, edges)[0].tolist()},
    }


def _findings(found: dict[str, Any]) -> list[str]:
    """What deserves attention, in words with the next step, the most serious first."""
    overlap, tokens, doubts = found["overlap"], found["tokens"], found["doubts"]
    said: list[str] = []
    for leak in overlap["leaks"]:
        said += wording.leak_sentences(leak)
    if overlap["conflicting_texts"]:
        texts, rows = f"{overlap['conflicting_texts']:,}", f"{overlap['conflicting_rows']:,}"
        said.append(
            f"Texts with several numbers: {texts} ({rows} rows). No model can meet all of them; their mean is the best "
            "there is."
            if found["task"] == "regression"
            else f"Texts that are labelled in several ways: {texts} ({rows} rows). No model can get all of them right; "
            "decide on one for each."
        )
    said += [f"Texts that may be damaged: {one['rows']:,} ({one['meaning']})." for one in found["suspicious"]]
    if tokens["cut_rows"]:
        said.append(
            f"Texts longer than {tokens['max_length']} tokens, which are cut: {tokens['cut_rows']:,} "
            f"({tokens['cut_share_of_tokens']:.1%} of all tokens)." + _enough(tokens)
        )
    if found["task"] != "regression":
        said += _of_classes(found["class_counts"]["train"])
    if overlap["exact"] + overlap["near"]:
        said.append(
            f"Rows that repeat another one: {overlap['exact']:,}, and {overlap['near']:,} nearly. Splits of our own "
            "keep them together, so no harm is done beyond the time they take."
        )
    if doubts and doubts["rows"]:
        said.append(
            f"Labels that a model doubts which did not see them: {doubts['rows']:,} of {doubts['of']:,}. Look at the "
            "first ones: a wrong label costs more than a missing row."
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
        said.append(f"Labels with under {_FEW_OF_A_CLASS} rows, too few to learn or to test: {shown}.")
    return said


def _enough(tokens: dict[str, Any]) -> str:
    """What to say where the usual text is cut, too."""
    if tokens["p95"] <= tokens["max_length"]:
        return ""
    return f" --max-length {-(-tokens['p95'] // 32) * 32} would keep 19 of 20 texts whole, if the model has so many."
