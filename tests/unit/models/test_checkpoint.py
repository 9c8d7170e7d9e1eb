"""Model folders: what is built, saved and loaded, and everything that can be wrong with one."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from huiyan.attention.approximate.nystrom import NystromAttention
from huiyan.attention.approximate.swap import ApproximateSelfAttention
from huiyan.core.errors import ConfigError, SourceError, UnknownFamilyError, WeightsError
from huiyan.core.packed import Packed
from huiyan.models.checkpoint import build_classifier, load_classifier, read_class_names, save_classifier
from huiyan.models.config import ClassifierConfig, TransformerConfig
from huiyan.models.families.registry import FAMILIES
from huiyan.models.fresh import fresh_classifier

TEXTS = Packed.from_lists([[2, 5, 6, 3], [2, 3]])
CLASSES = ["好", "bad"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A saved BERT classifier."""
    encoder = TransformerConfig(
        family="bert", vocab_size=20, width=8, embedding_width=8, n_layers=2, n_layer_groups=2, n_heads=2,
        feed_forward_width=16, n_positions=12, n_types=2,
    )  # fmt: skip
    head = FAMILIES["bert"].read_head({})
    saved = tmp_path / "saved"
    save_classifier(
        fresh_classifier(ClassifierConfig(encoder=encoder, head=head, n_classes=2), seed=3), saved, class_names=CLASSES
    )
    return saved


def change_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **changes}))


def change_weights(folder: Path, change: Callable[[dict[str, Tensor]], None]) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")


def drop(*names: str) -> Callable[[dict[str, Tensor]], None]:
    def change(weights: dict[str, Tensor]) -> None:
        for name in names:
            del weights[name]

    return change


def test_loading_gives_back_what_was_saved(folder: Path, tmp_path: Path) -> None:
    loaded = load_classifier(str(folder))
    assert not loaded.training
    save_classifier(loaded, tmp_path / "again", class_names=CLASSES)
    assert (tmp_path / "again" / "config.json").read_bytes() == (folder / "config.json").read_bytes()
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
    assert torch.equal(load_classifier(tmp_path / "again")(TEXTS), loaded(TEXTS))
    assert read_class_names(folder) == CLASSES


@pytest.mark.parametrize("pooling", ["first", "mean", "attention"])
def test_heads_of_our_own_come_back_too(folder: Path, tmp_path: Path, pooling: str) -> None:
    built = build_classifier(folder, n_classes=3, pooling=pooling, seed=0).eval()
    save_classifier(built, tmp_path / "own", class_names=["a", "b", "c"])
    loaded = load_classifier(tmp_path / "own")
    assert loaded.config == built.config
    assert torch.equal(loaded(TEXTS), built(TEXTS))
    again = build_classifier(tmp_path / "own", n_classes=2, seed=0)
    assert again.config.family == "bert"


def test_building_keeps_the_encoder_and_draws_the_output(folder: Path) -> None:
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first, second, other = (build_classifier(folder, n_classes=5, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert first.training
    torch.testing.assert_close(first.encoder.state_dict(), load_classifier(folder).encoder.state_dict())
    assert first.head.output.weight.shape == (5, 8)
    assert torch.equal(first.head.output.weight, second.head.output.weight)
    assert not torch.equal(first.head.output.weight, other.head.output.weight)
    assert not first.head.output.bias.any()
    assert all(parameter.requires_grad and parameter.is_leaf for parameter in first.parameters())


def test_half_precision_files_are_read_as_float32(folder: Path) -> None:
    exact = load_classifier(folder)(TEXTS)

    def halve(weights: dict[str, Tensor]) -> None:
        weights |= {name: tensor.bfloat16() for name, tensor in weights.items()}

    change_weights(folder, halve)
    loaded = load_classifier(folder)
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}
    torch.testing.assert_close(loaded(TEXTS), exact, atol=1e-2, rtol=1e-1)


@pytest.mark.parametrize("names", [["a"], ["a", "a"], ["a", "b", "c"], []])
def test_class_names_are_one_a_class(folder: Path, tmp_path: Path, names: list[str]) -> None:
    with pytest.raises(ConfigError, match="class_names option must be 2 different names, one a class"):
        save_classifier(load_classifier(folder), tmp_path / "x", class_names=names)


def test_class_names_left_out_are_two(folder: Path) -> None:
    """`transformers` leaves out what is its default."""
    values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    del values["id2label"]
    (folder / "config.json").write_text(json.dumps(values))
    assert read_class_names(folder) == ["LABEL_0", "LABEL_1"]
    assert load_classifier(folder).config.n_classes == 2


both = pytest.mark.parametrize(
    "load", [load_classifier, lambda folder: build_classifier(folder, n_classes=2, seed=0)], ids=["load", "build"]
)


@both
def test_a_tensor_of_another_shape(folder: Path, load: Callable[[Path], Any]) -> None:
    change_config(folder, intermediate_size=24)
    message = r"bert.encoder.layer.0.intermediate.dense.weight in .* the shape \(16, 8\), .* needs \(24, 8\)"
    with pytest.raises(WeightsError, match=message):
        load(folder)


@both
def test_a_missing_weight(folder: Path, load: Callable[[Path], Any]) -> None:
    change_weights(folder, drop("bert.embeddings.LayerNorm.weight"))
    with pytest.raises(WeightsError, match="lacks weights .* needs: bert.embeddings.LayerNorm.weight"):
        load(folder)


@both
def test_a_layer_too_many(folder: Path, load: Callable[[Path], Any]) -> None:
    change_config(folder, num_hidden_layers=1)
    with pytest.raises(WeightsError, match=r"does not: bert.encoder.layer.1.attention.* and 12 more"):
        load(folder)


def test_a_weight_nobody_knows(folder: Path) -> None:
    """A saved classifier has nothing to spare; a pretrained checkpoint may have heads for other tasks."""
    change_weights(folder, lambda weights: weights.update({"cls.extra": torch.ones(1)}))
    with pytest.raises(WeightsError, match="does not: cls.extra"):
        load_classifier(folder)
    build_classifier(folder, n_classes=2, seed=0)


def test_a_base_checkpoint_without_a_head_is_no_classifier(folder: Path) -> None:
    change_weights(folder, drop("classifier.weight", "classifier.bias"))
    with pytest.raises(WeightsError, match="needs: classifier.bias, classifier.weight"):
        load_classifier(folder)
    assert build_classifier(folder, n_classes=2, seed=0).head.output.weight.any()


@both
def test_an_unknown_family(folder: Path, load: Callable[[Path], Any]) -> None:
    change_config(folder, model_type="mamba")
    with pytest.raises(UnknownFamilyError, match="family 'mamba'. It reads: albert, bert"):
        load(folder)


@both
def test_pickled_weights(folder: Path, load: Callable[[Path], Any]) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(WeightsError, match="pytorch_model.bin only"):
        load(folder)


@both
@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "is not JSON"), ("[]", "Got a list"), (None, "no config.json"), ("[" * 100_000, "nested too deeply")],
    ids=["half", "list", "none", "deep"],
)
def test_a_broken_config(folder: Path, load: Callable[[Path], Any], content: str | None, message: str) -> None:
    (folder / "config.json").unlink()
    if content is not None:
        (folder / "config.json").write_text(content)
    with pytest.raises(SourceError, match=message):
        load(folder)


@pytest.mark.parametrize("count", ["3", 1_000_000_000, 0, 2.0, True, None], ids=repr)
def test_numbers_of_classes_that_cannot_be(folder: Path, count: Any) -> None:
    change_config(folder, id2label=None, num_labels=count)
    with pytest.raises(SourceError, match=rf"num_labels in .*config.json must be .* 1,000,000. Got {count!r}"):
        load_classifier(folder)


@both
@pytest.mark.parametrize(
    ("key", "value"), [("num_hidden_layers", 10**9), ("hidden_size", 2 * 10**6), ("pad_token_id", "0")]
)
def test_numbers_that_no_model_has(folder: Path, load: Callable[[Path], Any], key: str, value: Any) -> None:
    change_config(folder, **{key: value})
    with pytest.raises(SourceError, match=rf"config.json describes no model that can be built: .*Got {value!r}"):
        load(folder)


def test_a_padding_id_that_is_no_number_where_positions_hang_on_it(folder: Path) -> None:
    change_config(folder, model_type="roberta", pad_token_id="1")
    with pytest.raises(SourceError, match="pad_id option must be a row of the 20 words. Got '1'"):
        load_classifier(folder)


def test_class_names_that_are_not_numbered(folder: Path) -> None:
    change_config(folder, id2label={"0": "a", "2": "b"})
    with pytest.raises(SourceError, match="must number the classes"):
        load_classifier(folder)


def test_an_unknown_activation(folder: Path) -> None:
    change_config(folder, hidden_act="gelu_newer")
    with pytest.raises(
        SourceError, match="describes no model that can be built: .*no activation 'gelu_newer'. Did you mean 'gelu_new'"
    ):
        load_classifier(folder)


def test_an_unknown_pooling(folder: Path) -> None:
    with pytest.raises(ConfigError, match="pooling option must be one of .* Got 'max'"):
        build_classifier(folder, n_classes=2, pooling="max", seed=0)


def test_saving_over_a_folder_leaves_the_loaded_model_alone(folder: Path) -> None:
    """Weights read from a file do not hang on it."""
    loaded = load_classifier(folder)
    before = loaded(TEXTS).clone()
    save_classifier(build_classifier(folder, n_classes=2, seed=9), folder, class_names=CLASSES)
    assert torch.equal(loaded(TEXTS), before)


def test_a_head_config_of_ours_is_checked(folder: Path) -> None:
    change_config(folder, model_type="huiyan-bert", huiyan={"head": {"pooling": "mean", "colour": "red"}})
    with pytest.raises(ConfigError, match="HeadConfig has no key 'colour'"):
        load_classifier(folder)
    for broken in ([], {"head": 3}, None):
        change_config(folder, huiyan=broken)
        with pytest.raises(SourceError, match="says 'huiyan-bert' and has no head"):
            load_classifier(folder)


def test_an_approximation_is_not_saved_as_exact_attention(folder: Path, tmp_path: Path) -> None:
    """Its own parameters would have no name there, and a core without parameters would silently be another model."""
    model = build_classifier(folder, n_classes=2, seed=0)
    for layer in model.encoder.stack.layers:
        layer.attention = ApproximateSelfAttention(layer.attention, NystromAttention(4))
    with pytest.raises(ConfigError, match=r"no word for the approximation in encoder\.stack\.layers\.0\.attention"):
        save_classifier(model, tmp_path / "swapped", class_names=["a", "b"])
    assert not (tmp_path / "swapped").exists()
