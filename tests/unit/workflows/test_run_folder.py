"""A folder that takes another's place is whole before it does."""

from pathlib import Path

import pytest

from huiyan.core.errors import OutputError
from huiyan.workflows.run_folder import made_whole


def test_the_old_stays_until_the_new_is_whole(tmp_path: Path) -> None:
    out = tmp_path / "run"
    out.mkdir()
    (out / "old").touch()
    (tmp_path / ".run.new").mkdir()
    (tmp_path / ".run.new" / "of a process that was killed").touch()
    with made_whole(out) as fresh:
        assert list(fresh.iterdir()) == [] and (out / "old").exists()
        (fresh / "new").touch()
    assert [path.name for path in out.iterdir()] == ["new"] and list(tmp_path.iterdir()) == [out]


def test_a_swap_that_fails_brings_the_old_back(tmp_path: Path) -> None:
    out = tmp_path / "run"
    out.mkdir()
    (out / "old").touch()

    def lose_the_new() -> None:
        with made_whole(out) as fresh:
            fresh.rmdir()

    with pytest.raises(OutputError, match="run cannot be written"):
        lose_the_new()
    assert [path.name for path in out.iterdir()] == ["old"] and list(tmp_path.iterdir()) == [out]


def test_a_place_that_cannot_be_replaced_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place, message in ((Path("/"), "disk is mounted.*Name a folder in it"), (tmp_path / "file" / "x", "cannot be")):
        with pytest.raises(OutputError, match=message), made_whole(place):
            pytest.fail("The block must not be reached.")
