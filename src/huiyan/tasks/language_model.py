"""Language modelling: every token from those before it, of a text alone or given a source."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from huiyan.core.errors import ShapeError
from huiyan.core.packed import Packed
from huiyan.models.language_model import LanguageModel


def next_token_loss(
    model: LanguageModel,
    texts: Sequence[Sequence[int]],
    sources: Sequence[Sequence[int]] | None = None,
    *,
    label_smoothing: float = 0.0,
) -> Float[Tensor, ""]:
    """The mean cross-entropy of every token but the first of each text, all texts at once and none padded.

    Source: Vaswani et al. 2017, section 5.4; label smoothing: Szegedy et al. 2016, section 7.

    Args:
        model: in training mode, or in evaluation mode for the loss alone.
        texts: token ids, at least two each: of a model with an encoder, first the token that a text begins with.
        sources: one a text, for a model with an encoder.
        label_smoothing: the share of the target that is spread evenly over all tokens.
    Raises:
        ShapeError: a text of fewer than two tokens.
    """
    short = next((number for number, text in enumerate(texts) if len(text) < 2), None)
    if short is not None:
        raise ShapeError(f"A text of fewer than two tokens has no next one. Number {short} has {len(texts[short])}.")
    device = model.decoder.embeddings.words.weight.device
    given = Packed.from_lists([list(text[:-1]) for text in texts], device)
    source = None if sources is None else Packed.from_lists([list(source) for source in sources], device)
    targets = torch.tensor([token for text in texts for token in text[1:]]).to(device, non_blocking=True)
    return functional.cross_entropy(model(given, source=source), targets, label_smoothing=label_smoothing)
