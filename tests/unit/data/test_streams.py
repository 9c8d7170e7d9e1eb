import gzip
import io

import pytest
import zstandard

from huiyan.core.errors import DataError, MissingExtraError
from huiyan.data import streams
from huiyan.data.streams import buffered, is_stream, open_counted, unpack

CONTENT = b"".join(b"line %d of some text\n" % n for n in range(20_000))


def read_all(path, compression) -> bytes:
    counted = open_counted(str(path))
    with unpack(buffered(counted), counted, compression, path.name) as stream:
        return stream.read()


def packed(content: bytes, compression: str) -> bytes:
    return gzip.compress(content, 1) if compression == "gzip" else zstandard.compress(content)


@pytest.fixture(params=["gzip", "zstd"])
def compression(request):
    return request.param


def test_what_was_packed_comes_out(tmp_path, compression):
    path = tmp_path / "a"
    path.write_bytes(packed(CONTENT, compression))
    assert read_all(path, compression) == CONTENT


def test_several_packed_streams_in_a_row_come_out(tmp_path, compression):
    path = tmp_path / "a"
    path.write_bytes(packed(CONTENT, compression) + packed(b"tail\n", compression) + packed(b"", compression))
    assert read_all(path, compression) == CONTENT + b"tail\n"


@pytest.mark.parametrize("kept", [0.5, 0.999])
def test_a_cut_off_file_is_an_error(tmp_path, compression, kept):
    raw = packed(CONTENT, compression)
    path = tmp_path / "a"
    path.write_bytes(raw[: int(len(raw) * kept)])
    with pytest.raises(DataError, match="a is cut off"):
        read_all(path, compression)


def test_a_damaged_file_is_an_error(tmp_path, compression):
    raw = bytearray(packed(CONTENT, compression))
    raw[len(raw) // 2 : len(raw) // 2 + 200] = bytes(200)
    path = tmp_path / "a"
    path.write_bytes(raw)
    with pytest.raises(DataError, match="a is (damaged|cut off)"):
        read_all(path, compression)


def test_a_file_that_was_never_packed_is_an_error(tmp_path, compression):
    path = tmp_path / "a"
    path.write_bytes(b"text,label\n" * 100)
    with pytest.raises(DataError, match=f"a is damaged or is not {compression}"):
        read_all(path, compression)


def test_an_empty_file_is_empty(tmp_path, compression):
    path = tmp_path / "a"
    path.write_bytes(b"")
    assert read_all(path, compression) == b""


def test_a_bomb_is_stopped_early(tmp_path, compression, monkeypatch):
    monkeypatch.setattr(streams, "EXPANSION_CHECKED_FROM_BYTES", 2**20)
    path = tmp_path / "a"
    path.write_bytes(packed(bytes(64 * 2**20), compression))
    counted = open_counted(str(path))
    with unpack(buffered(counted), counted, compression, "a") as stream:
        given = 0

        def read_on() -> None:
            nonlocal given
            while chunk := stream.read(2**16):
                given += len(chunk)

        with pytest.raises(DataError, match="bomb"):
            read_on()
    # All of so small a file is read at once, so the bound is its whole size, expanded as far as is allowed.
    assert given <= max(2**20, streams.MAX_EXPANSION * path.stat().st_size) + 2**20


def test_text_that_repeats_is_no_bomb(tmp_path, compression):
    path = tmp_path / "a"
    path.write_bytes(packed(b"text,label\n" * 2**20, compression))
    assert len(read_all(path, compression)) == 11 * 2**20


def test_bytes_read_are_counted_below_the_compression(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(packed(CONTENT, "gzip"))
    counted = open_counted(str(path))
    with unpack(buffered(counted), counted, "gzip", "a") as stream:
        stream.read()
    assert counted.bytes_read == path.stat().st_size < len(CONTENT)
    assert counted.closed


def test_zstd_without_its_package_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "zstandard", None)
    path = tmp_path / "a.csv.zst"
    path.write_bytes(b"\x28\xb5\x2f\xfd")
    with pytest.raises(MissingExtraError, match=r"huiyan\[zstd\]"):
        read_all(path, "zstd")


def test_a_missing_file_names_its_neighbour(tmp_path):
    (tmp_path / "reviews.csv").touch()
    with pytest.raises(DataError, match=r"review\.csv is not there\. Did you mean '.*reviews\.csv'"):
        open_counted(str(tmp_path / "review.csv"))
    with pytest.raises(DataError, match="is not there either"):
        open_counted(str(tmp_path / "nowhere" / "review.csv"))


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match="is a folder"):
        open_counted(str(tmp_path))


def test_standard_input_stays_open(monkeypatch):
    raw = io.BytesIO(b"text\n")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(raw))
    counted = open_counted("-")
    assert counted.read(4) == b"text"
    counted.close()
    assert not raw.closed


def test_what_can_be_read_once_is_a_stream(tmp_path):
    (tmp_path / "file").touch()
    assert is_stream("-")
    assert is_stream("/dev/null")
    assert not is_stream(str(tmp_path / "file"))
    assert not is_stream(str(tmp_path))
    assert not is_stream(str(tmp_path / "missing"))
