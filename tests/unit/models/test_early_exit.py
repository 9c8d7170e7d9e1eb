"""A head after every layer, and sequences that leave once enough of them in a row agree."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from huiyan.core.errors import ConfigError, WeightsError
from huiyan.core.packed import Packed
from huiyan.models.config import ClassifierConfig, HeadConfig, Pooling, TransformerConfig
from huiyan.models.early_exit import ExitingClassifier, depth_weights, fresh_exits, load_exits, save_exits
from huiyan.models.fresh import fresh_classifier

ENCODER = TransformerConfig(
    family="bert", vocab_size=20, width=8, embedding_width=8, n_layers=5, n_layer_groups=5, n_heads=2,
    feed_forward_width=16, n_positions=12, n_types=2, initializer_range=0.5,
)  # fmt: skip
SHARED = replace(ENCODER, family="albert", n_layer_groups=1)
RANDOM = torch.Generator().manual_seed(3)
TEXTS = [
    torch.randint(4, 20, (length,), generator=RANDOM).tolist() for length in (2, 2, 3, 3, 3, 4, 5, 5, 6, 8, 8, 11) * 3
]


def model(
    encoder: TransformerConfig = ENCODER, head: HeadConfig | None = None, n_classes: int = 3
) -> ExitingClassifier:
    config = ClassifierConfig(encoder=encoder, head=head or HeadConfig(dense=True), n_classes=n_classes)
    return ExitingClassifier(fresh_classifier(config, seed=0), fresh_exits(config, seed=1)).eval()


def always_disagreeing() -> ExitingClassifier:
    """Each head chooses another class than the one before, so that nobody leaves early at patience 2."""
    exiting = model()
    with torch.no_grad():
        for layer, head in enumerate(exiting._heads()):
            head.output.weight *= 1e-3
            head.output.bias[layer % 2] += 10.0
    return exiting


@pytest.mark.parametrize("encoder", [ENCODER, SHARED], ids=["own layers", "shared layers"])
def test_the_last_head_is_the_classifier_and_each_exit_reads_its_own_layer(encoder: TransformerConfig) -> None:
    exiting, packed = model(encoder), Packed.from_lists(TEXTS)
    logits = exiting(packed)
    assert logits.shape == (5, len(TEXTS), 3) and exiting.n_layers == 5
    assert torch.equal(logits[-1], exiting.classifier(packed))
    stack, rows = exiting.classifier.encoder.stack, exiting.classifier.encoder.embeddings(packed)
    for depth, head in enumerate(exiting.exits.heads):
        rows = stack.layers[stack.depth_order[depth]](rows, packed.lengths)
        assert torch.equal(logits[depth], head(rows, packed))


@pytest.mark.parametrize("patience", [5, 6, 100])
def test_at_full_patience_the_logits_are_the_classifiers_to_the_bit(patience: int) -> None:
    exiting, packed = model(), Packed.from_lists(TEXTS)
    logits, depths = exiting.leave_early(packed, patience=patience)
    assert torch.equal(logits, exiting.classifier(packed))
    assert depths.tolist() == [5] * len(TEXTS)


@pytest.mark.parametrize("patience", [2, 4])
def test_when_nobody_leaves_the_logits_are_the_classifiers_to_the_bit(patience: int) -> None:
    exiting, packed = always_disagreeing(), Packed.from_lists(TEXTS)
    logits, depths = exiting.leave_early(packed, patience=patience)
    assert torch.equal(logits, exiting.classifier(packed))
    assert depths.tolist() == [5] * len(TEXTS)


def test_at_patience_one_everybody_leaves_at_the_first_exit() -> None:
    exiting, packed = model(), Packed.from_lists(TEXTS)
    logits, depths = exiting.leave_early(packed, patience=1)
    assert depths.tolist() == [1] * len(TEXTS)
    assert torch.equal(logits, exiting(packed)[0])


@pytest.mark.parametrize("encoder", [ENCODER, SHARED], ids=["own layers", "shared layers"])
@pytest.mark.parametrize("patience", [2, 3])
@pytest.mark.parametrize("pooling", ["first", "mean", "attention"])
def test_who_leaves_changes_nothing_for_those_who_stay(
    encoder: TransformerConfig, patience: int, pooling: Pooling
) -> None:
    exiting = model(encoder, HeadConfig(pooling=pooling, dense=True))
    logits, depths = exiting.leave_early(Packed.from_lists(TEXTS), patience=patience)
    assert len(set(depths.tolist())) > 1
    alone = [exiting.leave_early(Packed.from_lists([text]), patience=patience) for text in TEXTS]
    torch.testing.assert_close(logits, torch.cat([one for one, _ in alone]))
    assert depths.tolist() == [int(depth) for _, depth in alone]


@pytest.mark.parametrize("patience", [1, 2, 3, 4])
def test_a_text_leaves_at_the_first_layer_where_enough_heads_in_a_row_agree(patience: int) -> None:
    exiting, packed = model(), Packed.from_lists(TEXTS)
    every = exiting(packed)
    logits, depths = exiting.leave_early(packed, patience=patience)
    for row, choices in enumerate(every.argmax(dim=2).T.tolist()):
        agreed = [end for end in range(patience, 6) if len(set(choices[end - patience : end])) == 1]
        assert int(depths[row]) == min(agreed, default=5)
        torch.testing.assert_close(logits[row], every[int(depths[row]) - 1, row])


def test_layers_after_an_exit_see_fewer_tokens() -> None:
    exiting, packed = model(), Packed.from_lists(TEXTS)
    seen: list[int] = []
    for layer in exiting.classifier.encoder.stack.in_order():
        layer.register_forward_pre_hook(lambda _module, inputs: seen.append(len(inputs[0])))
    _, depths = exiting.leave_early(packed, patience=3)
    lengths = packed.lengths
    # The last layer is asked for the first rows alone, past the hooks.
    below = range(1, min(int(depths.max()) + 1, exiting.n_layers))
    assert seen == [int(lengths[depths >= layer].sum()) for layer in below]
    assert seen[3] < seen[0]


def test_no_text_gives_no_row() -> None:
    for patience in (1, 2, 9):
        logits, depths = model().leave_early(Packed.from_lists([]), patience=patience)
        assert logits.shape == (0, 3) and depths.shape == (0,)


def test_gradients_reach_every_exit_and_every_layer() -> None:
    exiting = model().train()
    exiting(Packed.from_lists(TEXTS)).logsumexp(dim=2).sum().backward()
    without = [name for name, p in exiting.named_parameters() if p.grad is None or not p.grad.any()]
    # The bias of a key shifts all scores of a row alike, and the softmax takes that out again.
    assert [name for name in without if not name.endswith("key.bias")] == []


def test_heads_count_by_their_depth() -> None:
    assert depth_weights(4).tolist() == pytest.approx([0.1, 0.2, 0.3, 0.4])


def test_exits_learn_at_the_rate_of_the_head() -> None:
    exiting = model()
    groups = exiting.layer_groups()
    assert sorted(id(p) for group in groups for p in group) == sorted(map(id, exiting.parameters()))
    last = {id(p) for p in groups[-1]}
    assert {id(p) for p in exiting.exits.parameters()} | {id(p) for p in exiting.classifier.head.parameters()} == last


def test_a_patience_below_one_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"patience option must be 1 or more. Got 0"):
        model().leave_early(Packed.from_lists(TEXTS), patience=0)


def test_a_single_layer_leaves_nothing_to_skip() -> None:
    config = ClassifierConfig(
        encoder=replace(ENCODER, n_layers=1, n_layer_groups=1), head=HeadConfig(dense=True), n_classes=3
    )
    with pytest.raises(ConfigError, match=r"at least 2 layers. .* Leave --early-exit away"):
        fresh_exits(config, seed=0)


def test_the_seed_alone_draws_the_exits() -> None:
    config = model().classifier.config
    first, again, other = (fresh_exits(config, seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["heads.0.output.weight"], other["heads.0.output.weight"])
    assert not torch.equal(first["heads.0.output.weight"], first["heads.1.output.weight"])


def test_exits_survive_saving_and_loading(tmp_path: Path) -> None:
    exiting = model()
    save_exits(exiting.exits, tmp_path / "exits.safetensors")
    loaded = load_exits(tmp_path / "exits.safetensors", exiting.classifier.config)
    assert not loaded.training
    packed = Packed.from_lists(TEXTS)
    assert torch.equal(ExitingClassifier(exiting.classifier, loaded)(packed), exiting(packed))


def test_exits_of_another_model_and_broken_files_are_refused(tmp_path: Path) -> None:
    path, exiting = tmp_path / "exits.safetensors", model()
    save_exits(exiting.exits, path)
    with pytest.raises(WeightsError, match=r"heads.0.output.bias has the shape \(3,\) there.*needs \(4,\)"):
        load_exits(path, model(n_classes=4).classifier.config)
    with pytest.raises(WeightsError, match=r"heads.3.dense.bias has the shape \(8,\) there.*needs None"):
        load_exits(path, model(replace(ENCODER, n_layers=4, n_layer_groups=4)).classifier.config)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(WeightsError, match="cannot be read as safetensors"):
        load_exits(path, exiting.classifier.config)
    with pytest.raises(WeightsError, match="cannot be read as safetensors"):
        load_exits(tmp_path / "nowhere.safetensors", exiting.classifier.config)
