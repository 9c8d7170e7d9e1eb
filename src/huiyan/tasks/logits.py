"""From token sequences to logits: the one path that validation, the test, predict and serving all take."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from huiyan.core.lanes import Lanes
from huiyan.core.packed import Packed
from huiyan.data.packing import inference_batches
from huiyan.models.classifier import SequenceClassifier
from huiyan.models.early_exit import ExitingClassifier

_FEWEST_TOKENS, _NUMBERS = 2048, 2048 * 384
"""Tokens computed at a time, and numbers in their rows: enough to keep a core at matrix products and Python out of its
way, few enough to stay in its cache."""
OnRows = Callable[[int], None]
"""Told how many rows more have been computed."""
_AS_LONG = 2304
"""Tokens in a text whose attention costs as much as its other products: six times the width, 384 of MiniLM."""


def logits_of(
    model: SequenceClassifier, sequences: Sequence[list[int]], *, batch_tokens: int | None = None
) -> Float[np.ndarray, "n c"]:
    """The logits of token sequences, in the order given, `n c`, float32.

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
