"""What tables say twice, counted on rows that were planted."""

from huiyan.data.examples import Examples
from huiyan.data.overlap import overlap_of

LONG = "the quick brown fox jumps over the lazy dog while seven wizards quietly judge the vexing quartz box number "


def examples(name: str, rows: list[tuple[str, str]], groups: list[str] | None = None) -> Examples:
    texts, labels = [text for text, _ in rows], [label for _, label in rows]
    return Examples(texts, labels, groups, [f"{name}:{line}" for line in range(2, 2 + len(rows))], len(rows))


def different(n: int) -> list[tuple[str, str]]:
    return [(chr(0x4E00 + 40 * row) * 3 + chr(0x4E10 + 40 * row) * 4, "a") for row in range(n)]


def test_rows_with_nothing_in_common() -> None:
    found = overlap_of({"train": examples("t", different(5))})
    assert (found.exact, found.near, found.clusters, found.conflicts, found.leaks) == (0, 0, [], [], [])
    assert found.first_alike == {}


def test_exact_and_near_are_counted_apart() -> None:
    rows = [(LONG + "one", "a"), (LONG.upper() + " ONE", "a"), (LONG + "two", "a"), *different(3)]
    found = overlap_of({"train": examples("t", rows)})
    assert (found.exact, found.near) == (1, 1)
    (cluster,) = found.clusters
    assert cluster.rows == 3 and cluster.sources == ["t:2", "t:3", "t:4"] and cluster.text == LONG + "one"
    assert found.first_alike == {"t:3": "t:2", "t:4": "t:2"}
    assert found.keys_of(examples("t", rows)) == ["t:2", "t:2", "t:2", "t:5", "t:6", "t:7"]


def test_one_text_with_two_labels() -> None:
    found = overlap_of({"train": examples("t", [("so so", "a"), ("So  so", "b"), ("fine", "a"), ("fine", "a")])})
    assert (found.conflicting_texts, found.conflicting_rows) == (1, 2)
    (conflict,) = found.conflicts
    assert conflict.labels == ["a", "b"]


def test_a_conflict_between_parts_is_one_too() -> None:
    found = overlap_of({"train": examples("t", [("so so", "a")]), "test": examples("u", [("so so", "b")])})
    assert found.conflicting_texts == 1


def test_what_a_later_part_repeats() -> None:
    train = examples("t", [(LONG + "one", "a"), ("short", "a"), *different(3)])
    test = examples("u", [("Short", "a"), ("short", "a"), (LONG + "two", "a"), ("alone", "b")])
    (leak,) = overlap_of({"train": train, "test": test}).leaks
    assert (leak.part, leak.of, leak.exact, leak.near, leak.rows) == ("test", "train", 2, 1, 4)
    assert [(one.rows, one.sources) for one in leak.examples] == [(3, ["t:3", "u:2", "u:3"]), (2, ["t:2", "u:4"])]


def test_each_pair_of_parts_is_told_apart() -> None:
    parts = {name: examples(name, [("the same", "a"), (name, "a")]) for name in ("train", "validation", "test")}
    assert [(leak.part, leak.of, leak.exact) for leak in overlap_of(parts).leaks] == [
        ("validation", "train", 1),
        ("test", "train", 1),
        ("test", "validation", 1),
    ]


def test_groups_on_both_sides() -> None:
    train = examples("t", different(3), ["x", "y", "z"])
    test = examples("u", [("other", "a"), ("still other", "a")], ["y", "w"])
    (leak,) = overlap_of({"train": train, "test": test}).leaks
    assert (leak.groups, leak.exact, leak.near, leak.examples) == (1, 0, 0, [])


def test_a_long_text_is_shown_from_its_beginning() -> None:
    (cluster,) = overlap_of({"train": examples("t", [("x" * 10_000, "a")] * 2)}).clusters
    assert cluster.text == "x" * 300
