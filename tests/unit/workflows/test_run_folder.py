"""A folder that takes another's place is whole before it does."""

import json
from pathlib import Path

import pytest

from huiyan.core.errors import OutputError
from huiyan.workflows.run_folder import MANIFEST, made_whole, replacing


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


def begun_over_an_older_one(out: Path) -> Path:
    """What a process leaves that was to replace a run and was killed after its first checkpoint."""
    old = out.with_name(f".{out.name}.replaced")
    for folder, name in ((old, MANIFEST), (out, "checkpoint")):
        folder.mkdir()
        (folder / "run.json").write_text(json.dumps({"status": "training"}))
        (folder / name).touch()
    return old


def fail_in(out: Path, *, overwrite: bool) -> None:
    with replacing(out, overwrite=overwrite):
        raise RuntimeError("An option is another one.")


def test_a_resume_that_fails_loses_nothing(tmp_path: Path) -> None:
    old = begun_over_an_older_one(tmp_path / "run")
    with pytest.raises(RuntimeError):
        fail_in(tmp_path / "run", overwrite=False)
    assert (tmp_path / "run" / "checkpoint").exists() and (old / MANIFEST).exists()
    with replacing(tmp_path / "run", overwrite=False):
        (tmp_path / "run" / MANIFEST).touch()
    assert (tmp_path / "run" / "checkpoint").exists() and not old.exists()


def test_what_is_whole_survives_any_number_of_tries_to_replace_it(tmp_path: Path) -> None:
    begun_over_an_older_one(tmp_path / "run")
    for _ in range(2):
        with pytest.raises(RuntimeError):
            fail_in(tmp_path / "run", overwrite=True)
        assert (tmp_path / "run" / MANIFEST).exists() and list(tmp_path.iterdir()) == [tmp_path / "run"]


def test_of_two_runs_that_are_whole_the_newer_is_kept(tmp_path: Path) -> None:
    begun_over_an_older_one(tmp_path / "run")
    (tmp_path / "run" / MANIFEST).touch()
    with pytest.raises(RuntimeError):
        fail_in(tmp_path / "run", overwrite=True)
    assert (tmp_path / "run" / "checkpoint").exists() and list(tmp_path.iterdir()) == [tmp_path / "run"]
