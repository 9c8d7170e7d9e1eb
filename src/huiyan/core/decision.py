"""From logits to an answer. Numpy only: training, serving and the small runtime all decide here.

What is applied here is fitted and measured in ``huiyan.evaluation``.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from huiyan.core.config import Config, require

Link = Literal["softmax", "sigmoid", "corn", "identity"]
_LINKS = ("softmax", "sigmoid", "corn", "identity")
NOTICED = 0.05
"""Standard deviations by which a number has to move to count as another answer."""


@dataclass(frozen=True, kw_only=True)
class Decision(Config):
    """How logits become probabilities or a number, an answer, and whether that is sure enough to be said.

    Args:
        link: what logits are. "softmax": of classes, of which one is right. "sigmoid": of labels, each by itself.
            "corn": of steps from each class to the next (Shi et al. 2021). "identity": the number that is the answer.
        temperature: logits are divided by it before they become probabilities; 1 leaves them as they are.
        thresholds: for each class the probability from which on it is said, None for one that never is. None at all
            when every answer is said; labels that stand by themselves always have one each.
        scale: standard deviation of a number over the training rows.
    """

    temperature: float = 1.0
    thresholds: tuple[float | None, ...] = ()
    link: Link = "softmax"
    scale: float = 1.0

    def __post_init__(self) -> None:
        require(0 < self.temperature < float("inf"), "temperature", "a positive number", self.temperature)
        fits = all(value is None or 0 <= value <= 1 for value in self.thresholds)
        require(fits, "thresholds", "numbers from 0 to 1", self.thresholds)
        require(self.link in _LINKS, "link", "one of " + ", ".join(_LINKS), self.link)
        require(0 < self.scale < float("inf"), "scale", "a positive number", self.scale)

    def outputs(self, logits: Float[np.ndarray, "n o"]) -> Float[np.ndarray, "n c"]:
        """Probabilities `n c` in float64, or the numbers, `n 1`.

        Rows sum to 1 where one class is right.
        """
        scaled = np.asarray(logits, dtype=np.float64) / self.temperature
        if self.link == "softmax":
            exponents = np.exp(scaled - scaled.max(axis=1, keepdims=True))
            return exponents / exponents.sum(axis=1, keepdims=True)
        if self.link == "sigmoid":
            return _sigmoid(scaled)
        if self.link == "corn":
            # P(above k) = Π P(above j | j or above) over j ≤ k; a class has what lies between two of them.
            above = np.cumprod(_sigmoid(scaled), axis=1)
            whole, nothing = np.ones((len(above), 1)), np.zeros((len(above), 1))
            return np.hstack([whole, above]) - np.hstack([above, nothing])
        return np.asarray(logits, dtype=np.float64)

    def choose(self, outputs: Float[np.ndarray, "n c"]) -> Int[np.ndarray, " n"]:
        """The index of the chosen class of every row, `n`.

        The most probable one, the first of equals; of ordered classes the median, which is off by the fewest ranks.
        """
        if self.link == "corn":
            return (outputs.cumsum(axis=1)[:, :-1] < 0.5).sum(axis=1)
        return outputs.argmax(axis=1)

    def has(self, outputs: Float[np.ndarray, "n c"]) -> Bool[np.ndarray, "n c"]:
        """Which labels every row has, where each stands by itself."""
        return outputs >= _numbers(self.thresholds)

    def answers(self, outputs: Float[np.ndarray, "n c"]) -> np.ndarray:
        """What is answered: class indices `n`, which labels `n c`, or numbers `n`."""
        if self.link == "sigmoid":
            return self.has(outputs)
        return outputs[:, 0] if self.link == "identity" else self.choose(outputs)

    def is_sure(self, outputs: Float[np.ndarray, "n c"]) -> Bool[np.ndarray, " n"]:
        """Whether the chosen class of every row reaches its threshold, `n`; without thresholds every answer is sure."""
        if not self.thresholds or self.link == "sigmoid":
            return np.ones(len(outputs), dtype=bool)
        chosen = self.choose(outputs)
        return outputs[np.arange(len(outputs)), chosen] >= _numbers(self.thresholds)[chosen]

    def changes(
        self, one: Float[np.ndarray, "n c"], other: Float[np.ndarray, "n c"]
    ) -> tuple[Float[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
        """How far two outputs for each row are apart, and whether they are another answer.

        Probabilities by the largest difference of any; numbers in standard deviations, and they are another answer from
        ``NOTICED`` on.
        """
        apart = np.abs(one - other).max(axis=1, initial=0.0)
        if self.link == "identity":
            return apart / self.scale, apart / self.scale > NOTICED
        if self.link == "sigmoid":
            return apart, (self.has(one) != self.has(other)).any(axis=1)
        return apart, self.choose(one) != self.choose(other)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    # Each sign by the form that does not overflow.
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + small), small / (1 + small))


def _numbers(thresholds: tuple[float | None, ...]) -> np.ndarray:
    return np.array([np.inf if value is None else value for value in thresholds])
