"""Tokens a second beside `transformers`: the same random weights, the same prompts, the same tokens.

Run: python benchmarks/generate.py [--only NAME …] [--precision fp32 bf16] [--rounds 5] [--threads 2] [--device cpu]
[--json FILE]

Prompts of 16 to 128 tokens, as long as chance has it; 64 tokens are written after each, greedily or by four beams. Ours
takes the prompts as they are, `transformers` padded (prompts on the left, sources on the right), with its fused
attention (sdpa) and its cache. The two take turns in one process; the figure is the median over the rounds of the ratio
of tokens a second, whole calls, the reading of the prompts included. What both write is compared token by token.

Ours answers as `language_model_for_inference` makes it; bf16 is bf16 for both. The two then round at different places,
so what they write parts sooner or later.

A step reads every weight once, so it takes at least their bytes over the memory's rate: `weights_mb` over that is the
floor that both share. What is left above it is what a library adds.
"""

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor

from huiyan import __version__
from huiyan.core.devices import describe_machine
from huiyan.models.generate import generate_tokens
from huiyan.models.generation_config import GenerationConfig
from huiyan.models.inference import DTYPES, language_model_for_inference
from huiyan.models.language_checkpoint import load_language_model
from huiyan.models.language_model import LanguageModel

RESULTS = Path(__file__).parent / "results" / "generate.json"
NEW_TOKENS = 64


@dataclass(frozen=True)
class Shape:
    """A model of `transformers`, by its class and its numbers."""

    architecture: str
    family: str
    numbers: dict[str, Any]
    beams: tuple[int, ...] = (1,)
    sources: bool = field(default=False)


SHAPES = {
    "gpt2": Shape("GPT2LMHeadModel", "gpt2", {}),
    "llama-small": Shape(
        "LlamaForCausalLM",
        "llama",
        {
            "vocab_size": 32000,
            "hidden_size": 384,
            "num_hidden_layers": 6,
            "num_attention_heads": 12,
            "num_key_value_heads": 4,
            "intermediate_size": 1024,
            "max_position_embeddings": 512,
        },
        beams=(1, 4),
    ),
    "marian": Shape(
        "MarianMTModel",
        "marian",
        {
            "vocab_size": 58101,
            "d_model": 512,
            **{f"{side}_layers": 6 for side in ("encoder", "decoder")},
            **{f"{side}_attention_heads": 8 for side in ("encoder", "decoder")},
            **{f"{side}_ffn_dim": 2048 for side in ("encoder", "decoder")},
            "max_position_embeddings": 512,
            "activation_function": "swish",
            "scale_embedding": True,
            "eos_token_id": 0,
        },
        beams=(1, 4),
        sources=True,
    ),
}


def twins_of(shape: Shape, device: str) -> tuple[LanguageModel, Any]:
    """One model in both libraries; random weights that are not all alike in what they write."""
    torch.manual_seed(0)
    theirs = getattr(transformers, shape.architecture)(
        transformers.AutoConfig.for_model(shape.family, **shape.numbers)
    ).eval()
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if parameter.dim() == 2 and "embed_positions" not in name:  # sinusoids are no weights
                parameter.mul_(2.0)
    with tempfile.TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)
        ours = load_language_model(folder)
    theirs.generation_config = transformers.GenerationConfig(decoder_start_token_id=ours.config.start_id)
    return ours.to(device), theirs.to(device)


def prompts_of(n: int, size: int) -> list[list[int]]:
    generator = torch.Generator().manual_seed(n)
    lengths = torch.randint(16, 129, (n,), generator=generator).tolist()
    return [torch.randint(1, size - 1, (length,), generator=generator).tolist() for length in lengths]


def theirs_padded(prompts: list[list[int]], device: str, *, sources: bool) -> dict[str, Tensor]:
    """Padded as `transformers` wants it: in front of what is gone on with, behind sources."""
    longest = max(map(len, prompts))
    ids, seen = torch.ones(2, len(prompts), longest, dtype=torch.int64)
    seen.zero_()
    for row, prompt in enumerate(prompts):
        place = slice(0, len(prompt)) if sources else slice(longest - len(prompt), longest)
        ids[row, place], seen[row, place] = torch.tensor(prompt), 1
    return {"input_ids": ids.to(device), "attention_mask": seen.to(device)}


def measure(name: str, shape: Shape, precision: str, n_rounds: int, device: str) -> dict[str, Any]:
    """Both in turns, for one and for sixteen prompts."""
    ours, theirs = twins_of(shape, device)
    ours = language_model_for_inference(ours, precision)
    theirs = theirs.to(DTYPES[precision])
    found: dict[str, Any] = {"weights_mb": sum(weight.nbytes for weight in theirs.parameters()) / 1e6}
    for n in (1, 16):
        prompts = prompts_of(n, ours.config.decoder.vocab_size)
        padded = theirs_padded(prompts, device, sources=shape.sources)
        for beams in shape.beams:
            config = GenerationConfig(max_tokens=NEW_TOKENS, n_beams=beams)

            def write(config: GenerationConfig = config, prompts: list[list[int]] = prompts) -> list[list[int]]:
                return [texts[0].tokens for texts in generate_tokens(ours, prompts, config)]

            def let_them_write(beams: int = beams, padded: dict[str, Tensor] = padded) -> list[list[int]]:
                options = {"max_new_tokens": NEW_TOKENS, "num_beams": beams, "do_sample": False, "pad_token_id": 1}
                with torch.inference_mode():
                    rows = theirs.generate(**padded, **options)
                return [row[-NEW_TOKENS:].tolist() for row in rows]

            took: dict[str, list[float]] = {"ours": [], "transformers": []}
            written: dict[str, list[list[int]]] = {}
            for _ in range(n_rounds + 1):  # the first is not counted
                for who, call in (("ours", write), ("transformers", let_them_write)):
                    if device == "cuda":
                        torch.cuda.synchronize()
                    began = time.perf_counter()
                    written[who] = call()
                    took[who].append(time.perf_counter() - began)
            pairs = [pair for rows in zip(*written.values(), strict=True) for pair in zip(*rows, strict=True)]
            rates = {who: NEW_TOKENS * n / statistics.median(seconds[1:]) for who, seconds in took.items()}
            ratios = [b / a for a, b in zip(took["ours"][1:], took["transformers"][1:], strict=True)]
            found[f"batch {n}, {'greedy' if beams == 1 else f'{beams} beams'}"] = {
                "tokens_per_second": rates,
                "ratio": statistics.median(ratios),
                "ratios": sorted(ratios),
                "equal_tokens": sum(a == b for a, b in pairs) / len(pairs),
            }
            print(name, precision, n, beams, json.dumps(list(found.values())[-1]), flush=True)
    return found


def main() -> None:
    """Measure, and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=list(SHAPES), choices=SHAPES)
    parser.add_argument("--precision", nargs="*", default=["fp32", "bf16"], choices=DTYPES)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, default=RESULTS)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    found: dict[str, Any] = json.loads(given.json.read_text()) if given.json.is_file() else {}
    found |= {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": describe_machine(torch.device(given.device)),
        "versions": {"huiyan": __version__, "torch": torch.__version__, "transformers": transformers.__version__},
        "new_tokens": NEW_TOKENS,
    }
    for name, precision in ((name, precision) for precision in given.precision for name in given.only):
        found[f"{name}, {precision}"] = measure(name, SHAPES[name], precision, given.rounds, given.device)
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
