"""The dense door: a classifier for padded input, of static structure, which ``torch.export`` and ONNX can take.

Inside, a batch is packed: its lengths decide what is computed, and a graph whose shape depends on numbers cannot be
exported. Here the batch is `b l` with a key mask, and the same modules compute the same logits. Nothing else pads.

Positions that act on scores (DeBERTa) are computed by the blockwise kernel, which cannot be exported.
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from huiyan.attention.functional import attend
from huiyan.attention.masks import Keys
from huiyan.core.errors import ShapeError
from huiyan.models.classifier import SequenceClassifier
from huiyan.models.pooling import AttentionPooling, FirstPooling, MeanPooling


class DenseClassifier(nn.Module):
    """The logits of a ``SequenceClassifier`` from padded tokens. It holds the classifier itself, and copies no weight.

    The tokens of a sequence stand side by side, with padding behind them, before them or both; what stands in the
    padding does not matter. Every sequence has at least one token.

    Args:
        model: used as it is.
    """

    def __init__(self, model: SequenceClassifier) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Int[Tensor, "b l"], visible: Bool[Tensor, "b l"]) -> Float[Tensor, "b c"]:
        """Raw logits.

        Args:
            tokens: ids, int64.
            visible: True where there is a token, False where there is padding.
        Raises:
            ShapeError: shapes or dtypes that are not as above, a sequence without tokens, or more columns than the
                model has positions. An exported program cannot look at its numbers: there, a sequence without tokens
                gives numbers without meaning.
        """
        encoder = self.model.encoder
        _check(tokens, visible, encoder.embeddings.max_length)
        positions = (visible.long().cumsum(1) - 1).clamp(min=0)  # counted from the first visible token
        rows = encoder.embeddings.at(tokens, positions)
        rows = encoder.stack(rows, None, Keys(visible))  # without lengths, a stack takes `b l m`
        head = self.model.head
        return head.of_pooled(_POOLINGS[type(head.pooling)](head.pooling, rows, visible))


def _check(tokens: Tensor, visible: Tensor, max_length: int) -> None:
    if tokens.dim() != 2 or tokens.shape != visible.shape or visible.dtype != torch.bool:
        raise ShapeError(
            "DenseClassifier takes tokens `b l` and visible `b l`, bool. "
            f"Got {tuple(tokens.shape)}, and {visible.dtype} {tuple(visible.shape)}."
        )
    if tokens.shape[1] > max_length:
        raise ShapeError(
            f"A batch of {tokens.shape[1]} columns is longer than the {max_length} positions of this model.",
            hint=f"Cut the texts with max_length={max_length} or less.",
        )
    if torch.compiler.is_compiling():
        return
    empty = ~visible.any(dim=1)
    if bool(empty.any()):
        number = int(empty.nonzero()[0])
        raise ShapeError(f"A sequence needs at least one token to be classified. Number {number} has none.")


def _first(_pooling: nn.Module, rows: Tensor, visible: Tensor) -> Float[Tensor, "b m"]:
    first = visible.int().argmax(dim=1)
    return rows.gather(1, first[:, None, None].expand(-1, 1, rows.shape[2])).squeeze(1)


def _mean(_pooling: nn.Module, rows: Tensor, visible: Tensor) -> Float[Tensor, "b m"]:
    own = rows.to(torch.promote_types(rows.dtype, torch.float32)).masked_fill(~visible[..., None], 0.0)
    return own.sum(dim=1) / visible.sum(dim=1, keepdim=True)


def _attention(pooling: nn.Module, rows: Tensor, visible: Tensor) -> Float[Tensor, "b m"]:
    query: Tensor = pooling.query  # pyright: ignore[reportAssignmentType] - of an AttentionPooling
    k, v = (project(rows).unflatten(-1, query.shape).transpose(1, 2) for project in (pooling.key, pooling.value))  # pyright: ignore[reportCallIssue]
    q = query.to(k.dtype)[None, :, None].expand(rows.shape[0], -1, -1, -1)
    return attend(q, k, v, mask=Keys(visible)).flatten(1)


_POOLINGS: dict[type[nn.Module], Callable[[nn.Module, Tensor, Tensor], Tensor]] = {
    FirstPooling: _first,
    MeanPooling: _mean,
    AttentionPooling: _attention,
}
