import pytest

from huiyan.core.errors import ColumnError, DataError
from huiyan.data.columns import require_columns, require_good_names
from huiyan.data.limits import MAX_COLUMNS


def test_columns_that_are_there_pass():
    require_columns(["id", "text", "label"], ["text", "label"], option="--text", file="a.csv")


def test_a_missing_column_names_file_option_and_the_closest():
    with pytest.raises(ColumnError) as caught:
        require_columns(["id", "review", "label"], ["reviews"], option="--text", file="a.csv")
    assert str(caught.value) == "a.csv has no column 'reviews' (option --text). Did you mean 'review'?"


def test_a_missing_column_without_a_close_one_lists_them():
    with pytest.raises(ColumnError, match="Choose one of: id, 评论"):
        require_columns(["id", "评论"], ["label"], option="--label", file="a.csv")


def test_names_are_stripped():
    assert require_good_names([" text", "label "], file="a.csv") == ["text", "label"]


def test_a_column_without_a_name_is_called_after_its_place():
    assert require_good_names(["", "text", " "], file="a.csv") == ["column 1", "text", "column 3"]
    with pytest.raises(DataError, match="more than one column named 'column 1'"):
        require_good_names(["", "column 1"], file="a.csv")


def test_names_that_stand_twice_are_named():
    with pytest.raises(DataError, match="more than one column named 'text', 'label'"):
        require_good_names(["text", "label", "id", "text ", "label"], file="a.csv")


def test_too_many_columns_are_refused():
    with pytest.raises(DataError, match=f"{MAX_COLUMNS + 1} columns"):
        require_good_names([str(n) for n in range(MAX_COLUMNS + 1)], file="a.csv")
