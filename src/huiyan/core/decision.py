"""From logits to an answer. Numpy only: training, serving and the small runtime all decide here.

What is applied here is fitted and measured in ``huiyan.evaluation``.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from huiyan.core.config import Config, require


@dataclass(frozen=True, kw_only=True)
class Decision(Config):
    """How logits become probabilities, a class, and whether that is sure enough to be said.

    Args:
        temperature: logits are divided by it before the softmax; 1 leaves them as they are.
        thresholds: for each class the probability from which on it is said, None for a class that never is; none at
            all when every answer is said.
    """

    temperature: float = 1.0
    thresholds: tuple[float | None, ...] = ()

    def __post_init__(self) -> None:
        require(0 < self.temperature < float("inf"), "temperature", "a positive number", self.temperature)
        fits = all(value is None or 0 <= value <= 1 for value in self.thresholds)
        require(fits, "thresholds", "numbers from 0 to 1", self.thresholds)

    def probabilities(self, logits: Float[np.ndarray, "n c"]) -> Float[np.ndarray, "n c"]:
        """Softmax of the logits over the temperature, `n c`, float64; every row sums to 1."""
        scaled = np.asarray(logits, dtype=np.float64) / self.temperature
        exponents = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        return exponents / exponents.sum(axis=1, keepdims=True)

    def choose(self, probabilities: Float[np.ndarray, "n c"]) -> Int[np.ndarray, " n"]:
        """The index of the most probable class of every row, `n`; the first of equals."""
        return probabilities.argmax(axis=1)

    def is_sure(self, probabilities: Float[np.ndarray, "n c"]) -> Bool[np.ndarray, " n"]:
        """Whether the most probable class of every row reaches its threshold, `n`."""
        if not self.thresholds:
            return np.ones(len(probabilities), dtype=bool)
        never = np.inf
        thresholds = np.array([never if value is None else value for value in self.thresholds])
        return probabilities.max(axis=1) >= thresholds[self.choose(probabilities)]
