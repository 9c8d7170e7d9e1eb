import pytest

from huiyan.core.errors import DataError
from huiyan.data.examples import Examples
from huiyan.data.labels import set_label
from huiyan.data.quality import check_usable


def examples_of(labels: list[str], **more) -> Examples:
    n = len(labels)
    return Examples([f"text {i}" for i in range(n)], labels, None, [f"a.csv:{i + 2}" for i in range(n)], n, **more)


def test_enough_rows_pass_without_a_word():
    assert check_usable(examples_of(["a", "b"] * 100), label_column="label") == []


def test_few_rows_are_warned_of():
    (warning,) = check_usable(examples_of(["a"] * 100 + ["b"] * 99), label_column="label")
    assert "Only 199 usable rows" in warning
    assert "wide intervals" in warning


def test_twenty_rows_are_enough():
    assert len(check_usable(examples_of(["a", "b"] * 10), label_column="label")) == 1


def test_too_few_rows_are_refused_with_what_became_of_the_others():
    rejected = {"no text": 3, "undecodable": 40}
    with pytest.raises(DataError) as caught:
        check_usable(Examples(["t"] * 19, ["a"] * 19, None, ["s"] * 19, 62, rejected=rejected), label_column="label")
    assert "At least 20 usable rows are needed" in caught.value.message
    assert "Got 19 of 62 read; rejected: 40 with undecodable, 3 with no text." in caught.value.message


def test_a_single_class_is_refused():
    with pytest.raises(DataError, match="same label 'a' in column 'label'"):
        check_usable(examples_of(["a"] * 50), label_column="label")


def test_labels_that_are_mostly_unique_are_refused_and_others_suggested():
    labels = [str(n) for n in range(40)] + ["0"] * 20
    with pytest.raises(DataError) as caught:
        check_usable(
            examples_of(labels, distinct={"id": 60, "stars": 5, "constant": 1, "useful": 2, "user": 33}),
            label_column="id",
        )
    assert "'id' has 40 different values in 60 rows: mostly unique" in caught.value.message
    assert caught.value.hint.endswith("'useful' (2 values), 'stars' (5 values).")


def test_columns_to_suggest_can_be_handed_in():
    with pytest.raises(DataError, match=r"'stars' \(5 values\)"):
        check_usable(examples_of([str(n) for n in range(40)]), label_column="id", columns={"stars": 5, "id": 40})


def test_with_nothing_to_suggest_it_says_so():
    with pytest.raises(DataError, match="No other column has a few distinct values"):
        check_usable(examples_of([str(n) for n in range(40)]), label_column="id")


def test_many_labels_a_row_are_no_unique_ones():
    labels = [set_label([f"l{(row + more) % 20}" for more in range(10)]) for row in range(40)]
    assert len(check_usable(examples_of(labels, kind="multilabel"), label_column="label")) == 1
    with pytest.raises(DataError, match="mostly unique"):
        check_usable(examples_of([set_label([f"l{row}"]) for row in range(40)], kind="multilabel"), label_column="l")
