"""What `huiyan lm train` needs of a way to learn a language."""

from pathlib import Path
from typing import Any, Protocol

from torch import nn

from huiyan.data.token_file import TokenFile
from huiyan.training.loop import Objective


class Learner(Protocol):
    """A model, and how it learns and is measured."""

    @property
    def model(self) -> nn.Module:
        """What learns."""
        ...

    def objective(self) -> Objective:
        """The training part, for the loop."""
        ...

    def measure(self, part: TokenFile) -> dict[str, float]:
        """The figures of the model, in evaluation mode, on a part of the text; ``loss`` is among them."""
        ...

    def save(self, out: Path) -> None:
        """Write the model."""
        ...

    def sample(self) -> dict[str, Any]:
        """What the model writes: ``prompt``, ``seed`` and ``text``; nothing where it cannot write."""
        ...

    def surprise(self) -> str:
        """A text of the test part with its surprises, as escaped HTML; empty where there is no such thing."""
        ...
