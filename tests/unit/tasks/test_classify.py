"""The classification objective."""

import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from huiyan.core.packed import Packed
from huiyan.models.checkpoint import build_classifier
from huiyan.models.classifier import SequenceClassifier
from huiyan.models.early_exit import ExitingClassifier, fresh_exits
from huiyan.tasks.classify import Classification, CrossEntropy, balanced_weights
from huiyan.tasks.logits import early_logits_of, logits_of, logits_of_every_head, tokens_at_a_time
from huiyan.tasks.objective import TextObjective
from huiyan.tasks.task import LossOptions

SEQUENCES = [[2, 7, 3], [2, 8, 9, 10, 3], [2, 11, 3], [2, 5, 6, 3]]
LABELS = np.array([0, 1, 1, 2])
SOURCES = [f"a.csv:{line}" for line in range(2, 6)]


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> SequenceClassifier:
    return build_classifier(tiny_model, n_classes=3, seed=0).eval()


@pytest.fixture(scope="module")
def exiting(model: SequenceClassifier) -> ExitingClassifier:
    exits = fresh_exits(model.config, seed=4)
    with torch.no_grad():
        for parameter in exits.parameters():
            parameter *= 20  # As drawn, the exits of this model choose one class for everything.
    return ExitingClassifier(model, exits).eval()


def one_by_one(model: SequenceClassifier) -> torch.Tensor:
    return torch.cat([model(Packed.from_lists([sequence])) for sequence in SEQUENCES])


def test_the_loss_is_the_sum_over_rows(model: SequenceClassifier) -> None:
    objective = TextObjective(model, SEQUENCES, LABELS, SOURCES, loss=CrossEntropy())
    expected = F.cross_entropy(one_by_one(model)[1:], torch.tensor(LABELS[1:]), reduction="sum")
    torch.testing.assert_close(objective.loss_sum([1, 2, 3]), expected)
    assert objective.loss_weight([1, 2, 3]) == 3.0
    assert objective.describe([1, 3]) == ["a.csv:3", "a.csv:5"]
    assert objective.lengths == [3, 5, 3, 4]


def test_class_weights_weigh_loss_and_divisor_alike(model: SequenceClassifier) -> None:
    weights = balanced_weights(LABELS.tolist(), 3)
    np.testing.assert_allclose(weights, [4 / 3, 4 / 6, 4 / 3])
    objective = TextObjective(model, SEQUENCES, LABELS, SOURCES, loss=CrossEntropy(class_weights=weights))
    mean = objective.loss_sum(range(4)) / objective.loss_weight(range(4))
    expected = F.cross_entropy(one_by_one(model), torch.tensor(LABELS), weight=torch.tensor(weights).float())
    torch.testing.assert_close(mean, expected)


def test_label_smoothing_is_torchs(model: SequenceClassifier) -> None:
    objective = TextObjective(model, SEQUENCES, LABELS, SOURCES, loss=CrossEntropy(label_smoothing=0.2))
    expected = F.cross_entropy(one_by_one(model), torch.tensor(LABELS), label_smoothing=0.2, reduction="sum")
    torch.testing.assert_close(objective.loss_sum(range(4)), expected)


@pytest.mark.parametrize("balanced", [False, True])
def test_the_focal_loss_is_its_formula(balanced: bool) -> None:
    logits, targets = torch.randn(40, 3), np.arange(40) % 3
    targets[:20] = 0
    task = Classification(["a", "b", "c"])
    loss = task.loss(targets, LossOptions(focal=2.0, balanced=balanced))
    own = logits.softmax(1)[torch.arange(40), torch.tensor(targets)]
    weights = torch.tensor(balanced_weights(targets.tolist(), 3)).float()[targets] if balanced else torch.ones(40)
    torch.testing.assert_close(loss.total(logits, torch.tensor(targets)), (-weights * (1 - own) ** 2 * own.log()).sum())
    assert loss.weight(targets) == pytest.approx(float(weights.sum()), rel=1e-5)


def test_a_class_without_rows_weighs_nothing() -> None:
    assert balanced_weights([0, 0, 2], 4)[[1, 3]].tolist() == [0.0, 0.0]


def test_a_narrow_model_has_more_tokens_in_a_batch(model: SequenceClassifier) -> None:
    # Its operations are short, and Python stands between them.
    assert tokens_at_a_time(model) == 2048 * 384 // model.config.encoder.width > 2048


@pytest.mark.parametrize("batch_tokens", [3, 8, 4096])
def test_logits_come_back_in_the_order_given(model: SequenceClassifier, batch_tokens: int) -> None:
    with torch.inference_mode():
        expected = one_by_one(model).numpy()
    model.train()
    np.testing.assert_allclose(logits_of(model, SEQUENCES, batch_tokens=batch_tokens), expected, atol=1e-5)
    assert not model.training


@pytest.mark.parametrize("balanced", [False, True])
def test_the_loss_of_every_head_counts_by_its_depth(exiting: ExitingClassifier, balanced: bool) -> None:
    weights = balanced_weights(LABELS.tolist(), 3) if balanced else None
    loss = CrossEntropy(class_weights=weights, label_smoothing=0.1)
    objective = TextObjective(exiting.eval(), SEQUENCES, LABELS, SOURCES, loss=loss)
    by_head = [torch.cat([exiting(Packed.from_lists([sequence]))[head] for sequence in SEQUENCES]) for head in (0, 1)]
    class_weights = None if weights is None else torch.tensor(weights).float()
    losses = [
        F.cross_entropy(logits, torch.tensor(LABELS), weight=class_weights, label_smoothing=0.1, reduction="sum")
        for logits in by_head
    ]
    assert abs(losses[0] - losses[1]) > 0.1
    torch.testing.assert_close(objective.loss_sum(range(4)), (1 * losses[0] + 2 * losses[1]) / 3)


@pytest.mark.parametrize("batch_tokens", [3, 8, 4096])
def test_early_logits_come_back_in_the_order_given(exiting: ExitingClassifier, batch_tokens: int) -> None:
    exiting.train()
    every = logits_of_every_head(exiting, SEQUENCES, batch_tokens=batch_tokens)
    assert not exiting.training and every.shape == (2, 4, 3)
    np.testing.assert_allclose(every[1], logits_of(exiting.classifier, SEQUENCES), atol=1e-5)
    for patience in (1, 2):
        logits, depths = early_logits_of(exiting, SEQUENCES, patience=patience, batch_tokens=batch_tokens)
        assert depths.tolist() == [patience] * 4
        np.testing.assert_allclose(logits, every[patience - 1], atol=1e-5)
    assert np.abs(every[0] - every[1]).max() > 0.1


def test_a_batch_that_would_keep_one_lane_busy_has_all_cores(
    model: SequenceClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: dict[int, str] = {}

    def watched(packed: Packed) -> torch.Tensor:
        threads[int(packed.lengths.max())] = threading.current_thread().name
        return SequenceClassifier.forward(model, packed)

    monkeypatch.setattr(model, "forward", watched)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        logits_of(model, [[2] * 30, [2] * 3, [2] * 4], batch_tokens=5)
        assert threads[30] == threading.main_thread().name
        assert threads[4].startswith("lane") and threads[3].startswith("lane")
        logits_of(model, [[2] * 9])
        assert threads[9] == threading.main_thread().name
    finally:
        torch.set_num_threads(before)
