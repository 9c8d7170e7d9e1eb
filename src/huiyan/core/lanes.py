"""Lanes: threads that compute side by side on a CPU, each with a batch of its own.

Splitting every operation of one batch among all cores ends each of them in a wait for the slowest core, and leaves the
operations that are too small to split, and Python between them, to one core. A batch a core has no such waits.
"""

import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Barrier, Lock
from types import TracebackType
from typing import ParamSpec, Self, TypeVar

import torch

MOST_LANES = 8
"""Each lane holds the activations of one batch; with more cores than this, a lane has several."""

_SWITCHING = 0.001  # seconds
_lock = Lock()
_busy: list[float] = []  # for each pool that is open now, how long a thread could keep the interpreter before the first

P = ParamSpec("P")
R = TypeVar("R")


class Lanes:
    """As many threads as there are cores for torch, up to ``MOST_LANES``; on an accelerator none, it has its own.

    Args:
        device: where the work is done.
    """

    def __init__(self, device: torch.device) -> None:
        self._cores = torch.get_num_threads()
        self.count = min(self._cores, MOST_LANES) if device.type == "cpu" else 1
        self._pool: ThreadPoolExecutor | None = None

    def submit(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> "Future[R]":
        """Start ``function`` in a lane, the threads with the first; with a single lane it is done at once, here."""
        if self.count == 1:
            future: Future[R] = Future()
            try:
                future.set_result(function(*args, **kwargs))
            except Exception as error:
                future.set_exception(error)
            return future
        if self._pool is None:
            with _lock:  # what follows is the whole process's
                # A lane needs the interpreter for microseconds between operations: it should not wait for the 5
                # milliseconds that a thread which reads a table may keep it.
                _busy.append(_busy[0] if _busy else sys.getswitchinterval())
                sys.setswitchinterval(min(_busy[0], _SWITCHING))
                self._pool = _started(self.count, cores_each=self._cores // self.count)
                # What a thread sets for itself torch also takes for the default of those to come.
                torch.set_num_threads(self._cores)
        return self._pool.submit(function, *args, **kwargs)

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait for what is under way; what has not begun is given up."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            with _lock:
                before = _busy.pop()
                if not _busy:
                    sys.setswitchinterval(before)


def _started(count: int, *, cores_each: int) -> ThreadPoolExecutor:
    """Threads that are all there and know how many cores each has."""
    ready = Barrier(count + 1)

    def begin() -> None:
        torch.get_num_threads()  # asked for the first time, a thread takes the default: before it is told otherwise
        torch.set_num_threads(cores_each)
        ready.wait()

    pool = ThreadPoolExecutor(count, thread_name_prefix="lane", initializer=begin)
    for _ in range(count):  # each finds no idle thread, so it starts one
        pool.submit(lambda: None)
    ready.wait()
    return pool
