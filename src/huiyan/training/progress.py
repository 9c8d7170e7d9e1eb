"""What a person sees while a run goes on: a live bar on a terminal, plain lines in a log."""

import time
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn


class Reporter(Protocol):
    """Whoever is told how a run goes."""

    def note(self, text: str) -> None:
        """A line for the reader."""
        ...

    def begin(self, total: int, done: int) -> None:
        """Training starts: ``done`` of ``total`` steps lie behind."""
        ...

    def step(self, step: int, *, loss: float, learning_rate: float, tokens_per_second: float, left_s: float) -> None:
        """A step is done; ``left_s`` is the time foreseen for the rest, in seconds."""
        ...

    def validation(self, step: int, figures: dict[str, float], *, metric: str, best: bool) -> None:
        """The validation rows were looked at."""
        ...

    def end(self) -> None:
        """Training is over, for whatever reason."""
        ...


class Silent:
    """Says nothing."""

    def note(self, text: str) -> None:
        """Nothing."""

    def begin(self, total: int, done: int) -> None:
        """Nothing."""

    def step(self, step: int, *, loss: float, learning_rate: float, tokens_per_second: float, left_s: float) -> None:
        """Nothing."""

    def validation(self, step: int, figures: dict[str, float], *, metric: str, best: bool) -> None:
        """Nothing."""

    def end(self) -> None:
        """Nothing."""


class PlainProgress(Silent):
    """Lines for a log: a step line at least every ``every_s`` seconds and at every validation."""

    def __init__(self, console: Console, *, every_s: float = 15.0) -> None:
        self.console = console
        self.every_s = every_s
        self._total = 0
        self._shown = 0.0
        self._line = ""

    def note(self, text: str) -> None:
        """A line for the reader."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def begin(self, total: int, done: int) -> None:
        """Remember how many steps there are, and start the clock."""
        self._total, self._shown = total, time.monotonic()

    def step(self, step: int, *, loss: float, learning_rate: float, tokens_per_second: float, left_s: float) -> None:
        """A line; it waits for the next validation when the last one is too recent."""
        self._line = (
            f"step {step}/{self._total}  loss {loss:.4f}  lr {learning_rate:.2e}  "
            f"{tokens_per_second:,.0f} tokens/s  {clock(left_s)} left"
        )
        if time.monotonic() - self._shown >= self.every_s:
            self._flush()

    def _flush(self) -> None:
        if self._line:
            self.note(self._line)
        self._line, self._shown = "", time.monotonic()

    def validation(self, step: int, figures: dict[str, float], *, metric: str, best: bool) -> None:
        """A line with the figures, and whether they are the best so far."""
        self._flush()
        shown = "  ".join(f"{name} {value:.4f}" for name, value in figures.items())
        self.note(f"validation at step {step}: {shown}" + (f"  (best {metric} so far)" if best else ""))


class LiveProgress(PlainProgress):
    """A bar that stays at the bottom of a terminal, with the validation lines above it."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._bar = Progress(
            TextColumn("training"),
            BarColumn(bar_width=30),
            TaskProgressColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )
        self._task = self._bar.add_task("training", total=None, figures="")

    def begin(self, total: int, done: int) -> None:
        """Show the bar."""
        super().begin(total, done)
        self._bar.update(self._task, total=total, completed=done)
        self._bar.start()

    def step(self, step: int, *, loss: float, learning_rate: float, tokens_per_second: float, left_s: float) -> None:
        """Move the bar."""
        figures = f"loss {loss:.3f} · lr {learning_rate:.1e} · {tokens_per_second:,.0f} tokens/s · {clock(left_s)} left"
        self._bar.update(self._task, completed=step, figures=figures)

    def end(self) -> None:
        """Take the bar away."""
        self._bar.stop()


def progress_for(console: Console) -> Reporter:
    """The bar where somebody watches; lines in a log, and on a terminal that cannot move its cursor."""
    watched = console.is_terminal and not console.is_dumb_terminal
    return LiveProgress(console) if watched else PlainProgress(console)


def clock(seconds: float) -> str:
    """A duration as people say it: ``45 s``, ``3 min 05 s``, ``2 h 10 min``."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
