"""Classification: one label of several for a text. How rows become a batch, what the loss is, what comes out."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from huiyan.core.lanes import Lanes
from huiyan.core.packed import Packed
from huiyan.data.packing import inference_batches
from huiyan.models.classifier import SequenceClassifier
from huiyan.models.early_exit import ExitingClassifier, depth_weights

_FEWEST_TOKENS, _NUMBERS = 2048, 2048 * 384
"""Tokens computed at a time, and numbers in their rows: enough to keep a core at matrix products and Python out of its
way, few enough to stay in its cache."""
OnRows = Callable[[int], None]
"""Told how many rows more have been computed."""
_AS_LONG = 2304
"""Tokens in a text whose attention costs as much as its other products: six times the width, 384 of MiniLM."""


class ClassificationObjective:
    """What the training loop needs to train a classifier.

    Args:
        model: the encoder and its head.
        sequences: token ids of each training row, special tokens included.
        labels: class index of each training row.
        sources: where each row came from, ``file:line``.
        class_weights: weight of each class in the loss, `c`; None counts every row the same.
        label_smoothing: share of the target spread evenly over all classes (Szegedy et al. 2016, section 7).
    """

    def __init__(
        self,
        model: SequenceClassifier | ExitingClassifier,
        sequences: Sequence[list[int]],
        labels: Sequence[int],
        sources: Sequence[str],
        *,
        class_weights: Float[np.ndarray, " c"] | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        self.model = model
        self.lengths = [len(sequence) for sequence in sequences]
        self._sequences, self._labels, self._sources = sequences, labels, sources
        self._smoothing = label_smoothing
        self._device = next(model.parameters()).device
        self._weights = None if class_weights is None else torch.as_tensor(class_weights, dtype=torch.float32)

    def layer_groups(self) -> list[list[nn.Parameter]]:
        """The model's parameters by depth, embeddings first, head last."""
        return self.model.layer_groups()

    def loss_sum(self, rows: Sequence[int]) -> Tensor:
        """Cross-entropy summed over rows, each weighted by its class; float32 whatever the model computed in."""
        packed = Packed.from_lists([self._sequences[row] for row in rows], self._device)
        labels = torch.tensor([self._labels[row] for row in rows]).to(self._device, non_blocking=True)
        return self._loss_of(self.model(packed).float(), labels)

    def loss_weight(self, rows: Sequence[int]) -> float:
        """The weights of the rows' classes added up: the number of rows when every class counts the same."""
        if self._weights is None:
            return float(len(rows))
        return float(self._weights[[self._labels[row] for row in rows]].sum())

    def describe(self, rows: Sequence[int]) -> list[str]:
        """Where rows came from."""
        return [self._sources[row] for row in rows]

    def _loss_of(self, logits: Tensor, labels: Tensor) -> Tensor:
        weights = None if self._weights is None else self._weights.to(self._device)
        return F.cross_entropy(logits, labels, weight=weights, label_smoothing=self._smoothing, reduction="sum")


class EarlyExitObjective(ClassificationObjective):
    """The same for an ``ExitingClassifier``: all its heads learn at once, Σ j·L_j / Σ j over the layers j.

    Source: Zhou et al. 2020 (PABEE), eq. 5.
    """

    def _loss_of(self, logits: Tensor, labels: Tensor) -> Tensor:
        losses = torch.stack([super(EarlyExitObjective, self)._loss_of(head, labels) for head in logits])
        return (depth_weights(len(losses)).to(losses.device) * losses).sum()


def class_indices(labels: Sequence[str], classes: Sequence[str]) -> Int[np.ndarray, " n"]:
    """The place of each label among the classes, `n`. Every label must be one of them."""
    places = {name: place for place, name in enumerate(classes)}
    return np.array([places[label] for label in labels], dtype=np.int64)


def balanced_weights(labels: Sequence[int], n_classes: int) -> Float[np.ndarray, " c"]:
    """Weights that make every class count the same: n / (c · rows of the class), 0 for a class without rows."""
    counts = np.bincount(np.asarray(labels, dtype=np.int64), minlength=n_classes)
    return np.where(counts > 0, len(labels) / (n_classes * np.maximum(counts, 1)), 0.0)


def logits_of(
    model: SequenceClassifier, sequences: Sequence[list[int]], *, batch_tokens: int | None = None
) -> Float[np.ndarray, "n c"]:
    """The logits of token sequences, in the order given, `n c`, float32.

    The one path from tokens to answers: validation, the test, predict and serving all come through here.
    The model is put into eval mode.
    """
    with Lanes(device_of(model)) as lanes:
        return start_logits(model, sequences, lanes, batch_tokens=batch_tokens)()


def start_logits(
    model: SequenceClassifier,
    sequences: Sequence[list[int]],
    lanes: Lanes,
    *,
    batch_tokens: int | None = None,
    on_rows: OnRows | None = None,
) -> Callable[[], Float[np.ndarray, "n c"]]:
    """Begin ``logits_of``: what comes back waits for the logits, and something else can be done before."""
    logits = np.empty((len(sequences), model.config.n_classes), dtype=np.float32)
    finish = _start(model, sequences, lanes, batch_tokens, lambda packed: (_array(model(packed)),), (logits,), on_rows)

    def wait() -> Float[np.ndarray, "n c"]:
        finish()
        return logits

    return wait


def early_logits_of(
    model: ExitingClassifier, sequences: Sequence[list[int]], *, patience: int, batch_tokens: int | None = None
) -> tuple[Float[np.ndarray, "n c"], Int[np.ndarray, " n"]]:
    """As ``logits_of``, and each sequence leaves as ``ExitingClassifier.leave_early`` says: logits, and layers used."""
    with Lanes(device_of(model)) as lanes:
        return start_early_logits(model, sequences, lanes, patience=patience, batch_tokens=batch_tokens)()


def start_early_logits(
    model: ExitingClassifier,
    sequences: Sequence[list[int]],
    lanes: Lanes,
    *,
    patience: int,
    batch_tokens: int | None = None,
    on_rows: OnRows | None = None,
) -> Callable[[], tuple[Float[np.ndarray, "n c"], Int[np.ndarray, " n"]]]:
    """Begin ``early_logits_of``, as ``start_logits`` begins ``logits_of``."""
    logits = np.empty((len(sequences), model.classifier.config.n_classes), dtype=np.float32)
    depths = np.empty(len(sequences), dtype=np.int64)

    def compute(packed: Packed) -> tuple[np.ndarray, np.ndarray]:
        found, left_at = model.leave_early(packed, patience=patience)
        return _array(found), left_at.numpy()

    finish = _start(model, sequences, lanes, batch_tokens, compute, (logits, depths), on_rows)

    def wait() -> tuple[Float[np.ndarray, "n c"], Int[np.ndarray, " n"]]:
        finish()
        return logits, depths

    return wait


def logits_of_every_head(
    model: ExitingClassifier, sequences: Sequence[list[int]], *, batch_tokens: int | None = None
) -> Float[np.ndarray, "e n c"]:
    """The logits of every head at full depth, `e n c`, that of the first layer first."""
    logits = np.empty((len(sequences), model.n_layers, model.classifier.config.n_classes), dtype=np.float32)
    with Lanes(device_of(model)) as lanes:
        _start(
            model, sequences, lanes, batch_tokens, lambda packed: (_array(model(packed).transpose(0, 1)),), (logits,)
        )()
    return logits.swapaxes(0, 1)


def packed_batches(
    model: nn.Module, sequences: Sequence[list[int]], batch_tokens: int = _FEWEST_TOKENS
) -> Iterator[tuple[list[int], Packed]]:
    """Row numbers and tokens of each batch, for a model that is put into eval mode first."""
    model.eval()
    for batch in inference_batches([len(sequence) for sequence in sequences], batch_tokens=batch_tokens):
        yield batch, Packed.from_lists([sequences[row] for row in batch], device_of(model))


def tokens_at_a_time(model: SequenceClassifier | ExitingClassifier) -> int:
    """How many tokens a batch has, by default, when a model answers: a narrow one takes more."""
    config = model.classifier.config if isinstance(model, ExitingClassifier) else model.config
    return max(_FEWEST_TOKENS, _NUMBERS // config.encoder.width)


def device_of(model: nn.Module) -> torch.device:
    """Where a model's parameters are."""
    return next(model.parameters()).device


def _start(
    model: SequenceClassifier | ExitingClassifier,
    sequences: Sequence[list[int]],
    lanes: Lanes,
    batch_tokens: int | None,
    compute: Callable[[Packed], tuple[np.ndarray, ...]],
    into: tuple[np.ndarray, ...],
    on_rows: OnRows | None = None,
) -> Callable[[], None]:
    """Begin to compute every batch; what comes back waits, and writes the arrays of each into its rows of ``into``.

    ``on_rows`` is told the number of rows of every batch that is done, from the thread that computed it.
    """
    if model.training:  # looked at first: telling every module takes longer than it takes to answer a short text
        model.eval()
    device = device_of(model)

    def run(batch: list[int]) -> None:
        with torch.inference_mode():
            found = compute(Packed.from_lists([sequences[row] for row in batch], device))
        for whole, part in zip(into, found, strict=True):
            whole[batch] = part
        if on_rows is not None:
            on_rows(len(batch))

    batches = inference_batches(
        [len(sequence) for sequence in sequences],
        batch_tokens=batch_tokens or tokens_at_a_time(model),
        multiple_of=lanes.count,
    )
    costs = [sum(len(sequences[row]) * (_AS_LONG + len(sequences[row])) for row in batch) for batch in batches]
    # A lane would be busy with these when all others had long been done: they have all cores, one after the other,
    # before the lanes start.
    alone = [cost * lanes.count > 1.5 * sum(costs) for cost in costs]
    for batch, is_alone in zip(batches, alone, strict=True):
        if is_alone:
            run(batch)
    under_way = [lanes.submit(run, batch) for batch, is_alone in zip(batches, alone, strict=True) if not is_alone]

    def finish() -> None:
        for future in under_way:
            future.result()

    return finish


def _array(x: Tensor) -> np.ndarray:
    return x.float().cpu().numpy()
