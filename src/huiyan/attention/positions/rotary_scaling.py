"""Rotary frequencies for sequences longer than those a model was trained on."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor

from huiyan.core.config import require


def rotary_frequencies(
    base: float, width: int, *, device: torch.device | None = None, dtype: torch.dtype = torch.float32
) -> Float[Tensor, " r"]:
    """θᵢ = base^(−2i/width) for the width/2 pairs: radians that a pair turns from one position to the next.

    Source: Su et al. 2021, eq. 15.
    """
    return 1.0 / base ** (torch.arange(0, width, 2, device=device, dtype=dtype) / width)


class RotaryScaling(ABC):
    """A way to change the frequencies: pass it as ``Rotary(scaling=…)``."""

    @abstractmethod
    def frequencies(
        self, base: float, width: int, *, device: torch.device | None = None, dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, " r"]:
        """The frequencies in place of ``rotary_frequencies``."""

    @property
    def temperature(self) -> float:
        """What rotated queries and rotated keys are multiplied by, each."""
        return 1.0


@dataclass(frozen=True)
class LinearScaling(RotaryScaling):
    """θᵢ / factor: positions are squeezed into the range seen in training.

    Source: Chen et al. 2023 ("position interpolation"), eq. 4.

    Args:
        factor: how many times longer, at least 1.
    """

    factor: float

    def __post_init__(self) -> None:
        _check_factor(self.factor)

    def frequencies(
        self, base: float, width: int, *, device: torch.device | None = None, dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, " r"]:
        """All slower by the factor."""
        return rotary_frequencies(base, width, device=device, dtype=dtype) / self.factor


@dataclass(frozen=True)
class NtkScaling(RotaryScaling):
    """The base times factor^(r/(r−2)): the slowest pair turns ``factor`` times slower, the fastest as before.

    Source: Peng et al. 2023 (YaRN), section 3.1, definition 1. Fixed; for what a "dynamic" one has at some length, see
    ``at_length``.

    Args:
        factor: how many times longer, at least 1.
    """

    factor: float

    def __post_init__(self) -> None:
        _check_factor(self.factor)

    @classmethod
    def at_length(cls, length: int, *, original_length: int, factor: float = 1.0) -> Self:
        """What dynamic NTK scaling does with a sequence of this length; none up to the original length.

        Source: Peng et al. 2023, section 3.3; ``factor`` as in `transformers`. Differs: it is asked for by name, so
        that what a sequence gives does not depend on the others in its batch.
        """
        require(original_length > 0, "original_length", "at least 1", original_length)
        _check_factor(factor)
        return cls(factor * max(length, original_length) / original_length - (factor - 1))

    def frequencies(
        self, base: float, width: int, *, device: torch.device | None = None, dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, " r"]:
        """Those of the larger base. A single pair has none to spread the factor over, and stays."""
        if width > 2:
            base = base * self.factor ** (width / (width - 2))
        return rotary_frequencies(base, width, device=device, dtype=dtype)


@dataclass(frozen=True)
class Llama3Scaling(RotaryScaling):
    """Pairs that turn ``fast`` times in the original length stay, those that turn ``slow`` times are slower by factor.

    θᵢ becomes (1 − γᵢ) θᵢ / factor + γᵢ θᵢ, where γᵢ = (turnsᵢ − slow) / (fast − slow), from 0 to 1, and turnsᵢ =
    original_length θᵢ / 2π.

    Source: the published code of Llama 3.1 (Llama team 2024); as `transformers`.

    Args:
        factor: how many times longer, at least 1.
        original_length: the longest sequence of the first training.
        fast: turns.
        slow: turns, below ``fast``.
    """

    factor: float
    original_length: int
    fast: float = 4.0
    slow: float = 1.0

    def __post_init__(self) -> None:
        _check_factor(self.factor)
        require(self.original_length > 0, "original_length", "at least 1", self.original_length)
        require(0 < self.slow < self.fast, "slow", f"above 0 and below fast, {self.fast}", self.slow)

    def frequencies(
        self, base: float, width: int, *, device: torch.device | None = None, dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, " r"]:
        """By turns."""
        theta = rotary_frequencies(base, width, device=device, dtype=dtype)
        turns = self.original_length * theta / (2 * math.pi)
        kept = ((turns - self.slow) / (self.fast - self.slow)).clamp(0, 1)
        return theta * kept + theta / self.factor * (1 - kept)


@dataclass(frozen=True)
class YarnScaling(RotaryScaling):
    """YaRN: fast pairs stay, slow pairs are interpolated, those between are mixed; and attention is sharpened.

    θᵢ becomes (1 − γᵢ) θᵢ / factor + γᵢ θᵢ, where γ is 1 for pairs that turn more than ``beta_fast`` times in
    ``original_length`` positions and 0 for those that turn less than ``beta_slow`` times. Rotated queries and keys are
    each multiplied by √(1/t) = 0.1 ln(factor) + 1.

    Source: Peng et al. 2023, sections 3.2 (definition 2) and 3.4. Differs, as the authors' code and `transformers` do:
    between the two bounds γ falls linearly with the index i of the pair, not with its number of turns; and the bounds
    are whole indices unless ``truncate`` is False.

    Args:
        factor: s, how many times longer, at least 1.
        original_length: L, the longest sequence of training.
        beta_fast: β, turns.
        beta_slow: α, turns.
        attention_factor: in place of √(1/t).
        truncate: whether to round the bounds outwards to whole indices.
    """

    factor: float
    original_length: int
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float | None = None
    truncate: bool = True

    def __post_init__(self) -> None:
        _check_factor(self.factor)
        require(self.original_length > 0, "original_length", "at least 1", self.original_length)
        require(self.beta_slow > 0, "beta_slow", "above 0", self.beta_slow)
        fits = self.beta_fast >= self.beta_slow
        require(fits, "beta_fast", f"at least beta_slow, {self.beta_slow}", self.beta_fast)
        positive = self.attention_factor is None or self.attention_factor > 0
        require(positive, "attention_factor", "above 0, or None", self.attention_factor)

    @property
    def temperature(self) -> float:
        """√(1/t), so that scores are multiplied by 1/t."""
        return 0.1 * math.log(self.factor) + 1.0 if self.attention_factor is None else self.attention_factor

    def frequencies(
        self, base: float, width: int, *, device: torch.device | None = None, dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, " r"]:
        """By parts."""
        theta = rotary_frequencies(base, width, device=device, dtype=dtype)
        first, last = (self._index_of(turns, base, width) for turns in (self.beta_fast, self.beta_slow))
        if self.truncate:
            first, last = math.floor(first), math.ceil(last)
        first, last = max(first, 0), min(last, width - 1)
        # Where both bounds fall on one index the ramp is a step.
        steps = max(last - first, 0.001)
        interpolated = ((torch.arange(len(theta), device=device, dtype=dtype) - first) / steps).clamp(0, 1)
        return theta * (1 - interpolated) + theta / self.factor * interpolated

    def _index_of(self, turns: float, base: float, width: int) -> float:
        """The pair, as a fraction, that turns so many times in the original length."""
        return width * math.log(self.original_length / (turns * 2 * math.pi)) / (2 * math.log(base))


def _check_factor(factor: float) -> None:
    require(factor >= 1, "factor", "at least 1", factor)
