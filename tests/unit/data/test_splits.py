import hashlib
import json
import os
import subprocess
import sys
from collections import Counter

import pytest

from huiyan.core.errors import DataError
from huiyan.data.splits import fold_rows, read_splits, split_rows, text_sha256, write_splits

LABELS = ["a"] * 500 + ["b"] * 303 + ["c"] * 37 + ["d"] * 3
TEXTS = [f"text {n}" for n in range(len(LABELS))]


def shares(splits, labels) -> dict[str, list[int]]:
    counts = [Counter(labels[row] for row in rows) for rows in (splits.train, splits.validation, splits.test)]
    return {label: [count[label] for count in counts] for label in dict.fromkeys(labels)}


def test_every_class_has_its_share_to_within_a_row():
    splits = split_rows(LABELS, TEXTS, groups=None, seed=0)
    for label, (_, *held_out) in shares(splits, LABELS).items():
        for n in held_out:
            assert abs(n - 0.1 * LABELS.count(label)) <= 1
            assert n >= 1
    assert splits.notes == []
    assert sorted(splits.train + splits.validation + splits.test) == list(range(len(LABELS)))


def test_the_whole_split_is_a_tenth_however_many_classes():
    labels = [f"class {n % 60}" for n in range(900)]  # 15 a class: a tenth is 1.5
    splits = split_rows(labels, [str(n) for n in range(900)], groups=None, seed=0)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (720, 90, 90)
    assert {n for _, *held_out in shares(splits, labels).values() for n in held_out} == {1, 2}


def test_without_a_test_fraction_there_is_no_test_split():
    splits = split_rows(LABELS, TEXTS, groups=None, seed=0, fractions=(0.9, 0.1, 0.0))
    assert splits.test == []
    assert abs(len(splits.validation) - 84) <= 1
    assert splits.notes == []


def test_tiny_classes_train_only_and_are_named():
    labels = [*LABELS, "e", "e", "f"]
    splits = split_rows(labels, [*TEXTS, "x", "y", "z"], groups=None, seed=3)
    assert {843, 844, 845} <= set(splits.train)
    (note,) = splits.notes
    assert note.endswith("'e', 'f'.")


def test_a_class_of_one_text_repeated_trains_only():
    labels = [*LABELS, *["e"] * 30]
    splits = split_rows(labels, [*TEXTS, *["same"] * 30], groups=None, seed=3)
    assert set(range(843, 873)) <= set(splits.train)
    assert "'e'" in splits.notes[0]


def test_many_tiny_classes_are_not_all_listed():
    labels = LABELS + [f"tiny {n:02}" for n in range(30)]
    texts = TEXTS + [f"tiny text {n}" for n in range(30)]
    (note,) = split_rows(labels, texts, groups=None, seed=0).notes
    assert note.endswith("'tiny 09' and 20 more.")


def test_the_seed_decides_the_rows():
    splits = [split_rows(LABELS, TEXTS, groups=None, seed=seed) for seed in (0, 0, 1)]
    assert splits[0] == splits[1]
    assert splits[0].test != splits[2].test


def test_rows_are_drawn_from_the_whole_table():
    splits = split_rows(["a", "b"] * 500, [str(n) for n in range(1000)], groups=None, seed=0)
    quarters = Counter(row // 250 for row in splits.test)
    assert min(quarters[quarter] for quarter in range(4)) >= 10  # 25 are expected in each


def test_the_split_is_the_same_in_every_process():
    program = (
        "from huiyan.data.splits import split_rows\n"
        "labels = ['a', 'b', 'c'] * 40\n"
        "texts = [f'text {n % 110}' for n in range(120)]\n"
        "print(split_rows(labels, texts, groups=[str(n // 2) for n in range(120)], seed=7))"
    )
    answers = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(answers) == 1
    assert "train=[" in answers.pop()


def test_the_split_of_a_seed_stays_what_it_was():
    """A change here changes every user's split: say so in the change log."""
    splits = split_rows(["a", "b"] * 20, [str(n) for n in range(40)], groups=None, seed=0)
    assert (splits.validation, splits.test) == ([2, 3, 15, 20], [12, 25, 32, 35])


@pytest.mark.parametrize("size", [4, 20])
def test_groups_stay_together_and_fractions_nearly_hold(size):
    n = 1000
    labels = ["a" if n % 3 else "b" for n in range(n)]
    groups = [str(row // size) for row in range(n)]
    splits = split_rows(labels, [str(row) for row in range(n)], groups=groups, seed=1)
    sides = [{groups[row] for row in rows} for rows in (splits.train, splits.validation, splits.test)]
    assert not sides[0] & sides[1] | sides[0] & sides[2] | sides[1] & sides[2]
    for held_out in (splits.validation, splits.test):
        assert abs(len(held_out) - 100) <= size
    for label, (_, *held_out) in shares(splits, labels).items():
        for count in held_out:
            assert abs(count - 0.1 * labels.count(label)) <= size


def test_one_huge_group_goes_to_training_and_the_rest_is_split():
    labels = ["a", "b"] * 100
    groups = ["huge" if row < 120 else str(row) for row in range(200)]
    for seed in range(5):
        splits = split_rows(labels, [str(row) for row in range(200)], groups=groups, seed=seed)
        assert set(range(120)) <= set(splits.train)
        assert (len(splits.validation), len(splits.test)) == (20, 20)


def test_large_groups_do_not_flood_a_held_out_split():
    labels = ["a", "b"] * 200
    groups = [f"group {row // 40}" if row < 200 else str(row) for row in range(400)]
    for seed in range(5):
        splits = split_rows(labels, [str(row) for row in range(400)], groups=groups, seed=seed)
        assert len(splits.validation) <= 60
        assert len(splits.test) <= 60
    groups = [f"group {row // 100}" if row < 300 else str(row) for row in range(400)]
    for seed in range(5):
        splits = split_rows(labels, [str(row) for row in range(400)], groups=groups, seed=seed)
        assert (len(splits.validation), len(splits.test)) == (40, 40)


def test_a_tiny_class_within_groups_trains_only():
    n = 400
    labels = ["rare" if row in (7, 207) else "ab"[row % 2] for row in range(n)]
    for seed in range(20):
        splits = split_rows(
            labels, [str(row) for row in range(n)], groups=[str(row // 20) for row in range(n)], seed=seed
        )
        assert {7, 207} <= set(splits.train)
        assert "'rare'" in splits.notes[0]


def test_a_split_that_misses_its_size_is_noted():
    labels = ["a", "b"] * 60
    groups = [str(row // 30) for row in range(120)]
    splits = split_rows(labels, [str(row) for row in range(120)], groups=groups, seed=0, fractions=(0.7, 0.15, 0.15))
    assert any("rather than 15%" in note for note in splits.notes)


def test_too_few_groups_are_refused():
    with pytest.raises(DataError, match="No row is left for the .* split: the 100 rows form only 2 sets"):
        split_rows(["a", "b"] * 50, [str(n) for n in range(100)], groups=["x", "y"] * 50, seed=0)


def test_every_class_is_seen_in_training():
    # Each block holds one class, so a careless dealer could test on what was never trained.
    labels = [str(row // 12) for row in range(120)]
    groups = [str(row // 4) for row in range(120)]
    for seed in range(10):
        splits = split_rows(labels, [str(row) for row in range(120)], groups=groups, seed=seed)
        assert {labels[row] for row in splits.train} == set(labels)
    # The blocks that hold an "a" are wanted more elsewhere here: without care, training would see none.
    labels, groups = list("abbcccbcbbabbbcbcaca"), list("43134032015015626161")
    splits = split_rows(labels, [str(row) for row in range(20)], groups=groups, seed=0)
    assert {labels[row] for row in splits.train} == set(labels)


def test_identical_texts_stay_together():
    labels = ["a", "b"] * 200
    texts = [f"Text {row // 2}" if row % 2 else f"text  {row // 2} " for row in range(400)]
    splits = split_rows(labels, texts, groups=None, seed=0)
    for rows in (splits.train, splits.validation, splits.test):
        assert {row ^ 1 for row in rows} == set(rows)
    assert (len(splits.validation), len(splits.test)) == (40, 40)


def test_written_splits_are_read_back(tmp_path):
    assignments = [("评论.csv:2", "train", text_sha256("好")), ("a.csv:3", "test", text_sha256("b"))]
    write_splits(tmp_path / "splits.jsonl", assignments)
    assert read_splits(tmp_path / "splits.jsonl") == assignments
    first = json.loads((tmp_path / "splits.jsonl").read_text("utf-8").splitlines()[0])
    assert first == {"source": "评论.csv:2", "split": "train", "sha256": hashlib.sha256("好".encode()).hexdigest()}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"source": "a:1", "split": "train", "sha256": "0"}\nno json\n', "line 2 is broken"),
        ('{"source": "a:1"}\n', "line 1 is broken"),
        ("[]\n", "line 1 is broken"),
        ('{"source": "a:1", "split": "dev", "sha256": "0"}\n', "unknown split 'dev' on line 1"),
    ],
)
def test_a_broken_file_of_splits_is_an_error(tmp_path, content, message):
    (tmp_path / "splits.jsonl").write_text(content)
    with pytest.raises(DataError, match=message):
        read_splits(tmp_path / "splits.jsonl")


def test_a_missing_file_of_splits_is_an_error(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_splits(tmp_path / "splits.jsonl")


def test_folds_have_each_class_in_proportion_and_keep_blocks_together() -> None:
    labels = ["a"] * 60 + ["b"] * 30 + ["c"]
    groups = [str(row // 3) for row in range(90)] + ["alone"]
    fold_of = fold_rows(labels, [str(row) for row in range(91)], groups=groups, seed=0, folds=5)
    assert fold_of[-1] == -1  # a model that is to know it cannot be tested on it
    assert Counter(fold_of[:60]) == dict.fromkeys(range(5), 12) and Counter(fold_of[60:90]) == dict.fromkeys(
        range(5), 6
    )
    assert all(len(set(fold_of[row : row + 3])) == 1 for row in range(0, 90, 3))
    assert fold_of != fold_rows(labels, [str(row) for row in range(91)], groups=groups, seed=1, folds=5)


def test_too_few_blocks_for_the_folds_are_refused() -> None:
    with pytest.raises(DataError, match="cannot fill 5 folds"):
        fold_rows(["a", "b"] * 10, [str(row) for row in range(20)], groups=["x", "y"] * 10, seed=0, folds=5)
