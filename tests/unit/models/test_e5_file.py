"""A file that is not whole is an error that says so."""

from pathlib import Path

import pytest

from huiyan.core.errors import WeightsError
from huiyan.models.e5_file import read_e5


@pytest.mark.parametrize(
    "data", [b"", b"E5S1", b"PK\x03\x04" + b"\0" * 100, b"E5S1" + b"\xff" * 200, b"E5S1" + b"\0" * 200]
)
def test_what_is_none_such_is_refused(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "e5.bin").write_bytes(data)
    with pytest.raises(WeightsError, match="is not a whole E5 file"):
        read_e5(tmp_path / "e5.bin")
