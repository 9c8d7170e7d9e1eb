"""What enters the products of a model, column by column: by it int8 knows which numbers its 256 levels stand for.

The inputs of a Transformer's products have a few columns with values ten times as large as all others; one scale for
the whole row would leave two or three bits to these others. Here each column has its own centre and scale, and the
weights take the inverse: the scales cost nothing, since every value is multiplied by one as it becomes an integer.

Two things stay in more bits. The product after the activation: its inputs are too uneven for 8 bits, and to quantise
them too flipped more labels than all others together (decision 0008). And, where it must be, the layers next to the
embeddings: what is lost there goes through all others.
"""

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file  # pyright: ignore[reportUnknownVariableType] - PathLike is left open
from torch import Tensor, nn

from huiyan.core.errors import ShapeError, WeightsError
from huiyan.core.files import atomic_path
from huiyan.core.packed import Packed
from huiyan.models.classifier import SequenceClassifier
from huiyan.models.low_rank import projections, told_inputs
from huiyan.models.prepacked import InputRanges

ATTENTION_IN, ATTENTION_OUT, FEED_FORWARD_IN = "attention.key", "attention.out", "feed_forward.inner"
"""The products that multiply in int8; the keys' stands for all three projections, which read the same rows."""


@dataclass(frozen=True)
class Calibration:
    """What entered the products of a model, and which of them are to multiply in int8.

    Args:
        ranges: of the input columns of each product, by its name in the encoder: ``"stack.layers.0.attention.key"``.
        first_layer: the first that multiplies in int8; those below stay in more bits.
    """

    ranges: Mapping[str, InputRanges]
    first_layer: int = 0

    def of(self, layer: int, product: str) -> InputRanges | None:
        """What entered a product of a layer; None if it is to stay as it is."""
        return self.ranges.get(f"stack.layers.{layer}.{product}") if layer >= self.first_layer else None

    def save(self, path: Path) -> None:
        """Write the ranges as safetensors, whole or not at all; ``first_layer`` is not in the file.

        Raises:
            OutputError: the folder cannot be written.
        """
        tensors = {name: torch.stack([own.lowest, own.highest, own.mean]) for name, own in self.ranges.items()}
        with atomic_path(path) as temporary:
            save_file(tensors, temporary, metadata={"format": "pt"})

    @classmethod
    def load(cls, path: Path, model: SequenceClassifier, *, first_layer: int) -> Self:
        """What ``save`` wrote for a model.

        Raises:
            WeightsError: the file is missing or broken, or is of another model.
        """
        try:
            tensors = load_file(path)
        except (SafetensorError, OSError) as error:
            raise WeightsError(
                f"{path} cannot be read as safetensors: {error}.", hint="Restore it, or train again."
            ) from error
        known = {name: (3, product.in_features) for name, product in _products(model).items()}
        if not tensors or any(known.get(name) != tuple(tensor.shape) for name, tensor in tensors.items()):
            raise WeightsError(f"{path} is not of the model beside it.", hint="Restore both files from one run.")
        return cls({name: InputRanges(*tensor.float()) for name, tensor in tensors.items()}, first_layer)


def can_calibrate(model: SequenceClassifier) -> bool:
    """Whether the model has a product that could multiply in int8; one whose products are all of low rank has none."""
    return bool(_products(model))


def calibrate(model: SequenceClassifier, batches: Iterable[Packed]) -> Calibration:
    """Run batches, on the device of the model, through it, and note what enters its products.

    The model is in float32, and is put into eval mode.

    Raises:
        ShapeError: no row came through.
    """
    model.eval()
    products = _products(model)
    seen = {name: _Seen(product.in_features) for name, product in products.items()}
    with contextlib.ExitStack() as told, torch.inference_mode():
        for name, product in products.items():
            told.enter_context(told_inputs(product, seen[name].add))
        for packed in batches:
            model(packed)
    ranges = {name: one.ranges() for name, one in seen.items() if one.count}
    if not ranges:
        raise ShapeError("Calibrating needs at least one token. Got none.")
    return Calibration(ranges)


class _Seen:
    def __init__(self, width: int) -> None:
        self.count, self._sum = 0, torch.zeros(width, dtype=torch.float64)
        self._lowest, self._highest = torch.full((width,), torch.inf), torch.full((width,), -torch.inf)

    def add(self, rows: Float[Tensor, "t m"]) -> None:
        if len(rows):
            lowest, highest = rows.float().cpu().aminmax(dim=0)
            self._lowest, self._highest = torch.minimum(self._lowest, lowest), torch.maximum(self._highest, highest)
            self.count, self._sum = self.count + len(rows), self._sum + rows.cpu().sum(0, dtype=torch.float64)

    def ranges(self) -> InputRanges:
        return InputRanges(self._lowest, self._highest, (self._sum / self.count).float())


def _products(model: SequenceClassifier) -> dict[str, nn.Linear]:
    endings = (ATTENTION_IN, ATTENTION_OUT, FEED_FORWARD_IN)
    return {name: product for name, product in projections(model.encoder).items() if name.endswith(endings)}
