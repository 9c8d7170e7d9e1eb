"""A small server that speaks as much of the hub's protocol as its client needs."""

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from huggingface_hub import constants

OLD, NEW = "a" * 40, "b" * 40
CARD = b"---\nlicense: apache-2.0\n---\n# Tiny\n"
CONFIG = b'{"model_type": "bert"}'
REPOSITORIES = {
    "someone/tiny": {
        "config.json": CONFIG,
        "model.safetensors": b"weights",
        "tokenizer.json": b"{}",
        "tokenizer_config.json": b"{}",
        "special_tokens_map.json": b"{}",
        "vocab.txt": b"[PAD]\n",
        "README.md": CARD,
        "pytorch_model.bin": b"a pickle",
        "tf_model.h5": b"keras",
        "modeling_tiny.py": b"raise SystemExit",
        "onnx/model.onnx": b"onnx",
        "onnx/model.safetensors": b"a second copy",
        "model.fp16.safetensors": b"a variant",
        "training_args.bin": b"a pickle",
    },
    "someone/sharded": {
        "config.json": CONFIG,
        "model.safetensors.index.json": b"{}",
        "model-00001-of-00002.safetensors": b"one",
        "model-00002-of-00002.safetensors": b"two",
        "tokenizer.json": b"{}",
    },
    "someone/pickled": {"config.json": CONFIG, "pytorch_model.bin": b"a pickle", "README.md": CARD},
    "someone/whisper": {"config.json": b'{"model_type": "whisper"}', "model.safetensors": b"gigabytes"},
    "someone/cut": {"config.json": CONFIG, "model.safetensors": b"weights"},
    "someone/gated": {},
}


class Hub(BaseHTTPRequestHandler):
    """As much of the hub's protocol as its client needs to list and fetch a repository."""

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        path = self.path.partition("?")[0].strip("/")
        self.server.asked.append(path)  # pyright: ignore[reportAttributeAccessIssue]  # Set by the fixture.
        api = path.startswith("api/models/")
        parts = path.removeprefix("api/models/").split("/", 4)
        name, verb = "/".join(parts[:2]), parts[2] if len(parts) > 2 else ""
        revision = parts[3] if len(parts) > 3 else "main"
        commit = {"main": NEW, "v1": OLD, OLD: OLD, NEW: NEW}.get(revision)
        files = REPOSITORIES.get(name)
        if name == "someone/gated":
            self._send(403, b"{}", {"X-Error-Code": "GatedRepo"})
        elif files is None:
            self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        elif commit is None:
            self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        elif api and verb == "tree":
            listed = [
                {"type": "file", "path": file, "size": len(files[file]), "oid": _oid(files[file])} for file in files
            ]
            self._send(200, json.dumps(listed).encode(), {})
        elif api:
            values = {"id": name, "sha": commit, "siblings": [{"rfilename": file} for file in files]}
            self._send(200, json.dumps(values).encode(), {})
        elif verb == "resolve" and parts[4] in files:
            content = files[parts[4]]
            self._send(200, content, {"X-Repo-Commit": commit, "ETag": f'"{_oid(content)}"'}, body=body)
        else:
            self._send(404, b"", {"X-Error-Code": "EntryNotFound"})

    def _send(self, status: int, content: bytes, headers: dict[str, str], *, body: bool = True) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if body and not self.path.startswith("/someone/cut/"):
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # The base class names it so.
        """Not in the test's output."""


def _oid(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()  # Git's own name for a file, not a safeguard.


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub client's cache, empty, and no hub in reach unless a test brings one."""
    folder = tmp_path / "hub-cache"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_IMPLICIT_TOKEN", True)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    return folder


@pytest.fixture
def mirror(hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A mirror of the hub that HF_ENDPOINT names; gives the list of the paths that were asked of it."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    asked: list[str] = []
    server.asked = asked  # pyright: ignore[reportAttributeAccessIssue]  # Handlers reach the server only.
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    yield asked
    server.shutdown()
    thread.join()
    server.server_close()
