"""Weights that no checkpoint gave: drawn from a seed alone, whatever the state of torch's own generator."""

from collections.abc import Mapping

import torch
from torch import Tensor

from huiyan.core.weightless import weightless
from huiyan.models.classifier import SequenceClassifier
from huiyan.models.config import ClassifierConfig


def fresh_classifier(config: ClassifierConfig, *, seed: int) -> SequenceClassifier:
    """A classifier without pretraining, in training mode, in float32."""
    model = without_weights(config)
    model.load_state_dict(draw_missing(model, {}, seed=seed), assign=True)
    return model


def without_weights(config: ClassifierConfig) -> SequenceClassifier:
    """A classifier on the meta device: its shape, with nothing allocated or drawn."""
    with weightless():
        return SequenceClassifier(config)


def draw_missing(model: SequenceClassifier, have: Mapping[str, Tensor], *, seed: int) -> dict[str, Tensor]:
    """The parameters of ``model`` that ``have`` lacks, by name; ``draw`` says how."""
    shapes = {name: parameter.shape for name, parameter in model.named_parameters() if name not in have}
    return draw(shapes, deviation=model.config.encoder.initializer_range, seed=seed)


def draw(shapes: Mapping[str, torch.Size], *, deviation: float, seed: int) -> dict[str, Tensor]:
    """Parameters by name, in float32 on the CPU: biases are 0, norms 1, everything else normal.

    Source: Devlin et al. 2019, as in its published ``modeling.py`` (there the normal is truncated at 2 deviations).

    Args:
        shapes: of the parameters by name, in the order in which they are drawn.
        deviation: the standard deviation, an encoder's ``initializer_range``.
        seed: of the normal numbers.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn: dict[str, Tensor] = {}
    for name, shape in shapes.items():
        if name.endswith(".bias"):
            drawn[name] = torch.zeros(shape)
        elif name.endswith("norm.weight"):
            drawn[name] = torch.ones(shape)
        else:
            drawn[name] = torch.empty(shape).normal_(0.0, deviation, generator=generator)
    return drawn
