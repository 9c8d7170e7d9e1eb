"""Rows out of Parquet files, a batch at a time."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from huiyan.core.errors import DataError
from huiyan.data.columns import require_good_names
from huiyan.data.delimited import Record

if TYPE_CHECKING:
    import polars as pl

# Every batch is a query of its own, which unpacks the row groups it touches: small batches of one huge group are slow,
# and polars' own streaming of batches (collect_batches) runs ahead of its reader without bound.
_FIRST_BATCH_ROWS = 1_000
_MAX_BATCH_ROWS = 200_000
_BATCH_BYTES = 8 * 2**20


class ParquetReader:
    """The rows of a Parquet file, numbered from 1.

    Args:
        path: the file on disk.
        name: the file as the user wrote it, for messages.
    Raises:
        DataError: the file is damaged or no Parquet.
    """

    def __init__(self, path: str, *, name: str) -> None:
        import polars as pl

        self.notes: list[str] = []
        self._name = name
        # No globbing: a name with a bracket or a star is a name.
        self._frame = pl.scan_parquet(path, glob=False)
        try:
            names = self._frame.collect_schema().names()
        except (pl.exceptions.PolarsError, OSError) as error:
            raise self._damaged(error) from error
        self.columns = require_good_names(names, file=name)

    def __iter__(self) -> Iterator[Record]:
        """Every row."""
        number = 0
        for batch in self._batches():
            # By position: the names above are stripped.
            for cells in batch.iter_rows():
                number += 1
                yield number, dict(zip(self.columns, cells, strict=True)), None

    def _batches(self) -> "Iterator[pl.DataFrame]":
        import polars as pl

        start = 0
        n_rows = _FIRST_BATCH_ROWS
        while True:
            try:
                batch = self._frame.slice(start, n_rows).collect()
            except (pl.exceptions.PolarsError, OSError) as error:
                raise self._damaged(error) from error
            if batch.is_empty():
                return
            yield batch
            start += len(batch)
            bytes_a_row = batch.estimated_size() / len(batch) + 1
            n_rows = min(max(int(_BATCH_BYTES / bytes_a_row), 1), _MAX_BATCH_ROWS)

    def _damaged(self, error: Any) -> DataError:
        return DataError(f"{self._name} cannot be read as Parquet: {str(error).splitlines()[0]}.")
