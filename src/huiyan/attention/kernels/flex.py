"""Dense attention on CUDA through ``torch``'s FlexAttention, which compiles a fused kernel for each rule.

Takes masks, biases by offset, a soft cap and sinks. What needs another product with the queries or keys (Shaw,
Transformer-XL, DeBERTa) and dropout are left to the blockwise kernel.

Source: Dong et al. 2024; ``torch.nn.attention.flex_attention``.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from huiyan.attention.masks import Both, Causal, Either, Global, Keys, Mask, Not, Prefix, Segments, Where, Window
from huiyan.attention.scoring import Scoring
from huiyan.core.errors import ConfigError

_Rule = Callable[[Tensor, Tensor, Tensor], Tensor]


def attend_flex(
    q: Float[Tensor, "b h q d"],
    k: Float[Tensor, "b g k d"],
    v: Float[Tensor, "b g k d"],
    scoring: Scoring,
    *,
    compiled: bool = True,
) -> Float[Tensor, "b h q d"]:
    """As ``attend_by_formula``, in O(n) memory on CUDA.

    Args:
        compiled: False computes the same without a compiler, holding the whole map: to look into it.
    """
    from torch.nn.attention.flex_attention import AuxRequest, create_block_mask

    b, n_queries, n_keys = q.shape[0], q.shape[2], k.shape[2]
    shift, terms, soft_cap = n_keys - n_queries, scoring.terms, scoring.soft_cap

    def change_score(score: Tensor, _b: Tensor, head: Tensor, row: Tensor, column: Tensor) -> Tensor:
        if terms is not None and terms.bias is not None:
            score = score + terms.bias[head, terms.rows(column - row - shift)]
        return score if soft_cap is None else soft_cap * torch.tanh(score / soft_cap)

    block_mask = None
    if scoring.mask is not None:
        rule = _rule(scoring.mask, shift, q.device)

        def allows(sequence: Tensor, _head: Tensor, row: Tensor, column: Tensor) -> Tensor:
            return rule(sequence, row, column)

        own = b if any(isinstance(part, (Keys, Segments)) for part in scoring.mask.parts()) else None
        block_mask = create_block_mask(allows, own, None, n_queries, n_keys, device=str(q.device))
    attend_flexibly = _compiled() if compiled else _plain()
    out, aux = attend_flexibly(
        q,
        k,
        v,
        score_mod=None if terms is None and soft_cap is None else change_score,
        block_mask=block_mask,
        scale=scoring.scale,
        enable_gqa=q.shape[1] != k.shape[1],
        return_aux=AuxRequest(lse=True),
    )
    if scoring.sinks is None:
        return out
    # A sink takes exp(sink) of exp(lse) + exp(sink): what is left is the sigmoid of the difference.
    share = torch.sigmoid(aux.lse - scoring.sinks[:, None])[..., None]
    return (out * share).to(q.dtype)


@cache
def _compiled() -> Callable[..., Any]:
    return torch.compile(_plain(), dynamic=True)


def _plain() -> Callable[..., Any]:
    from torch.nn.attention.flex_attention import flex_attention

    return flex_attention


def _rule(mask: Mask, shift: int, device: torch.device) -> _Rule:  # noqa: PLR0911 - one line a mask
    """A mask for one pair: sequence, index of the query, index of the key."""
    match mask:
        case Causal():
            return lambda _b, i, j: j <= i + shift
        case Window(left, right):
            return lambda _b, i, j: (j - i - shift >= -left) & (j - i - shift <= right)
        case Prefix(n):
            return lambda _b, _i, j: j < n
        case Global(positions):
            chosen = torch.tensor(positions, device=device)
            return lambda _b, i, j: ((chosen == i + shift) | (chosen == j)).any()
        case Keys(keys):
            own = keys.to(device)
            return lambda b, _i, j: own[b, j]
        case Segments():
            queries, keys = (torch.atleast_2d(ids.to(device)) for ids in mask.ids())
            return lambda b, i, j: queries[b if len(queries) > 1 else 0, i] == keys[b if len(keys) > 1 else 0, j]
        case Where(rule):
            return lambda _b, i, j: rule(i + shift, j)
        case Not(inner):
            turned = _rule(inner, shift, device)
            return lambda b, i, j: ~turned(b, i, j)
        case Both(left, right):
            one, other = _rule(left, shift, device), _rule(right, shift, device)
            return lambda b, i, j: one(b, i, j) & other(b, i, j)
        case Either(left, right):
            one, other = _rule(left, shift, device), _rule(right, shift, device)
            return lambda b, i, j: one(b, i, j) | other(b, i, j)
        case _:
            raise ConfigError(
                f"The kernel 'flex' does not know the mask {type(mask).__name__}.",
                hint="Write it with Where(rule), or choose the kernel 'blockwise'.",
            )
