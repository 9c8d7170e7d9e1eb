"""Streams of text: cut, trained in order with what the model carries, taken up again to the same bits, shared out."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from huiyan.core.errors import ConfigError
from huiyan.models.segment_config import TransformerXLConfig
from huiyan.models.transformer_xl import TransformerXL
from huiyan.tasks.language_model import StreamObjective, Streams, total_loss
from huiyan.training.config import TrainingConfig
from huiyan.training.loop import TrainingLoop, TrainingState, Validation
from huiyan.training.progress import Silent

IDS = (np.arange(401) ** 2 % 11).astype(np.uint16)
NUMBERS = TransformerXLConfig(
    vocab_size=11, n_layers=2, width=8, n_heads=2, head_width=4, feed_forward_width=16, memory_length=6, dropout=0.1
)
TRAINING = TrainingConfig(
    epochs=2, learning_rate=1e-2, batch_tokens=32, precision="fp32", metric="loss", layer_decay=1.0, patience=0
)


class StopAfter(Silent):
    """Sends this process the signal a person's Ctrl-C sends, after a number of steps."""

    def __init__(self, n: int) -> None:
        self.n = n

    def step(self, step: int, *, loss: float, learning_rate: float, tokens_per_second: float, left_s: float) -> None:
        if step == self.n:
            os.kill(os.getpid(), signal.SIGINT)


def trained(
    folder: Path | None, *, resume: bool = False, stop_after: int = 0, n_streams: int = 4
) -> tuple[TrainingState, TransformerXL]:
    torch.manual_seed(0)
    model = TransformerXL(NUMBERS)
    objective = StreamObjective(model, Streams(IDS, n_streams=n_streams, segment_length=8))

    def figures() -> dict[str, float]:
        nats, n = total_loss(model, Streams(IDS[:100], n_streams=1, segment_length=8))
        return {"loss": nats / n}

    loop = TrainingLoop(
        objective,
        Validation(figures, 100, "loss"),
        TRAINING,
        reporter=StopAfter(stop_after) if stop_after else Silent(),
        folder=folder,
    )
    return loop.run(resume=resume), model


def test_streams_hold_each_token_once_and_what_follows_it() -> None:
    streams = Streams(IDS, n_streams=3, segment_length=50)
    segments = [streams.segment(number) for number in range(len(streams))]
    assert [streams.tokens_in(number) for number in range(len(streams))] == [150, 150, 99]
    tokens = torch.cat([tokens for tokens, _ in segments], dim=1)
    targets = torch.cat([targets for _, targets in segments], dim=1)
    assert torch.equal(tokens.flatten(), torch.from_numpy(IDS[:399].astype(np.int64)))
    assert torch.equal(tokens[:, 1:], targets[:, :-1])
    both = [Streams(IDS, n_streams=2, segment_length=50, number=number, count=2) for number in (0, 1)]
    together = torch.cat([own.segment(0)[0] for own in both])
    assert torch.equal(together, Streams(IDS, n_streams=4, segment_length=50).segment(0)[0])
    with pytest.raises(ConfigError, match="too short for 401 streams"):
        Streams(IDS, n_streams=401, segment_length=8)


def test_a_text_read_in_order_is_learnt() -> None:
    state, _ = trained(None)
    losses = [entry["train_loss"] for entry in state.history]
    assert state.total_steps == 26 and losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("stop_after", [3, 13, 17])
def test_an_interrupted_training_goes_on_with_its_memory_to_the_same_bits(stop_after: int, tmp_path: Path) -> None:
    state, whole = trained(tmp_path / "whole")
    first, _ = trained(tmp_path / "parts", stop_after=stop_after)
    assert first.interrupted and first.step == stop_after
    rest, parts = trained(tmp_path / "parts", resume=True)
    assert [entry["train_loss"] for entry in rest.history] == [entry["train_loss"] for entry in state.history]
    for one, other in zip(whole.parameters(), parts.parameters(), strict=True):
        assert torch.equal(one, other)


TWO = """
import json, sys
import torch
from dataclasses import replace
from pathlib import Path
from huiyan.core.processes import is_first, joined, process_count, process_number
sys.path.insert(0, sys.argv[2])
import test_streams as here
here.NUMBERS = replace(here.NUMBERS, dropout=0.0)
with joined(torch.device("cpu")):
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = here.TransformerXL(here.NUMBERS)
    n = 4 // process_count()
    own = here.Streams(here.IDS, n_streams=n, segment_length=8, number=process_number(), count=process_count())
    figures = lambda: {"loss": float(process_number())}
    loop = here.TrainingLoop(here.StreamObjective(model, own), here.Validation(figures, 100, "loss"), here.TRAINING,
                             reporter=here.Silent(), folder=Path(sys.argv[3]))
    state = loop.run(resume=len(sys.argv) > 4)
    if is_first():
        Path(sys.argv[1]).write_text(json.dumps([entry["train_loss"] for entry in state.history] + [state.tokens]))
"""


def test_two_processes_learn_as_one_with_twice_the_batch(tmp_path: Path) -> None:
    script = tmp_path / "two.py"
    script.write_text(TWO)
    found: list[list[float]] = []
    for count in (1, 2):
        out = tmp_path / f"{count}.json"
        words = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={count}", "--master-port=0"]
        words += ["--standalone", str(script), str(out), str(Path(__file__).parent), str(tmp_path / f"run{count}")]
        done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        found.append(json.loads(out.read_text()))
    assert found[0][-1] == found[1][-1] == 2 * 400
    np.testing.assert_allclose(found[0], found[1], rtol=2e-4)
