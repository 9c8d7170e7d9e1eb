"""Kinds of label: how cells are read, named, counted, and dealt."""

import json
from pathlib import Path

import polars as pl
import pytest

from huiyan.core.errors import ConfigError, DataError
from huiyan.data.examples import read_examples
from huiyan.data.labels import LabelReader, counts_of, names_in, set_label, strata


def test_a_separator_makes_sets_each_name_once_and_in_order() -> None:
    reader = LabelReader(separator="|")
    assert reader.kind == "multilabel"
    assert reader.read(" b | a|b|") == '["a", "b"]' == set_label(["b", "a", "", "b"])
    assert names_in('["a", "b"]', "multilabel") == ["a", "b"]
    with pytest.raises(DataError, match="no label"):
        reader.read(" ")


def test_the_first_cell_tells_lists_from_labels() -> None:
    lists, plain = LabelReader(), LabelReader()
    assert lists.read(["b", "a"]) == '["a", "b"]' and lists.kind == "multilabel"
    assert lists.read([]) == "[]"  # none of the labels is a label set too
    assert plain.read("a|b") == "a|b" and plain.kind == "classify"
    with pytest.raises(DataError, match="not text: a cell holds a list"):
        plain.read(["a"])


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_list_columns_of_files_are_sets(tmp_path: Path, suffix: str) -> None:
    path, rows = tmp_path / f"t{suffix}", [{"t": f"text {n}", "l": ["x", "y"][: n % 3]} for n in range(6)]
    if suffix == ".jsonl":
        path.write_text("\n".join(map(json.dumps, rows)))
    else:
        pl.DataFrame(rows).write_parquet(path)
    examples = read_examples(path, text=["t"], label="l", labels=LabelReader())
    assert examples.kind == "multilabel"
    assert examples.labels == ["[]", '["x"]', '["x", "y"]'] * 2
    assert examples.label_names() == {"x", "y"}


def test_numbers_are_finite_and_have_one_form() -> None:
    reader = LabelReader("regression")
    assert [reader.read(cell) for cell in ("1.50", 2.0, "1e3", " -3 ")] == ["1.5", "2", "1000", "-3"]
    for cell in ("many", "nan", "inf"):
        with pytest.raises(DataError, match="no number"):
            reader.read(cell)


def test_an_order_makes_labels_ordinal_and_closes_them() -> None:
    reader = LabelReader(order=("low", "high"))
    assert reader.kind == "ordinal" and reader.read("low") == "low"
    with pytest.raises(DataError, match="not in --label-order: 'lwo'"):
        reader.read("lwo")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("regression", "|"), "--label-separator is for --task multilabel"),
        (("classify", None, ("a", "b")), "--label-order is for --task ordinal"),
        (("auto", "|", ("a", "b")), "for sets of labels"),
        (("auto", None, ("a", "a")), "each once"),
        (("sorted",), "The task option must be one of"),
        (("auto", ""), "The label_separator option"),
    ],
)
def test_options_that_do_not_go_together(arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LabelReader(*arguments)  # pyright: ignore[reportArgumentType] - some are none


def test_a_set_counts_as_its_rarest_name_that_is_not_too_rare() -> None:
    labels = [set_label(names) for names in [["a"]] * 6 + [["a", "b"]] * 3 + [["a", "c"], []]]
    assert strata(labels, "multilabel") == ["a"] * 6 + ["b"] * 3 + ["a", ""]
    assert counts_of(labels, "multilabel") == {"a": 10, "b": 3, "c": 1}


def test_numbers_count_as_their_tenth() -> None:
    labels = [str(n) for n in range(100)]
    assert list(counts_of(labels, "regression").values()) == [10] * 10
    assert len(set(strata(["3"] * 5, "regression"))) == 1
    assert list(counts_of(["1", "1", "1", "5"], "regression").values()) == [3, 1]
