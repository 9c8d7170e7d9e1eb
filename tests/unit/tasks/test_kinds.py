"""Losses and targets of every kind of label, and what its logits mean."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from huiyan.core.decision import Decision
from huiyan.core.errors import ConfigError, DataError
from huiyan.data.labels import set_label
from huiyan.models.checkpoint import build_classifier
from huiyan.tasks.kinds import task_named, task_of
from huiyan.tasks.task import LossOptions


def test_sets_have_a_column_a_label() -> None:
    labels = [set_label(names) for names in (["b"], [], ["a", "b"])]
    task = task_of("multilabel", labels, label_column="l")
    assert task.outputs == task.classes == ("a", "b")
    assert task.targets(labels).tolist() == [[0, 1], [0, 0], [1, 1]]
    assert task.targets([set_label(["z", "a"])]).tolist() == [[1, 0]]


@pytest.mark.parametrize("options", [LossOptions(), LossOptions(balanced=True), LossOptions(label_smoothing=0.1)])
def test_the_loss_of_sets_is_torchs(options: LossOptions) -> None:
    task = task_named("multilabel", ["a", "b", "c"], label_column="l")
    targets = (np.random.default_rng(0).random((50, 3)) < [0.1, 0.5, 0.02]).astype(np.float32)
    logits = torch.randn(50, 3)
    positive = targets.sum(0)
    weight = torch.tensor(np.clip((50 - positive) / np.maximum(positive, 1), 0.01, 100)) if options.balanced else None
    wanted = torch.tensor(targets) * (1 - options.label_smoothing) + options.label_smoothing / 2
    expected = F.binary_cross_entropy_with_logits(logits, wanted, pos_weight=weight)
    loss = task.loss(targets, options)
    torch.testing.assert_close(loss.total(logits, torch.tensor(targets)) / loss.weight(targets), expected)


def test_the_focal_loss_of_sets_counts_easy_answers_less() -> None:
    task, targets = task_named("multilabel", ["a"], label_column="l"), np.array([[1.0], [0.0]], dtype=np.float32)
    logits = torch.tensor([[2.0], [-1.0]])
    right = torch.tensor([2.0, 1.0]).sigmoid()
    loss = task.loss(targets, LossOptions(focal=2.0)).total(logits, torch.tensor(targets))
    torch.testing.assert_close(loss, (-((1 - right) ** 2) * right.log()).sum())


def test_numbers_are_ordered_as_numbers_and_names_as_given() -> None:
    assert task_of("ordinal", ["10", "9", "2"], label_column="l").classes == ("2", "9", "10")
    named = task_of("ordinal", ["high", "low"], label_column="l", order=("low", "middle", "high"))
    assert named.classes == ("low", "high") and named.outputs == ("> low",)


def test_the_ordinal_loss_is_that_of_the_steps_reached() -> None:
    task = task_named("ordinal", ["1", "2", "3", "4"], label_column="l")
    targets, logits = np.array([0, 2, 3]), torch.randn(3, 3)
    reached = {(0, 0): 0.0, (1, 0): 1.0, (1, 1): 1.0, (1, 2): 0.0, (2, 0): 1.0, (2, 1): 1.0, (2, 2): 1.0}
    expected = sum(
        F.binary_cross_entropy_with_logits(logits[place], torch.tensor(above)) for place, above in reached.items()
    )
    loss = task.loss(targets, LossOptions())
    torch.testing.assert_close(loss.total(logits, torch.tensor(targets)), expected)
    assert loss.weight(targets) == 3.0
    with pytest.raises(ConfigError, match="--focal has no meaning for --task ordinal"):
        task.loss(targets, LossOptions(focal=1.0))


def test_probabilities_of_ordered_classes_are_those_of_the_steps() -> None:
    decision, logits = Decision(link="corn"), np.array([[0.0, 0.0], [4.0, 4.0], [1000.0, -1000.0]])
    outputs = decision.outputs(logits)
    np.testing.assert_allclose(outputs.sum(axis=1), 1)
    np.testing.assert_allclose(outputs[0], [0.5, 0.25, 0.25])
    # The median: from below one half is reached at the first class, although no answer is likelier than 0.5.
    assert decision.choose(outputs).tolist() == [0, 2, 1]


def test_a_number_is_learned_standardised_and_answered_as_it_is() -> None:
    task = task_of("regression", ["10", "20", "30"], label_column="stars")
    assert task.outputs == ("stars",)
    targets = task.targets(["10", "20", "30"])
    learned = task.learned(targets)
    assert learned.mean() == pytest.approx(0, abs=1e-6) and learned.std() == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(task.in_units_of_labels(learned), targets, rtol=1e-6)
    with pytest.raises(ConfigError, match="--class-weights has no meaning for --task regression"):
        task.loss(targets, LossOptions(balanced=True))


def test_what_counts_as_another_answer() -> None:
    sets = Decision(link="sigmoid", thresholds=(0.5, None))
    apart, other = sets.changes(np.array([[0.6, 0.9], [0.4, 0.1]]), np.array([[0.4, 0.8], [0.3, 0.2]]))
    assert apart == pytest.approx([0.2, 0.1]) and other.tolist() == [True, False]
    numbers = Decision(link="identity", scale=10.0)
    apart, other = numbers.changes(np.array([[1.0], [1.0]]), np.array([[1.4], [1.6]]))
    assert apart == pytest.approx([0.04, 0.06]) and other.tolist() == [False, True]


def test_labels_begin_as_probable_as_they_are_frequent(tiny_model: Path) -> None:
    task = task_named("multilabel", ["a", "b", "c"], label_column="l")
    targets = np.array([[1, 0, 0]] * 49 + [[1, 1, 0]] * 49, dtype=np.float32)
    model = build_classifier(tiny_model, n_classes=3, seed=0)
    task.prepare(model, targets)
    np.testing.assert_allclose(model.head.output.bias.detach().sigmoid(), [0.99, 0.5, 0.01], atol=1e-6)


@pytest.mark.parametrize("focal", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("kind", ["classify", "multilabel"])
def test_the_focal_loss_has_a_slope_where_the_model_is_sure(kind: str, focal: float) -> None:
    task = task_named(kind, ["a", "b"], label_column="l")
    targets = np.array([[1.0, 0.0]] * 3, dtype=np.float32) if kind == "multilabel" else np.zeros(3, dtype=np.int64)
    logits = torch.tensor([[30.0, -30.0], [200.0, -200.0], [0.5, 0.0]], requires_grad=True)
    task.loss(targets, LossOptions(focal=focal)).total(logits, torch.from_numpy(targets)).backward()
    assert logits.grad is not None and torch.isfinite(logits.grad).all()
    assert logits.grad[2].abs().sum() > 1e-3 > logits.grad[:2].abs().max()


def test_numbers_that_float32_cannot_tell_apart_are_refused() -> None:
    with pytest.raises(DataError, match="Subtract a constant such as 1.7e"):
        task_of("regression", [str(1_700_000_000 + 10 * row) for row in range(9)], label_column="time")
    assert task_of("regression", ["5", "5"], label_column="x").outputs == ("x",)
