"""The engines that `speed.py` compares, each run as a process of its own: `python speed_engines.py ENGINE FOLDER …`.

A process loads its engine, warms up, and then answers lines of JSON on its standard input with lines of JSON: `{"do":
"round"}` measures once, `{"do": "outputs"}` gives what it computed, and the end of input ends it. Nothing is imported
before its engine needs it: peers live in an environment without Huiyan.
"""

import argparse
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

BATCH = 32
THREADS = int(os.environ.get("OMP_NUM_THREADS", "2"))
DROPOUT = 0.1
MOST_SAMPLES = 512
"""Samples of a round of training, of however many texts."""
Probabilities = Callable[[list[str]], np.ndarray]


def softmax(logits: np.ndarray) -> np.ndarray:
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def in_batches(texts: list[str], lengths: list[int] | None) -> Iterator[list[int]]:
    """Numbers of texts, 32 at a time: as they come, or by length where lengths are given."""
    order = list(range(len(texts)))
    if lengths is not None:
        order.sort(key=lengths.__getitem__)
    for start in range(0, len(order), BATCH):
        yield order[start : start + BATCH]


# --- answering: texts in, probabilities out -------------------------------------------------------------------------


def huiyan(folder: Path, precision: str) -> Probabilities:
    """What `huiyan predict` does."""
    from huiyan.tasks.artifact import Artifact

    artifact = Artifact.load(folder, precision=precision)
    return artifact.probabilities


def products(folder: Path, precision: str) -> Probabilities:
    """No answers: as many FLOPs as the model's products with weights have, in oneDNN's best case, a core each.

    Products of 2,048 rows by 768 x 3,072, their weights laid out beforehand. What no model can be faster than.
    """
    import torch

    from huiyan.core.lanes import Lanes
    from huiyan.models.inference import DTYPES
    from huiyan.models.prepacked import PrepackedLinear
    from huiyan.text.tokenise import Tokenizer

    tokenizer, dtype = Tokenizer.from_folder(folder), DTYPES[precision]
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    width, layers = config["hidden_size"], config["num_hidden_layers"]
    linear, rows = PrepackedLinear([torch.nn.Linear(768, 3072)], dtype=dtype), torch.randn(2048, 768).to(dtype)

    def work(times: int) -> None:
        with torch.inference_mode():
            for _ in range(times):
                linear(rows)

    def answer(texts: list[str]) -> np.ndarray:
        tokens = sum(tokenizer.count_tokens(texts))
        # The last layer computes keys and values of every token, and the rest of the first of each text.
        flops = 2 * width**2 * (tokens * (12 * (layers - 1) + 2) + len(texts) * 10)
        times = flops / (2 * rows.numel() * 3072)
        with Lanes(torch.device("cpu")) as lanes:
            for future in [lanes.submit(work, round(times / lanes.count)) for _ in range(lanes.count)]:
                future.result()
        return np.zeros((len(texts), config.get("num_labels", 3)))

    return answer


def transformers(folder: Path, precision: str, *, by_length: bool = False) -> Probabilities:
    """What most people write: batches of 32, padded to the longest of the batch, SDPA."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=dtype, attn_implementation="sdpa").eval()

    @torch.inference_mode()
    def answer(texts: list[str]) -> np.ndarray:
        found = np.empty((len(texts), model.config.num_labels), np.float32)
        lengths = list(map(len, texts)) if by_length else None
        for rows in in_batches(texts, lengths):
            batch = tokenizer([texts[row] for row in rows], padding=True, truncation=True, return_tensors="pt")
            found[rows] = model(**batch).logits.float().softmax(-1).numpy()
        return found

    return answer


def sentence_transformers(folder: Path, _precision: str) -> Probabilities:
    """Its `encode`, which sorts by length itself; it gives sentence vectors and no classes."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu")
    return lambda texts: model.encode(texts, batch_size=BATCH, show_progress_bar=False)


ONNX, ONNX_INT8, CTRANSLATE2 = "model.onnx", "model.int8.onnx", "ctranslate2"


def convert(folder: Path) -> None:
    """The folder's model in the forms that peers read, made once, in a process of its own: ONNX by torch's exporter.

    int8 is ONNX Runtime's own dynamic quantisation, and CTranslate2's own when it is loaded.
    """
    import ctranslate2 as ct
    import torch
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from transformers import AutoModelForSequenceClassification, BertConfig

    model = AutoModelForSequenceClassification.from_pretrained(folder, attn_implementation="sdpa").eval()
    names = ("input_ids", "attention_mask", "token_type_ids")
    example = tuple(torch.ones(2, 16, dtype=torch.int64) for _ in names)
    axes = {name: {0: torch.export.Dim("batch"), 1: torch.export.Dim("length")} for name in names}
    kwargs = dict(zip(names, example, strict=True))
    torch.onnx.export(model, (), folder / ONNX, kwargs=kwargs, dynamo=True, dynamic_shapes=axes, verbose=False)
    quantize_dynamic(folder / ONNX, folder / ONNX_INT8, weight_type=QuantType.QInt8)
    BertConfig.position_embedding_type = "absolute"  # what its converter asks and transformers 5 no longer says
    ct.converters.TransformersConverter(str(folder)).convert(str(folder / CTRANSLATE2))


def onnxruntime(folder: Path, precision: str, *, side_by_side: bool = False) -> Probabilities:
    """ONNX Runtime on batches sorted by length."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1 if side_by_side else THREADS
    path = folder / (ONNX_INT8 if precision == "int8" else ONNX)
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    wanted = {one.name for one in session.get_inputs()}

    def run(batch: dict[str, np.ndarray]) -> np.ndarray:
        return session.run(None, {k: v for k, v in batch.items() if k in wanted})[0]

    return _padded(folder, run, side_by_side=side_by_side)


def openvino(folder: Path, precision: str, *, side_by_side: bool = False) -> Probabilities:
    """OpenVINO from the same ONNX file, on batches sorted by length; side by side it is asked for throughput."""
    import openvino as ov

    core = ov.Core()
    hint = {"fp32": "f32", "bf16": "bf16"}[precision]
    settings = {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": str(THREADS)}
    if side_by_side:
        settings |= {"PERFORMANCE_HINT": "THROUGHPUT", "NUM_STREAMS": str(THREADS)}
    compiled = core.compile_model(core.read_model(folder / ONNX), "CPU", settings)
    wanted = [next(iter(one.names)) for one in compiled.inputs]
    own = threading.local()

    def run(batch: dict[str, np.ndarray]) -> np.ndarray:
        if not hasattr(own, "request"):
            own.request = compiled.create_infer_request()
        return own.request.infer([batch[name] for name in wanted])[0].copy()

    return _padded(folder, run, side_by_side=side_by_side)


def ctranslate2(folder: Path, precision: str, *, side_by_side: bool = False) -> Probabilities:
    """CTranslate2's encoder, sorted by length; it takes no padding's mask but lengths; the head in numpy."""
    import ctranslate2 as ct
    from safetensors.numpy import load_file
    from transformers import AutoTokenizer

    kind = {"fp32": "float32", "int8": "int8"}[precision]
    within, beside = (1, THREADS) if side_by_side else (THREADS, 1)
    encoder = ct.Encoder(str(folder / CTRANSLATE2), compute_type=kind, intra_threads=within, inter_threads=beside)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    weights = load_file(folder / "model.safetensors")
    names = ("bert.pooler.dense", "classifier")
    (dense, dense_bias), (out, out_bias) = ((weights[f"{n}.weight"], weights[f"{n}.bias"]) for n in names)

    def run(texts: list[str]) -> np.ndarray:
        ids = tokenizer(texts, truncation=True)["input_ids"]
        first = np.asarray(encoder.forward_batch(ids).last_hidden_state)[:, 0]
        return softmax(np.tanh(first @ dense.T + dense_bias) @ out.T + out_bias)

    return _of_batches(run, side_by_side=side_by_side)


def _padded(folder: Path, run: Callable[[dict[str, np.ndarray]], np.ndarray], *, side_by_side: bool) -> Probabilities:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)

    def padded(texts: list[str]) -> np.ndarray:
        batch = tokenizer(texts, padding=True, truncation=True, return_tensors="np")
        return softmax(run({name: np.ascontiguousarray(x) for name, x in batch.items()}))

    return _of_batches(padded, side_by_side=side_by_side)


def _of_batches(run: Callable[[list[str]], np.ndarray], *, side_by_side: bool) -> Probabilities:
    """Batches by length, one after the other; or one a core, the longest first."""
    pool = ThreadPoolExecutor(THREADS) if side_by_side else None

    def answer(texts: list[str]) -> np.ndarray:
        batches = list(in_batches(texts, list(map(len, texts))))[:: -1 if side_by_side else 1]
        parts = [[texts[row] for row in rows] for rows in batches]
        found = list((pool.map if pool else map)(run, parts))
        return np.concatenate(found)[np.argsort([row for rows in batches for row in rows])]

    return answer


ANSWERING: dict[str, Callable[[Path, str], Probabilities]] = {
    "huiyan": huiyan,
    "huiyan, products alone": products,
    "transformers": transformers,
    "transformers, sorted": lambda folder, precision: transformers(folder, precision, by_length=True),
    "sentence-transformers": sentence_transformers,
    "onnxruntime": onnxruntime,
    "openvino": openvino,
    "ctranslate2": ctranslate2,
    "onnxruntime, a batch a core": partial(onnxruntime, side_by_side=True),
    "openvino, a batch a core": partial(openvino, side_by_side=True),
    "ctranslate2, a batch a core": partial(ctranslate2, side_by_side=True),
}


# --- training: texts and labels in, steps of AdamW ------------------------------------------------------------------


@dataclass(frozen=True)
class Recipe:
    """How to train: the same for every engine.

    Args:
        precision: "fp32" or "bf16".
        dropout: of the attention weights; elsewhere it is 0.1.
        rate: of learning, constant.
        seed: of order and dropout.
    """

    precision: str
    dropout: float = DROPOUT
    rate: float = 1e-4
    seed: int = 0


def train_huiyan(folder: Path, texts: list[str], labels: list[int], recipe: Recipe) -> tuple[Any, Iterator[int]]:
    """Steps of `huiyan train`'s loop, with as many tokens in a batch as 32 texts have on average; and the model."""
    from huiyan.models.checkpoint import load_classifier
    from huiyan.tasks.classify import CrossEntropy
    from huiyan.tasks.objective import TextObjective
    from huiyan.text.tokenise import Tokenizer
    from huiyan.training.config import TrainingConfig
    from huiyan.training.loop import TrainingLoop, Validation
    from huiyan.training.progress import Silent

    model = load_classifier(folder)
    for layer in model.encoder.stack.layers:
        layer.attention.dropout = recipe.dropout
    ids = Tokenizer.from_folder(folder).encode_batch(texts, max_length=512)
    objective = TextObjective(model, ids, np.asarray(labels), [""] * len(ids), loss=CrossEntropy())
    tokens = BATCH * sum(map(len, ids)) // len(ids)
    config = TrainingConfig(
        precision=recipe.precision, batch_tokens=tokens, device="cpu", learning_rate=recipe.rate, seed=recipe.seed,
        schedule="constant", warmup=0.0, layer_decay=1.0,
    )  # fmt: skip
    loop = TrainingLoop(objective, Validation(lambda: {"loss": 0.0}, 1), config, reporter=Silent())

    def steps() -> Iterator[int]:
        loop.state.total_steps, number = 1_000_000, 0
        while True:
            for step in loop._steps(number):  # noqa: SLF001 - the loop's own steps, one by one
                number += 1
                loop._step(number, step)  # noqa: SLF001
                yield sum(map(len, step.batches))

    return model, steps()


def train_transformers(
    folder: Path, texts: list[str], labels: list[int], recipe: Recipe, *, by_length: bool = False
) -> tuple[Any, Iterator[int]]:
    """A loop of `transformers` as its Trainer runs: batches of 32 padded to the longest, or grouped by length."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer
    from transformers.trainer_pt_utils import get_length_grouped_indices

    torch.manual_seed(recipe.seed)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(
        folder, attn_implementation="sdpa", attention_probs_dropout_prob=recipe.dropout
    ).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=recipe.rate, weight_decay=0.01, fused=True)
    ids = tokenizer(texts, truncation=True)["input_ids"]
    lengths = list(map(len, ids))

    def steps() -> Iterator[int]:
        while True:
            order = get_length_grouped_indices(lengths, BATCH) if by_length else torch.randperm(len(ids)).tolist()
            for start in range(0, len(order), BATCH):
                rows = order[start : start + BATCH]
                batch = tokenizer.pad({"input_ids": [ids[row] for row in rows]}, return_tensors="pt")
                with torch.autocast("cpu", torch.bfloat16, enabled=recipe.precision == "bf16"):
                    loss = model(**batch, labels=torch.tensor([labels[row] for row in rows])).loss
                loss.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimiser.step()
                optimiser.zero_grad()
                yield len(rows)

    return model, steps()


TRAINING = {
    "huiyan": train_huiyan,
    "transformers": train_transformers,
    "transformers, grouped": lambda *args: train_transformers(*args, by_length=True),
}


# --- the process ----------------------------------------------------------------------------------------------------


def serve(measure: Callable[[], dict[str, Any]], outputs: Callable[[], Any]) -> None:
    """Answer the parent's lines until there are no more."""
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        asked = json.loads(line)["do"]
        print(json.dumps(measure() if asked == "round" else outputs()), flush=True)


def peak_mb() -> float:
    # Not getrusage's maximum, which begins with that of the process that started this one.
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split("VmHWM:")[1].split()[0]) / 1000


def answering(arguments: argparse.Namespace, texts: list[str]) -> None:
    answer = ANSWERING[arguments.engine](arguments.folder, arguments.precision)
    single = arguments.kind == "single"
    for _ in range(10 if single else 1):
        answer(texts)

    last: list[np.ndarray] = []

    def measure() -> dict[str, Any]:
        if not single:
            began = time.perf_counter()
            last[:] = [answer(texts)]
            return {"seconds": time.perf_counter() - began, "peak_mb": peak_mb()}
        taken = []
        for _ in range(100):
            began = time.perf_counter()
            answer(texts)
            taken.append(time.perf_counter() - began)
        return {"seconds": float(np.median(taken)), "peak_mb": peak_mb()}

    serve(measure, lambda: np.asarray(last[0], dtype=float).round(6).tolist())


def training(arguments: argparse.Namespace, texts: list[str]) -> None:
    labels = [len(text) % 3 for text in texts]
    recipe = Recipe(arguments.precision, arguments.dropout, seed=arguments.seed)
    _, steps = TRAINING[arguments.engine](arguments.folder, texts, labels, recipe)
    next(steps)

    def measure() -> dict[str, Any]:
        began, samples = time.perf_counter(), 0
        while samples < min(len(texts), MOST_SAMPLES) - BATCH // 2:
            samples += next(steps)
        return {"seconds": (time.perf_counter() - began) * len(texts) / samples, "peak_mb": peak_mb()}

    serve(measure, list)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=["predict", "single", "train", "convert"])
    parser.add_argument("engine")
    parser.add_argument("precision")
    parser.add_argument("folder", type=Path)
    parser.add_argument("texts", type=Path, nargs="?")
    parser.add_argument("--dropout", type=float, default=DROPOUT, help="of the attention weights, in training")
    parser.add_argument("--seed", type=int, default=0, help="of order and dropout, in training")
    arguments = parser.parse_args()
    if arguments.kind == "convert":
        convert(arguments.folder)
        return
    texts = json.loads(arguments.texts.read_text(encoding="utf-8"))
    # Libraries talk on standard output; the parent reads answers there.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    sys.stdout = answers
    (training if arguments.kind == "train" else answering)(arguments, texts)


if __name__ == "__main__":
    main()
