"""From logits to an answer. Numpy only: training, serving and the small runtime all decide here.

What is applied here is fitted and measured in ``huiyan.evaluation``.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from huiyan.core.config import Config, require


@dataclass(frozen=True, kw_only=True)
class Decision(Config):
    """How logits become probabilities and a class.

    Args:
        temperature: logits are divided by it before the softmax; 1 leaves them as they are.
    """

    temperature: float = 1.0

    def __post_init__(self) -> None:
        require(0 < self.temperature < float("inf"), "temperature", "a positive number", self.temperature)

    def probabilities(self, logits: Float[np.ndarray, "n c"]) -> Float[np.ndarray, "n c"]:
        """Softmax of the logits over the temperature, `n c`, float64; every row sums to 1."""
        scaled = np.asarray(logits, dtype=np.float64) / self.temperature
        exponents = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        return exponents / exponents.sum(axis=1, keepdims=True)

    def choose(self, probabilities: Float[np.ndarray, "n c"]) -> Int[np.ndarray, " n"]:
        """The index of the most probable class of every row, `n`; the first of equals."""
        return probabilities.argmax(axis=1)
