"""What looking at attention costs: memory and time of the maps of a long text, and of watching a forward pass.

Run: python benchmarks/maps.py [--tokens 10240] [--layers 12] [--json benchmarks/results/maps.json]

- long: an encoder of BERT-base's size, random weights, one text of 10,240 tokens: column mass, entropy and the eight
  largest weights of every row of every head of every layer. Whole maps would be 12 × 12 × 10,240² × 4 bytes = 60 GB;
  `output_attentions=True` in transformers asks for them. Wanted: within 2 GB beyond the model.
- watched: 16 texts of 128 tokens through the same encoder, with and without `observe`, in turns; the median ratio.
  Wanted: at most 1.1.
"""

import argparse
import json
import statistics
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from huiyan.attention import observe
from huiyan.core.devices import describe_machine, peak_memory_bytes
from huiyan.core.packed import Packed
from huiyan.models.config import ClassifierConfig, HeadConfig, TransformerConfig
from huiyan.models.fresh import fresh_classifier

CPU = torch.device("cpu")


def encoder(tokens: int, layers: int) -> torch.nn.Module:
    """BERT-base's size, with room for so many tokens."""
    config = TransformerConfig(
        family="bert",
        vocab_size=30_522,
        width=768,
        embedding_width=768,
        n_layers=layers,
        n_layer_groups=layers,
        n_heads=12,
        feed_forward_width=3072,
        n_positions=tokens,
        n_types=2,
    )
    return fresh_classifier(ClassifierConfig(encoder=config, head=HeadConfig(), n_classes=2), seed=0).eval().encoder


def long(tokens: int, layers: int) -> dict[str, Any]:
    """The maps of one long text."""
    model = encoder(tokens, layers)
    packed = Packed.from_lists([torch.randint(5, 30_000, (tokens,)).tolist()])
    with torch.inference_mode():
        model(Packed.from_lists([[1, 2, 3]]))
        before, began = peak_memory_bytes(CPU), time.perf_counter()
        with observe(model) as maps:
            model(packed)
        forward_s, forward = time.perf_counter() - began, peak_memory_bytes(CPU)
        began = time.perf_counter()
        for layer in maps:
            found = layer.figures("column_mass", "entropy", "topk", k=8)
            assert found.column_mass.sum().isclose(torch.tensor(12.0 * tokens), rtol=1e-3)
    return {
        "tokens": tokens,
        "layers": layers,
        "forward_s": forward_s,
        "figures_s": time.perf_counter() - began,
        "forward_gb": (forward - before) / 1e9,
        "beyond_model_gb": (peak_memory_bytes(CPU) - before) / 1e9,
        "whole_maps_gb": layers * 12 * tokens**2 * 4 / 1e9,
    }


def watched(layers: int, rounds: int) -> dict[str, Any]:
    """A forward pass with and without somebody who watches."""
    model = encoder(128, layers)
    packed = Packed.from_lists([torch.randint(5, 30_000, (128,)).tolist() for _ in range(16)])

    def timed(*, watch: bool) -> float:
        began = time.perf_counter()
        if watch:
            with observe(model):
                model(packed)
        else:
            model(packed)
        return time.perf_counter() - began

    with torch.inference_mode():
        for watch in (False, True):
            timed(watch=watch)
        pairs = [(timed(watch=True), timed(watch=False)) for _ in range(rounds)]
    return {
        "plain_s": statistics.median(plain for _, plain in pairs),
        "ratio": statistics.median(seen / plain for seen, plain in pairs),
        "rounds": rounds,
    }


def main() -> None:
    """Measure both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=10_240)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    found = {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": describe_machine(CPU),
        "long": long(given.tokens, given.layers),  # first: a peak of memory is the process's
        "watched": watched(given.layers, given.rounds),
    }
    text = json.dumps(found, indent=1)
    print(text)
    if given.json:
        given.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
