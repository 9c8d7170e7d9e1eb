"""Which batches make which step, and how many steps a run has: fixed before the first one."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

FEW_STEPS = 50
"""Fewer steps than this seldom move a new head far from where it began."""


@dataclass(frozen=True)
class Step:
    """One optimiser step.

    Args:
        epoch: the epoch it belongs to, from 0.
        batches: row numbers of each batch whose gradients are added up.
        epoch_done: how much of the epoch is done after this step, (0, 1].
        validate: whether to look at the validation rows after it.
    """

    epoch: int
    batches: list[list[int]]
    epoch_done: float
    validate: bool


def steps_of_epoch(
    epoch: int,
    batches: list[list[int]],
    *,
    accumulate: int,
    validations_per_epoch: int,
) -> list[Step]:
    """The steps of one epoch, from its batches in order."""
    groups = [batches[start : start + accumulate] for start in range(0, len(batches), accumulate)]
    stops = {round(len(groups) * part / validations_per_epoch) for part in range(1, validations_per_epoch + 1)}
    return [Step(epoch, group, number / len(groups), number in stops) for number, group in enumerate(groups, start=1)]


def walk(epoch_steps: Callable[[int], list[Step]], *, start: int, total: int) -> Iterator[tuple[int, Step]]:
    """Steps ``start + 1`` … ``total``, numbered from 1 over all epochs; the last one always validates."""
    number = 0
    epoch = 0
    while number < total:
        for step in epoch_steps(epoch):
            number += 1
            if start < number <= total:
                yield number, Step(step.epoch, step.batches, step.epoch_done, step.validate or number == total)
        epoch += 1


def count_steps(epoch_steps: Callable[[int], list[Step]], epochs: int) -> int:
    """Steps in a number of epochs; the token budget makes epochs differ by a step or so."""
    return sum(len(epoch_steps(epoch)) for epoch in range(epochs))


def steps_in_time(
    run_batch: Callable[[list[int]], None],
    steps: Sequence[Step],
    lengths: Sequence[int],
    *,
    validation_tokens: int,
    minutes: float,
    measure_s: float = 3.0,
) -> int:
    """How many of ``steps`` fit into ``minutes``, validations included, foreseen from a short timing.

    Args:
        run_batch: one forward and backward pass over rows, which must leave no trace.
        steps: the steps of the first epoch; later epochs are taken to cost the same.
        lengths: tokens in each training row.
        validation_tokens: tokens of one look at the validation rows. A forward pass in float32 is taken to cost as
            much as a training pass, which may be in bf16: rather too much than too little.
        minutes: the time there is.
        measure_s: how long to measure, after one pass to warm up.
    Returns:
        A number of steps, 1 or more.
    """
    batches = [batch for step in steps for batch in step.batches]
    run_batch(batches[0])
    began, tokens = time.perf_counter(), 0
    for batch in batches:
        run_batch(batch)
        tokens += sum(lengths[row] for row in batch)
        if time.perf_counter() - began > measure_s:
            break
    per_token = (time.perf_counter() - began) / tokens
    epoch_s = per_token * sum(lengths)
    epoch_s += sum(step.validate for step in steps) * per_token * validation_tokens
    # A tenth is kept back: for the optimiser, for checkpoints, and because a short timing is a guess.
    return max(1, int(0.9 * minutes * 60 / epoch_s * len(steps)))
