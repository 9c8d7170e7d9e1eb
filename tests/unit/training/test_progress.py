"""What a person sees while a run goes on."""

import io

import pytest
from rich.console import Console

from huiyan.training.progress import LiveProgress, PlainProgress, Reporter, progress_for


def run_through(reporter: Reporter) -> None:
    reporter.note("reading")
    reporter.begin(total=3, done=0)
    for step in (1, 2, 3):
        reporter.step(step, loss=0.5, learning_rate=1e-4, tokens_per_second=1234.0, left_s=65.0)
    reporter.validation(3, {"loss": 0.4, "accuracy": 0.9}, metric="accuracy", best=True)
    reporter.end()


def test_a_log_has_plain_lines() -> None:
    written = io.StringIO()
    run_through(PlainProgress(Console(file=written, width=40)))
    assert written.getvalue().splitlines() == [
        "reading",
        "step 3/3  loss 0.5000  lr 1.00e-04  1,234 tokens/s  1 min 05 s left",
        "validation at step 3: loss 0.4000  accuracy 0.9000  (best accuracy so far)",
    ]


def test_a_log_has_a_line_every_few_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("huiyan.training.progress.time.monotonic", lambda: now[0])
    written = io.StringIO()
    reporter = PlainProgress(Console(file=written), every_s=10.0)
    reporter.begin(total=100, done=0)
    for step in range(1, 26):
        now[0] += 1.0
        reporter.step(step, loss=0.5, learning_rate=1e-4, tokens_per_second=1.0, left_s=1.0)
    assert [line.split()[1] for line in written.getvalue().splitlines()] == ["10/100", "20/100"]


def test_a_terminal_shows_a_bar_with_its_figures() -> None:
    written = io.StringIO()
    console = Console(file=written, force_terminal=True, width=120)
    reporter = progress_for(console)
    assert isinstance(reporter, LiveProgress)
    run_through(reporter)
    shown = written.getvalue()
    for part in ("training", "loss 0.500", "lr 1.0e-04", "1,234 tokens/s", "1 min 05 s left", "100%"):
        assert part in shown
    assert "validation at step 3" in shown


def test_a_terminal_that_cannot_move_its_cursor_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    assert type(progress_for(Console(file=io.StringIO(), force_terminal=True))) is PlainProgress


def test_what_is_no_terminal_gets_lines() -> None:
    assert type(progress_for(Console(file=io.StringIO()))) is PlainProgress


def test_data_is_not_taken_for_markup() -> None:
    written = io.StringIO()
    PlainProgress(Console(file=written)).note("label [red]x[/red] [/]")
    assert written.getvalue() == "label [red]x[/red] [/]\n"
