"""What recurrence is worth at evaluation: a window recomputed for each token beside a memory that goes on.

Run: python benchmarks/xl_evaluation.py [--sizes small enwik8-base] [--lengths 128 400 800 1800 3800] [--rounds 5]
[--model FOLDER --text FILE] [--device cpu] [--json FILE]. What a run does not measure (--sizes without a name, no
--model) stays in the file as it was.

A token sees L tokens in either way, with the same weights. *window*: the L tokens up to it go through the model from
nothing, for this one token (so a Transformer without memory is evaluated: Al-Rfou et al. 2019; Dai et al. 2019, section
4.6). *recurrent*: 128 tokens go through at once, after keys and values of the L before them, which were projected once.
*whole segments* are recurrent with segments as long as L: how long a segment is changes nothing of the result, so what
is wanted is held against the faster of the two. *rotary* is today's way: a decoder with rotary positions and
as many layers of the same widths, over a sliding cache of L keys and values, 128 tokens at once.

The ways take turns; a figure is the median over the rounds. FLOPs are counted by hand (`flops`): of the projections,
the feed-forward network, content, relative and value products of attention, and the output; those of projected
distances are not, since both ways keep them.

With --model, a trained Transformer-XL reads --text: nats a token, of the same tokens, read in both ways.
"""

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from huiyan import __version__
from huiyan.attention.cache import KeyValueCache
from huiyan.core.devices import describe_machine, wait_for
from huiyan.core.packed import Packed
from huiyan.models.decoder import DecoderCache
from huiyan.models.families import llama
from huiyan.models.language_checkpoint import fresh_language_model
from huiyan.models.language_model import LanguageModel
from huiyan.models.segment_checkpoint import load_segment_model
from huiyan.models.segment_config import PUBLISHED, TransformerXLConfig
from huiyan.models.stack import LayerCache
from huiyan.models.transformer_xl import TransformerXL
from huiyan.text.tokenise import Tokenizer

RESULTS = Path(__file__).parent / "results" / "xl_evaluation.json"
SEGMENT = 128
SIZES = {
    "small": TransformerXLConfig(
        vocab_size=204, n_layers=6, width=256, n_heads=4, head_width=64, feed_forward_width=1024, memory_length=1
    ),
    "enwik8-base": PUBLISHED["enwik8-base"],
}
WANTED = {("small", 800): 300, ("small", 1800): 500, ("enwik8-base", 800): 500, ("enwik8-base", 3800): 1500}


def flops(config: TransformerXLConfig, length: int, *, window: bool) -> float:
    """Multiplications and additions for one token.

    Args:
        config: of the model.
        length: tokens that a token sees.
        window: whether the window is computed for it alone.
    """
    inner = config.n_heads * config.head_width
    dense = 4 * config.width * inner + 2 * config.width * config.feed_forward_width
    tokens, pairs = (length, length * (length + 1) / 2) if window else (1, length)
    layers = config.n_layers * (tokens * dense + pairs * 3 * inner)
    return 2 * (layers + config.width * config.vocab_size)


def timed(run: Callable[[], Any], device: torch.device) -> float:
    """Seconds."""
    wait_for(device)
    began = time.perf_counter()
    run()
    wait_for(device)
    return time.perf_counter() - began


class Recurrent:
    """A Transformer-XL that goes on, `n` tokens at a time."""

    def __init__(self, model: TransformerXL, data: Tensor, length: int, n: int) -> None:
        self.model, self.data, self.n, self.at = model, data, n, 0
        self.caches = model.fresh_caches()
        while self.at < length:
            self()

    def __call__(self) -> Tensor:
        """The losses of the next `n`."""
        tokens = self.data[:, self.at : self.at + self.n]
        targets = self.data[:, self.at + 1 : self.at + self.n + 1]
        self.at = (self.at + self.n) % (self.data.shape[1] - 2 * self.n)
        return self.model.output(self.model.go_on(tokens, self.caches)[0], targets[0])


class Sliding:
    """A decoder over a sliding cache of keys and values."""

    def __init__(self, model: LanguageModel, data: Tensor, length: int) -> None:
        self.model, self.data, self.at = model, data, 0
        self.cache = DecoderCache(len(model.decoder.stack.depth_order))
        self.cache.layers = [LayerCache(KeyValueCache(max_length=length), KeyValueCache()) for _ in self.cache.layers]
        while self.at < length:
            self()

    def __call__(self) -> Tensor:
        """log p of what follows on the next ``SEGMENT``."""
        tokens = self.data[0, self.at % (self.data.shape[1] - SEGMENT) :][:SEGMENT]
        self.at += SEGMENT
        return self.model(Packed(tokens, torch.tensor([SEGMENT])), cache=self.cache).log_softmax(-1)


def rotary_decoder(config: TransformerXLConfig) -> LanguageModel:
    """A decoder of today with the same widths and layers (its feed-forward network has three matrices, each 2/3)."""
    values = {
        "model_type": "llama",
        "vocab_size": config.vocab_size,
        "hidden_size": config.width,
        "num_hidden_layers": config.n_layers,
        "num_attention_heads": config.n_heads,
        "head_dim": config.head_width,
        "intermediate_size": 2 * config.feed_forward_width // 3,
        "max_position_embeddings": 1_000_000,
        "tie_word_embeddings": True,
    }
    return fresh_language_model(llama.read(values), seed=0).eval()


def measure(name: str, length: int, rounds: int, device: torch.device) -> dict[str, Any]:
    """One size at one attention length."""
    torch.manual_seed(0)
    config = replace(SIZES[name], memory_length=length, same_length=True)
    model = TransformerXL(config).to(device).eval()
    data = torch.randint(0, config.vocab_size, (1, 12_000), device=device)
    decoder = rotary_decoder(config).to(device)

    def window() -> Tensor:
        rows, _ = model(data[:, :length])
        return model.output(rows[:, -1], data[:, length])

    with torch.inference_mode():
        recurrent, whole = Recurrent(model, data, length, SEGMENT), Recurrent(model, data, length, length)
        sliding = Sliding(decoder, data, length)
        ways = {"window": (window, 1), "recurrent": (recurrent, SEGMENT), "whole": (whole, length)}
        ways["rotary"] = (sliding, SEGMENT)
        for run, _ in ways.values():
            run()
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(rounds):
            for way, (run, n) in ways.items():
                # What is short is repeated, so that the clock's grain and one hiccup weigh little.
                times = 4 if n == SEGMENT else 1
                seconds[way].append(sum(timed(run, device) for _ in range(times)) / times / n)
    medians = {way: statistics.median(values) for way, values in seconds.items()}
    counted = flops(config, length, window=True) / flops(config, length, window=False)
    short, whole_ratio = (medians["window"] / medians[way] for way in ("recurrent", "whole"))
    return {
        "size": name,
        "length": length,
        "seconds_per_token": medians,
        "ratio": short,
        "whole_segments_ratio": whole_ratio,
        "flops_ratio": counted,
        "of_flops_ratio": max(short, whole_ratio) / counted,
        "recurrent_over_rotary": medians["recurrent"] / medians["rotary"],
        "wanted": WANTED.get((name, length)),
    }


def perplexities(folder: Path, text: Path, lengths: list[int], device: torch.device, n: int) -> list[dict[str, float]]:
    """Nats of the same `n` tokens, behind the same L tokens, both ways; and of a long text, recurrently."""
    model = load_segment_model(folder).to(device)
    if not isinstance(model, TransformerXL):
        raise SystemExit(f"{folder} is no Transformer-XL.")
    ids = Tokenizer.from_folder(folder).encode_plain([text.read_text(encoding="utf-8")[:200_000]])[0]
    data, found = torch.tensor(ids, device=device)[None], list[dict[str, float]]()
    for length in lengths:
        own = model.with_other(memory_length=length, same_length=True).eval()
        first = 2 * length
        with torch.inference_mode():
            going = Recurrent(own, data, 1, SEGMENT)
            losses = torch.cat([going() for _ in range(math.ceil((first + 8 * SEGMENT) / SEGMENT))])
            start = going.at - len(losses)
            apart: list[float] = []
            for place in range(first, first + n):
                rows, _ = own(data[:, place - length + 1 : place + 1])
                apart.append(float(own.output(rows[:, -1], data[:, place + 1])))
        at = first - start
        found.append(
            {
                "length": length,
                "window": statistics.mean(apart),
                "recurrent": float(losses[at : at + n].mean()),
                "tokens": n,
            }
        )
    return found


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sizes", nargs="*", choices=SIZES, default=list(SIZES))
    parser.add_argument("--lengths", nargs="+", type=int, default=[128, 400, 800, 1800, 3800])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--text", type=Path)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, default=RESULTS)
    given = parser.parse_args()
    device = torch.device(given.device)
    rows: list[dict[str, Any]] = []
    for name in given.sizes:
        for length in given.lengths:
            row = measure(name, length, given.rounds, device)
            rows.append(row)
            seconds = row["seconds_per_token"]
            print(
                f"{name:12} L {length:5}  window {seconds['window'] * 1e3:8.1f} ms  "
                f"recurrent {seconds['recurrent'] * 1e6:7.0f} us  ratio {row['ratio']:6.0f} "
                f"whole segments {row['whole_segments_ratio']:6.0f} (wanted {row['wanted'] or '-'}, "
                f"{row['of_flops_ratio']:.0%} of the ratio of FLOPs)  over rotary {row['recurrent_over_rotary']:.2f}",
                flush=True,
            )
    found: dict[str, Any] = json.loads(given.json.read_text()) if given.json.exists() else {}
    if rows:
        found |= {"rounds": given.rounds, "rows": rows, "date": datetime.now(UTC).date().isoformat()}
    found |= {"huiyan": __version__, "torch": torch.__version__, "machine": describe_machine(device)}
    if given.model is not None:
        found["losses"] = perplexities(given.model, given.text, given.lengths, device, given.tokens)
        for row in found["losses"]:
            print(f"L {row['length']:5}  window {row['window']:.4f}  recurrent {row['recurrent']:.4f} nats", flush=True)
    given.json.parent.mkdir(exist_ok=True)
    given.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
