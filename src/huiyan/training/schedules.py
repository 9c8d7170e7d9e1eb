"""The learning rate over the steps of a run, as a multiple of its peak."""

import math

from huiyan.core.errors import ConfigError


def learning_rate_factor(step: int, *, total: int, warmup: float, schedule: str) -> float:
    """The learning rate of a step as a share of the peak.

    It rises linearly from 1/w to 1 over the first w = ``warmup`` · ``total`` steps, then falls to reach 0 just after
    the last step: in a line, along half a cosine (Loshchilov & Hutter 2017, eq. 5, one cycle), or not at all.

    Args:
        step: 0 … total − 1.
        total: steps in the run.
        warmup: share of the steps that rise.
        schedule: ``linear``, ``cosine`` or ``constant``.
    Returns:
        A number in (0, 1].
    Raises:
        ConfigError: the schedule is unknown.
    """
    rising = int(warmup * total)
    if step < rising:
        return (step + 1) / rising
    progress = (step - rising) / max(1, total - rising)
    if schedule == "linear":
        return 1.0 - progress
    if schedule == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * progress))
    if schedule == "constant":
        return 1.0
    raise ConfigError(f"The schedule option must be linear, cosine or constant. Got {schedule!r} instead.")


def inverse_root_rate(step: int, *, width: int, warmup: int, factor: float = 1.0) -> float:
    """The learning rate of the Transformer's paper: factor · m^(−1/2) · min(step^(−1/2), step · warmup^(−3/2)).

    It rises in a line for ``warmup`` steps, then falls with the root of the step.

    Source: Vaswani et al. 2017, eq. 3.

    Args:
        step: from 1 on.
        width: `m`.
        warmup: steps; 4,000 in the paper.
        factor: 1 in the paper; less where the warm-up is short, as the peak grows with its inverse root.
    Raises:
        ConfigError: a step or a warm-up below 1.
    """
    if step < 1 or warmup < 1:
        raise ConfigError(f"Steps and warm-up are counted from 1. Got step {step} and warmup {warmup}.")
    return factor * width**-0.5 * min(step**-0.5, step * warmup**-1.5)
