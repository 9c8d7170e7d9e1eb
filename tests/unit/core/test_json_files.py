"""JSON files of others: an object, or an error that names the file."""

from pathlib import Path

import pytest

from huiyan.core.errors import ArtifactError, SourceError
from huiyan.core.json_files import read_object


def test_an_object_is_read(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"慧": [1]}', encoding="utf-8")
    assert read_object(tmp_path / "x.json") == {"慧": [1]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "is not JSON"),
        (b"\xff\xfe{}", "is not JSON"),
        (b"1" * 5000, "is not JSON"),
        (b"[" * 100_000, "is nested too deeply"),
        (b"[]", "must hold an object. Got a list"),
    ],
    ids=["half", "no UTF-8", "a number too long", "deep", "list"],
)
def test_what_is_no_object_is_an_error_of_the_kind_asked_for(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(SourceError, match=rf"x.json {message}.* Fetch the model again"):
        read_object(tmp_path / "x.json")
    with pytest.raises(ArtifactError, match=rf"x.json {message}.* Restore it"):
        read_object(tmp_path / "x.json", ArtifactError, hint="Restore it.")


def test_a_file_that_cannot_be_opened_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="cannot be read: "):
        read_object(tmp_path)
