"""Early exit: a head after every layer, and a sequence that leaves once enough of them in a row agree.

The last head is the classifier's own; the exits here are those of the layers before it, with weights and a file of
their own, so that the classifier stays what it is without them.
"""

from pathlib import Path
from typing import cast

import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file  # pyright: ignore[reportUnknownVariableType] - PathLike is left open
from torch import Tensor, nn

from huiyan.core.config import require
from huiyan.core.errors import ConfigError, WeightsError
from huiyan.core.files import atomic_path
from huiyan.core.packed import Packed
from huiyan.core.weightless import weightless
from huiyan.models.classifier import ClassificationHead, SequenceClassifier
from huiyan.models.config import ClassifierConfig
from huiyan.models.fresh import draw


class Exits(nn.Module):
    """One head for every layer but the last, laid out as the classifier's own head is.

    Raises:
        ConfigError: the encoder has a single layer, so there is nothing to leave before.
    """

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        n_exits = len(config.encoder.depth_order) - 1
        if n_exits < 1:
            raise ConfigError(
                "Early exit needs an encoder of at least 2 layers. This one has a single layer.",
                hint="Leave --early-exit away, or name a deeper model.",
            )
        width, n_heads = config.encoder.width, config.encoder.n_heads
        self.heads = nn.ModuleList(
            ClassificationHead(config.head, width=width, n_heads=n_heads, n_classes=config.n_classes)
            for _ in range(n_exits)
        )


class ExitingClassifier(nn.Module):
    """A classifier and its exits, which share the encoder.

    Source: Zhou et al. 2020 (PABEE), section 3. Differs: ``patience`` counts the heads that agree, where the paper
    counts how often an answer is repeated (its t is ``patience`` − 1); each exit has all layers of the head.

    Args:
        classifier: the encoder and the head of the last layer; used as it is, not copied.
        exits: the heads of the layers before.
    """

    def __init__(self, classifier: SequenceClassifier, exits: Exits) -> None:
        super().__init__()
        self.classifier, self.exits = classifier, exits

    @property
    def n_layers(self) -> int:
        """Layers of the encoder, each time one that is shared comes: also the number of heads, `e`."""
        return len(self.exits.heads) + 1

    def forward(self, packed: Packed) -> Float[Tensor, "e b c"]:
        """The raw logits of every head, that of the first layer first, the classifier's own last.

        Raises:
            ShapeError: a sequence is empty, or longer than the positions the model has.
        """
        encoder = self.classifier.encoder
        rows = encoder.embeddings(packed)
        logits: list[Tensor] = []
        for layer, head in zip(encoder.stack.in_order()[:-1], self.exits.heads, strict=True):
            rows = layer(rows, packed.lengths)
            logits.append(head(encoder.stack.final_norm(rows), packed))
        return torch.stack([*logits, self._at_the_end(rows, packed)])

    def leave_early(self, packed: Packed, *, patience: int) -> tuple[Float[Tensor, "b c"], Int[Tensor, " b"]]:
        """Raw logits of the head at which each sequence leaves, and the number of layers it went through.

        A sequence leaves at the first layer whose head and the ``patience`` − 1 heads before it choose the same
        class; its tokens then leave the packed row, and the layers that follow have less to do. With a patience of
        ``n_layers`` or more this is the classifier itself.

        Raises:
            ShapeError: a sequence is empty, or longer than the positions the model has.
            ConfigError: ``patience`` is below 1.
        """
        require(patience >= 1, "patience", "1 or more", patience)
        if patience >= self.n_layers:
            return self.classifier(packed), torch.full((len(packed),), self.n_layers)
        encoder = self.classifier.encoder
        rows, device = encoder.embeddings(packed), packed.tokens.device
        present = torch.arange(len(packed))
        choice, streak = torch.full((2, len(packed)), -1, device=device)
        who: list[Tensor] = []
        found: list[Tensor] = []
        depths = torch.full((len(packed),), self.n_layers)
        for depth, (layer, head) in enumerate(zip(encoder.stack.in_order(), self._heads(), strict=True), start=1):
            if depth < self.n_layers:
                rows = layer(rows, packed.lengths)
                logits = head(encoder.stack.final_norm(rows), packed)
            else:
                logits = self._at_the_end(rows, packed)
            before, choice = choice, logits.argmax(dim=1)
            streak = torch.where(choice == before, streak + 1, 1)
            # Lengths are on the CPU, so who leaves has to be known there: one wait a layer on an accelerator.
            leaves = (streak >= patience).cpu() if depth < self.n_layers else torch.ones_like(present, dtype=torch.bool)
            if depth < self.n_layers and not leaves.any():
                continue
            who.append(present[leaves])
            found.append(logits[leaves.to(device)])
            depths[present[leaves]] = depth
            if leaves.all():
                break
            stays = ~leaves
            present, choice, streak = present[stays], choice[stays.to(device)], streak[stays.to(device)]
            rows, packed = _keep(rows, packed, stays)
        order = torch.cat(who).argsort().to(device)
        return torch.cat(found).index_select(0, order), depths

    def layer_groups(self) -> list[list[nn.Parameter]]:
        """The classifier's parameters by depth; the exits, as new as its head, learn with the head."""
        groups = self.classifier.layer_groups()
        return [*groups[:-1], [*groups[-1], *self.exits.parameters()]]

    def _at_the_end(self, rows: Tensor, packed: Packed) -> Float[Tensor, "b c"]:
        """The logits of the last head, from the rows that enter the last layer; as the classifier computes them."""
        stack, head = self.classifier.encoder.stack, self.classifier.head
        last = stack.in_order()[-1]
        if head.reads_first_rows:
            return head.of_pooled(stack.final_norm(last.first_rows(rows, packed.lengths)))
        return head(stack.final_norm(last(rows, packed.lengths)), packed)

    def _heads(self) -> list[ClassificationHead]:
        return [*(cast("ClassificationHead", head) for head in self.exits.heads), self.classifier.head]


def depth_weights(n_layers: int) -> Float[Tensor, " e"]:
    """What each head counts in the loss: its layer j over the sum of all, so that deep heads count most.

    Source: Zhou et al. 2020, eq. 5 (before it Kaya et al. 2019).
    """
    depths = torch.arange(1, n_layers + 1, dtype=torch.float32)
    return depths / depths.sum()


def fresh_exits(config: ClassifierConfig, *, seed: int) -> Exits:
    """Exits without training, in training mode, in float32, drawn from ``seed`` alone.

    Raises:
        ConfigError: the encoder has a single layer.
    """
    exits = _without_weights(config)
    shapes = {name: parameter.shape for name, parameter in exits.named_parameters()}
    exits.load_state_dict(draw(shapes, deviation=config.encoder.initializer_range, seed=seed), assign=True)
    return exits


def save_exits(exits: Exits, path: Path) -> None:
    """Write the exits' weights as safetensors, whole or not at all.

    Raises:
        OutputError: the folder cannot be written.
    """
    tensors = {name: parameter.detach().cpu().contiguous() for name, parameter in exits.named_parameters()}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={"format": "pt"})


def load_exits(path: Path, config: ClassifierConfig) -> Exits:
    """The exits that ``save_exits`` wrote, for a classifier of this configuration, in evaluation mode, in float32.

    Raises:
        WeightsError: the file is missing or broken, or holds the exits of another model.
    """
    try:
        weights = load_file(path)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} cannot be read as safetensors: {error}.", hint="Restore it, or train again.") from (
            error
        )
    exits = _without_weights(config)
    needed = {name: tuple(parameter.shape) for name, parameter in exits.named_parameters()}
    there = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    if needed != there:
        name = min(name for name in needed | there if needed.get(name) != there.get(name))
        raise WeightsError(
            f"{path} holds the exits of another model: {name} has the shape {there.get(name)} there, and the model "
            f"beside it needs {needed.get(name)}.",
            hint="Restore both files from one run.",
        )
    exits.load_state_dict({name: tensor.to(torch.float32) for name, tensor in weights.items()}, assign=True)
    return exits.eval()


def _without_weights(config: ClassifierConfig) -> Exits:
    with weightless():
        return Exits(config)


def _keep(rows: Tensor, packed: Packed, stays: Tensor) -> tuple[Tensor, Packed]:
    """The rows and the tokens of the sequences that stay; both follow the order they had."""
    kept = stays.repeat_interleave(packed.lengths).nonzero().squeeze(1).to(rows.device)
    # The types have been added to the rows: nobody reads them any more.
    return rows.index_select(0, kept), Packed(packed.tokens.index_select(0, kept), packed.lengths[stays])
