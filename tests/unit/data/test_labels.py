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
    for cell in ("many", "nan", "inf", "1_000"):
        with pytest.raises(DataError, match="no number"):
            reader.read(cell)
    with pytest.raises(DataError, match="over the size limit"):
        reader.read("2e39")


def test_ordered_numbers_have_one_form_and_names_stay() -> None:
    assert [LabelReader("ordinal").read(cell) for cell in ("1", "1.0", "01", 1)] == ["1"] * 4
    assert LabelReader("ordinal").read("low") == "low"  # told later that it has no order
    assert LabelReader("ordinal", order=("01", "02")).read("01") == "01"


def test_an_empty_first_cell_tells_nothing() -> None:
    reader = LabelReader()
    with pytest.raises(DataError, match="no label"):
        reader.read("")
    assert reader.read(["a"]) == '["a"]'


def test_sets_are_written_in_three_ways() -> None:
    reader, parted = LabelReader("multilabel"), LabelReader(separator="|")
    assert reader.read('["b", "a", 3]') == '["3", "a", "b"]' == reader.read(["b", "a", 3])
    assert reader.read("[]") == parted.read("[]") == "[]"
    assert reader.read("[b") == '["[b"]' and reader.read("[1, [2]]") == '["[1, [2]]"]'
    assert parted.read('["a"|b') == '["[\\"a\\"", "b"]'
    with pytest.raises(DataError, match="has the separator in it: 'a|b'"):
        parted.read(["a|b", "c"])


def test_a_set_with_a_label_to_be_left_out_is_left_out() -> None:
    reader = LabelReader(separator="|", drop=("-",))
    assert reader.read("a|b") == '["a", "b"]'
    for cell in ("-", "a| -", ["-"]):
        with pytest.raises(DataError, match="label to be left out: "):
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
