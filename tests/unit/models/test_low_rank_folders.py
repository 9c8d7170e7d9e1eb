"""Model folders whose projections are of low rank: round trips, what they are called, and who refuses them."""

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification

from huiyan.core.errors import SourceError
from huiyan.core.packed import Packed
from huiyan.models.checkpoint import build_classifier, load_classifier, save_classifier
from huiyan.models.classifier import SequenceClassifier
from huiyan.models.config import ClassifierConfig, TransformerConfig
from huiyan.models.families.registry import FAMILIES
from huiyan.models.fresh import fresh_classifier

TEXTS = Packed.from_lists([[2, 5, 6, 3], [2, 3]])
RANKS = {"stack.layers.0.attention.query": 3, "stack.layers.1.feed_forward.outer": 2}
CLASSES = ["a", "b"]


def model_of(family: str, ranks: dict[str, int]) -> SequenceClassifier:
    groups = 1 if family == "albert" else 2
    encoder = TransformerConfig(
        family=family, vocab_size=20, width=8, embedding_width=8, n_layers=2, n_layer_groups=groups, n_heads=2,
        feed_forward_width=16, n_positions=12, n_types=2, project_embeddings=family == "albert", ranks=ranks,
    )  # fmt: skip
    return fresh_classifier(
        ClassifierConfig(encoder=encoder, head=FAMILIES[family].read_head({}), n_classes=2), seed=3
    ).eval()


@pytest.mark.parametrize("family", ["bert", "albert"])
def test_a_round_trip(family: str, tmp_path: Path) -> None:
    ranks = RANKS if family == "bert" else {"stack.layers.0.feed_forward.inner": 4}
    model = model_of(family, ranks)
    save_classifier(model, tmp_path, class_names=CLASSES)
    values = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert values["model_type"] == f"huiyan-{family}" and values["huiyan"]["ranks"] == ranks
    assert "architectures" not in values
    loaded = load_classifier(tmp_path)
    assert loaded.config.encoder.ranks == ranks
    assert torch.equal(loaded(TEXTS), model(TEXTS))


def test_the_factors_stand_below_the_familys_name(tmp_path: Path) -> None:
    save_classifier(model_of("bert", RANKS), tmp_path, class_names=CLASSES)
    weights = load_file(tmp_path / "model.safetensors")
    query = {name: tuple(tensor.shape) for name, tensor in weights.items() if "layer.0.attention.self.query" in name}
    assert query == {
        "bert.encoder.layer.0.attention.self.query.down.weight": (3, 8),
        "bert.encoder.layer.0.attention.self.query.up.weight": (8, 3),
        "bert.encoder.layer.0.attention.self.query.up.bias": (8,),
    }
    assert not [name for name in weights if name.startswith("huiyan.")]


def test_training_can_go_on_from_it(tmp_path: Path) -> None:
    """With a head for other classes; the encoder keeps its ranks and its weights."""
    model = model_of("bert", RANKS)
    save_classifier(model, tmp_path, class_names=CLASSES)
    built = build_classifier(tmp_path, n_classes=3, seed=0)
    torch.testing.assert_close(built.encoder.state_dict(), model.encoder.state_dict())


def test_transformers_refuses_the_folder(tmp_path: Path) -> None:
    save_classifier(model_of("bert", RANKS), tmp_path, class_names=CLASSES)
    with pytest.raises(ValueError, match="huiyan-bert"):
        AutoModelForSequenceClassification.from_pretrained(tmp_path)


def test_without_ranks_the_folder_is_the_familys(tmp_path: Path) -> None:
    save_classifier(model_of("bert", {}), tmp_path, class_names=CLASSES)
    values = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert values["model_type"] == "bert" and "huiyan" not in values


def test_ranks_that_do_not_fit_the_model(tmp_path: Path) -> None:
    model = model_of("bert", RANKS)
    save_classifier(model, tmp_path, class_names=CLASSES)
    path = tmp_path / "config.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    for ranks, message in (
        ({"stack.layers.7.attention.query": 3}, "no full projection 'stack.layers.7.attention.query'"),
        ({"stack.layers.0.attention.query": 9}, "from 1 to the smaller width, 8. Got 9"),
        (None, "ranks option must be a rank of at least 1 for each projection"),
        ({"stack.layers.0.attention.query": "3"}, "ranks option must be a rank of at least 1 for each projection"),
        ("all", "ranks option must be a rank of at least 1 for each projection"),
    ):
        path.write_text(json.dumps(values | {"huiyan": values["huiyan"] | {"ranks": ranks}}))
        with pytest.raises(SourceError, match=rf"{re.escape(str(path))} describes no model .*{message}"):
            load_classifier(tmp_path)
