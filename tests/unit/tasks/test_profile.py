"""What is kept of the rows a model learned from: figures, and not one word."""

from pathlib import Path

import pytest

from huiyan.core.errors import ArtifactError
from huiyan.core.files import write_json
from huiyan.tasks.artifact import Artifact
from huiyan.tasks.profile import PROFILE, Profile


def profile() -> Profile:
    return Profile.of(
        [[2, 7, 3], [2, 1, 1, 7, 3], [2, *[8] * 40, 3]],
        {"a": 2, "b": 1},
        unknown_id=1,
        scripts={"Latin": 1.0},
        validation_rows=["t.csv:7"],
        fingerprint="abc",
    )


def test_figures_by_hand() -> None:
    found = profile()
    assert found.rows == 3 and found.classes == {"a": 2, "b": 1}
    assert found.unknown_pieces == 2 / 50
    assert sum(found.length_rows) == 3 and found.length_edges[0] == 3 and found.length_edges[-1] == 43
    assert len(found.length_edges) == len(found.length_rows) + 1


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert Profile.read(tmp_path) is None
    write_json(tmp_path / PROFILE, profile().to_dict())
    assert Profile.read(tmp_path) == profile()


@pytest.mark.parametrize("damage", ['{"rows": 3}', '{"words": 3}', "[]"])
def test_a_damaged_file_is_an_error(tmp_path: Path, damage: str) -> None:
    (tmp_path / PROFILE).write_text(damage)
    with pytest.raises(ArtifactError, match=r"profile\.json"):
        Profile.read(tmp_path)


def test_a_run_has_one_without_its_texts(tiny_run: Path) -> None:
    found = Profile.read(tiny_run)
    assert found is not None and found == Artifact.load(tiny_run).profile
    assert found.rows == 192 and len(found.validation_rows) == 24
    assert all(row.rpartition(":")[0].endswith("reviews.csv") for row in found.validation_rows)
    assert found.scripts.keys() == {"Latin", "Han"} and found.unknown_pieces > 0
    assert "dress" not in (tiny_run / PROFILE).read_text(encoding="utf-8")


def test_saving_another_model_there_removes_it(tiny_run: Path, tmp_path: Path) -> None:
    artifact = Artifact.load(tiny_run)
    artifact.save(tmp_path)
    assert Profile.read(tmp_path) == artifact.profile
    Artifact(artifact.model, artifact.tokenizer, artifact.manifest).save(tmp_path)
    assert Profile.read(tmp_path) is None
