"""How large what we read may be. Beyond these a row is set aside with the reason, or a file is refused."""

MAX_TEXT_CHARACTERS = 1_000_000
"""Characters in the text of one row, its text columns joined."""

MAX_ROW_CHARACTERS = 4_000_000
"""Characters in one row of a text file, all its cells together; also how far an open quote is followed."""

MAX_ROW_LINES = 10_000
"""Lines that one quoted cell may run over before its quote counts as never closed."""

MAX_REREAD_CHARACTERS = 500_000_000
"""Characters read twice because a quote did not close, before the whole file counts as not being CSV."""

MAX_COLUMNS = 10_000
"""Columns in a table."""

MAX_EXPANSION = 200
"""How many times larger than its compressed bytes a file may become; text rarely passes 20."""

EXPANSION_CHECKED_FROM_BYTES = 64 * 2**20
"""Below this many bytes unpacked no expansion is suspicious: nothing can be harmed by so little."""

MAX_SPOOLED_BYTES = 16 * 2**30
"""Bytes of a compressed Parquet file, or of one on standard input, that are put into a temporary file."""

MAX_XLSX_BYTES = 200 * 2**20
"""Bytes of a workbook as it lies on disk. A workbook is read whole: larger tables belong in CSV or Parquet."""

MAX_XLSX_UNPACKED_BYTES = 2**30
"""Bytes of a workbook's parts, unpacked."""

MAX_XLSX_CELLS = 20_000_000
"""Rows × columns of the rectangle a sheet spans, empty cells included: the reader makes all of them."""
