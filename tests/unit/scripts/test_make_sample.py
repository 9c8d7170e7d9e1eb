import csv
import importlib.util
from collections import Counter
from pathlib import Path

import polars as pl
import pytest

from huiyan.data.blocks import text_key

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("make_sample", ROOT / "scripts" / "make_sample.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def bundled(name: str) -> list[dict[str, str]]:
    with (ROOT / "examples" / "data" / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_bundled_files_are_as_promised(script):
    train, test = bundled("reviews.train.csv"), bundled("reviews.test.csv")
    assert (len(train), len(test)) == (2900, 700)
    assert tuple(train[0]) == tuple(test[0]) == tuple(script.COLUMNS)
    assert Counter(row["sentiment"] for row in train) == {"negative": 967, "mixed": 967, "positive": 966}
    assert Counter(row["sentiment"] for row in test) == {"negative": 234, "mixed": 233, "positive": 233}
    assert len({text_key(row["review"]) for row in train + test}) == 3600
    assert all(row["review"] and row["department"] for row in train + test)
    # Classes are mixed, so that the head of the file shows all of them.
    assert len({row["sentiment"] for row in train[:20]}) == 3


def test_reviews_are_read_once_each_with_their_class(script, tmp_path):
    path = tmp_path / "reviews.parquet"
    pl.DataFrame(
        {
            "__index_level_0__": range(7),
            "Title": [None, " T ", "", "", "", "", ""],
            "Review Text": [" good ", "GOOD", None, "bad", "fine", "best", "no department"],
            "Rating": [5, 1, 1, 2, 3, 4, 5],
            "Department Name": ["Tops", "Tops", "Tops", "Tops", "Tops", "Tops", None],
        }
    ).write_parquet(path)
    reviews = script.read_reviews(path)
    assert [(row["id"], row["title"], row["review"], row["sentiment"]) for row in reviews] == [
        (0, "", "good", "positive"),
        (3, "", "bad", "negative"),
        (4, "", "fine", "mixed"),
        (5, "", "best", "positive"),
    ]


def test_the_draw_is_balanced_disjoint_and_repeatable(script, tmp_path):
    reviews = [
        {"id": n, "title": "", "review": f"text {n}", "department": "Tops", "sentiment": script.CLASSES[n % 7 % 3]}
        for n in range(6000)
    ]
    train, test = script.draw(reviews)
    assert (train, test) == script.draw(reviews)
    assert not {row["id"] for row in train} & {row["id"] for row in test}
    assert Counter(row["sentiment"] for row in train) == {"negative": 967, "mixed": 967, "positive": 966}
    script.write_csv(tmp_path / "a.csv", test)
    assert (tmp_path / "a.csv").read_bytes().startswith(b"id,title,review,department,sentiment\n")
