"""Tables in: formats and encodings, columns, rejected rows, quality, splits and packing."""

from typing import TYPE_CHECKING

from huiyan.core.lazy import lazy_exports

if TYPE_CHECKING:
    from huiyan.data.columns import require_columns
    from huiyan.data.encodings import EncodingGuess, guess_encoding
    from huiyan.data.examples import Examples, read_examples, text_of
    from huiyan.data.quality import check_usable
    from huiyan.data.rejected import RejectedRows
    from huiyan.data.splits import Splits, read_splits, split_rows, write_splits
    from huiyan.data.tables import Row, Table, open_table

__all__ = [
    "EncodingGuess",
    "Examples",
    "RejectedRows",
    "Row",
    "Splits",
    "Table",
    "check_usable",
    "guess_encoding",
    "open_table",
    "read_examples",
    "read_splits",
    "require_columns",
    "split_rows",
    "text_of",
    "write_splits",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "EncodingGuess": "huiyan.data.encodings",
        "Examples": "huiyan.data.examples",
        "RejectedRows": "huiyan.data.rejected",
        "Row": "huiyan.data.tables",
        "Splits": "huiyan.data.splits",
        "Table": "huiyan.data.tables",
        "check_usable": "huiyan.data.quality",
        "guess_encoding": "huiyan.data.encodings",
        "open_table": "huiyan.data.tables",
        "read_examples": "huiyan.data.examples",
        "read_splits": "huiyan.data.splits",
        "require_columns": "huiyan.data.columns",
        "split_rows": "huiyan.data.splits",
        "text_of": "huiyan.data.examples",
        "write_splits": "huiyan.data.splits",
    },
)
