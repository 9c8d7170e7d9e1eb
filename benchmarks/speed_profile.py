"""Where the time of answering and training goes, as a picture: `docs/images/performance-profile.svg`.

Run: python benchmarks/speed_profile.py [--out docs/images/performance-profile.svg]

One thread, all-MiniLM-L6-v2, 64 of the texts of `speed.py`: torch's profiler counts each operation's own time, and the
rest of the wall clock is what Python needs between them.
"""

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path
from xml.sax.saxutils import escape

os.environ["OMP_NUM_THREADS"] = "1"

import torch
from speed import lengths_of, make_folder, texts_of
from speed_engines import train_huiyan
from torch.profiler import ProfilerActivity, profile

from huiyan.core.packed import Packed
from huiyan.data.packing import inference_batches
from huiyan.models.checkpoint import load_classifier
from huiyan.models.inference import for_inference
from huiyan.text.tokenise import Tokenizer

OUT = Path(__file__).parent.parent / "docs" / "images" / "performance-profile.svg"
GROUPS = {
    "products": ("_linear_pointwise", "aten::mm", "aten::addmm", "aten::linear"),
    "attention": ("flash_attention", "bmm", "attend_packed", "exp2", "maximum", "amax", "bitwise", "__rshift__"),
    "norms, activations": ("layer_norm", "gelu", "tanh"),
    "dropout": ("bernoulli", "dropout"),
    "optimiser": ("adamw", "_foreach", "vector_norm"),
    "copies, adding": ("copy_", "aten::add", "aten::mul", "index", "embedding", "aten::cat", "aten::sum", "fill_"),
}
COLOURS = ("#0b6e63", "#1f6fb4", "#d9601a", "#7a55b5", "#b0304a", "#8a6b3d", "#999999", "#cccccc")


def shares(run: Callable[[], object]) -> tuple[float, dict[str, float]]:
    """The seconds that it takes, and the share of each group of operations."""
    for _ in range(2):
        run()
    began = time.perf_counter()
    run()
    wall = time.perf_counter() - began
    with profile(activities=[ProfilerActivity.CPU]) as found:
        run()
    seconds = dict.fromkeys([*GROUPS, "other operations"], 0.0)
    for event in found.key_averages():
        name = next((group for group, words in GROUPS.items() if any(word in event.key for word in words)), None)
        seconds[name or "other operations"] += event.self_cpu_time_total / 1e6
    seconds["between operations"] = max(0.0, wall - sum(seconds.values()))
    total = sum(seconds.values())
    return wall, {name: taken / total for name, taken in seconds.items()}


def measure(folder: Path) -> dict[str, tuple[float, dict[str, float]]]:
    make_folder("minilm", folder)
    tokenizer = Tokenizer.from_folder(folder)
    texts = texts_of(tokenizer, lengths_of(64))
    ids = tokenizer.encode_batch(texts, max_length=512)
    batches = [
        Packed.from_lists([ids[row] for row in batch])
        for batch in inference_batches([len(one) for one in ids], batch_tokens=2048)
    ]
    found: dict[str, tuple[float, dict[str, float]]] = {}
    for precision in ("fp32", "bf16"):
        model = for_inference(load_classifier(folder), precision)

        @torch.inference_mode()
        def answer() -> None:
            for packed in batches:
                model(packed)  # noqa: B023 - called before the next one is made

        found[f"answering, {precision}"] = shares(answer)
    for precision in ("fp32", "bf16"):
        for dropout in (0.0, 0.1):
            steps = train_huiyan(folder, texts, [len(text) % 3 for text in texts], precision, dropout)
            with_it = ", attention dropout" if dropout else ""
            found[f"training, {precision}{with_it}"] = shares(lambda: [next(steps) for _ in range(2)])  # noqa: B023
    return found


def draw(found: dict[str, tuple[float, dict[str, float]]]) -> str:
    """A bar for each, cut in the shares."""
    left, width, step, top = 235, 600, 38, 60
    names = list(next(iter(found.values()))[1])
    parts: list[str] = []
    for number, name in enumerate(names):
        x, y = left - 180 + 200 * (number % 4), 14 + 20 * (number // 4)
        parts.append(f'<rect x="{x}" y="{y}" width="12" height="12" fill="{COLOURS[number]}"/>')
        parts.append(f'<text x="{x + 18}" y="{y + 11}">{escape(name)}</text>')
    for row, (name, (_, own)) in enumerate(found.items()):
        y, x = top + step * row, float(left)
        parts.append(f'<text x="{left - 10}" y="{y + 18}" text-anchor="end">{escape(name)}</text>')
        for number, share in enumerate(own.values()):
            wide = width * share
            parts.append(f'<rect x="{x:.1f}" y="{y}" width="{wide:.1f}" height="26" fill="{COLOURS[number]}"/>')
            if share >= 0.06:
                ink = "#fff" if number < 6 else "#222"
                parts.append(
                    f'<text x="{x + wide / 2:.1f}" y="{y + 18}" fill="{ink}" text-anchor="middle">{share:.0%}</text>'
                )
            x += wide
    height, across = top + step * len(found) + 4, left + width + 20
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {across} {height}" width="{across}" '
        'font-family="system-ui, sans-serif" font-size="13" fill="#444" role="img">'
        "<title>Where the time of answering and training goes</title>"
        f'<rect width="100%" height="100%" fill="#fff"/>{"".join(parts)}</svg>\n'
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    import tempfile

    with tempfile.TemporaryDirectory() as work:
        found = measure(Path(work))
    for name, (wall, own) in found.items():
        print(f"{name}: {wall:.3f} s", {part: round(share, 3) for part, share in own.items()})
    arguments.out.write_text(draw(found), encoding="utf-8")


if __name__ == "__main__":
    main()
