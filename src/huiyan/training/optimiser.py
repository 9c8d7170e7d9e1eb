"""AdamW with decay on matrices only and a learning rate that falls from the head down to the embeddings."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn


def build_optimiser(
    layers: Sequence[Sequence[nn.Parameter]], *, learning_rate: float, weight_decay: float, layer_decay: float
) -> torch.optim.AdamW:
    """AdamW over the layers of a model.

    Source: Loshchilov & Hutter 2019 (AdamW); Howard & Ruder 2018, section 3.2 (a smaller rate for lower layers).

    Args:
        layers: parameters by depth, embeddings first, head last. Parameters that need no gradient are left out.
        learning_rate: of the last layer; each layer below has ``layer_decay`` times the one above.
        weight_decay: for parameters of two dimensions or more; vectors (biases, norms) have none.
        layer_decay: in (0, 1].
    Returns:
        The optimiser; each group keeps its peak rate under ``"peak"``, for the schedule to scale.
    """
    groups: list[dict[str, Any]] = []
    for depth, parameters in enumerate(layers):
        peak = learning_rate * layer_decay ** (len(layers) - 1 - depth)
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        matrices = [parameter for parameter in trained if parameter.dim() >= 2]
        vectors = [parameter for parameter in trained if parameter.dim() < 2]
        for members, decay in ((matrices, weight_decay), (vectors, 0.0)):
            if members:
                groups.append({"params": members, "lr": peak, "peak": peak, "weight_decay": decay})
    # The fused step reads and writes each state once: this optimiser is limited by memory, not by arithmetic.
    return torch.optim.AdamW(groups, lr=learning_rate, fused=True)


def set_learning_rate(optimiser: torch.optim.Optimizer, factor: float) -> float:
    """Give every group ``factor`` times its peak rate; the largest of them is returned, to show."""
    for group in optimiser.param_groups:
        group["lr"] = group["peak"] * factor
    return max(group["lr"] for group in optimiser.param_groups)
