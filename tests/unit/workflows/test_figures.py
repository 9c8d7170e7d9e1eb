import pytest

from huiyan.workflows.figures import confusion_table, learning_curves, line_chart, ticks


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 1, [0, 0.25, 0.5, 0.75, 1]), (0.42, 0.73, [0.4, 0.5, 0.6, 0.7, 0.8]), (20, 364, [0, 100, 200, 300, 400])],
)
def test_ticks_are_round_and_hold_the_data(low, high, expected):
    assert ticks(low, high) == expected


@pytest.mark.parametrize("value", [0.0, 5.0, -3.0, 1e-9])
def test_ticks_of_one_value_still_span(value):
    marks = ticks(value, value)
    assert len(marks) >= 2
    assert marks[0] <= value <= marks[-1]


def test_lines_run_from_left_to_right_inside_the_box_and_up_when_higher():
    chart = line_chart("Loss", {"a": [(0, 1.0), (50, None), (100, 0.0)], "alone": [(0, 1.0)]}, mark=50)
    assert [line["name"] for line in chart["lines"]] == ["a"]
    (x0, y0), (x1, y1) = chart["lines"][0]["dots"]
    assert (x0, y0) == (chart["left"], chart["top"])
    assert (x1, y1) == (chart["right"], chart["bottom"])
    assert chart["mark"] == pytest.approx((x0 + x1) / 2)
    assert chart["lines"][0]["points"] == f"{x0},{y0} {x1},{y1}"


def test_nothing_to_draw():
    assert line_chart("Loss", {"a": [(0, 1.0)], "b": []}, mark=0) is None
    assert learning_curves([], metric="macro_f1", best_step=0) == []


def test_long_histories_are_thinned_and_keep_their_end():
    chart = line_chart("Loss", {"a": [(step, step / 4000) for step in range(4001)]}, mark=-5)
    points = chart["lines"][0]["points"].split()
    assert 100 < len(points) <= 401
    assert points[-1] == f"{float(chart['right'])},{float(chart['top'])}"
    assert chart["lines"][0]["dots"] == []
    assert chart["mark"] is None


def test_confusion_as_shares_of_the_row_and_pairs_by_number():
    table = confusion_table(["a", "b", "none"], [[3, 1, 0], [4, 4, 0], [0, 0, 0]])
    assert [cell["share"] for cell in table["rows"][0]["cells"]] == [0.75, 0.25, 0]
    assert [cell["right"] for cell in table["rows"][1]["cells"]] == [False, True, False]
    assert table["rows"][2]["cells"][0]["share"] == 0
    assert [(p["actual"], p["predicted"], p["count"], p["share"]) for p in table["pairs"]] == [
        ("b", "a", 4, 0.5),
        ("a", "b", 1, 0.25),
    ]


def test_many_classes_are_listed_not_drawn():
    n = 21
    table = confusion_table([str(i) for i in range(n)], [[1] * n for _ in range(n)])
    assert table["rows"] == []
    assert len(table["pairs"]) == 20
