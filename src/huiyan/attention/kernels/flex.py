"""Dense attention on CUDA through ``torch``'s FlexAttention, which compiles a fused kernel for each rule.

Takes masks, biases by offset, a soft cap and sinks. What needs another product with the queries or keys (Shaw,
Transformer-XL, DeBERTa) and dropout are left to the blockwise kernel.

Source: Dong et al. 2024; ``torch.nn.attention.flex_attention``.
"""

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from huiyan.attention.blocks import Sees, Span
from huiyan.attention.kernels.seen import seen_columns
from huiyan.attention.masks import Both, Causal, Either, Global, Keys, Mask, Not, Prefix, Segments, Where, Window
from huiyan.attention.scoring import Scoring
from huiyan.core.errors import ConfigError

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

_BLOCK = 128  # queries and keys of a block, as FlexAttention has them unless told otherwise
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
    from torch.nn.attention.flex_attention import AuxRequest

    n_queries, n_keys = q.shape[2], k.shape[2]
    shift, terms, soft_cap = n_keys - n_queries, scoring.terms, scoring.soft_cap

    def change_score(score: Tensor, _b: Tensor, head: Tensor, row: Tensor, column: Tensor) -> Tensor:
        if terms is not None and terms.bias is not None:
            score = score + terms.bias[head, terms.rows(column - row - shift)]
        return score if soft_cap is None else soft_cap * torch.tanh(score / soft_cap)

    block_mask = None if scoring.mask is None else block_mask_of(scoring.mask, n_queries, n_keys, q.device)
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
    # One for all: it compiles again for every kind of mask and of score, and beyond dynamo's `recompile_limit`, 8, it
    # would run without a compiler, which holds the map. Nothing here raises that limit: it was not tried on a GPU.
    return torch.compile(_plain(), dynamic=True)


def _plain() -> Callable[..., Any]:
    from torch.nn.attention.flex_attention import flex_attention

    return flex_attention


def block_mask_of(mask: Mask, n_queries: int, n_keys: int, device: torch.device) -> "BlockMask":
    """What FlexAttention has to know of a mask: which blocks are seen whole, and of which it must ask the rule.

    ``create_block_mask`` would write out the whole map to find that. Here it takes a few numbers a block.
    """
    from torch.nn.attention.flex_attention import BlockMask

    rule = _rule(mask, n_keys - n_queries, device)

    def allows(sequence: Tensor, _head: Tensor, row: Tensor, column: Tensor) -> Tensor:
        return rule(sequence, row, column)

    seen = _seen(mask, n_queries, n_keys, device)
    # A block over the edge of the map holds pairs that are not there.
    inside = [torch.arange(_BLOCK, n + _BLOCK, _BLOCK, device=device) <= n for n in (n_queries, n_keys)]
    whole = seen.whole & inside[0][:, None] & inside[1]
    blocks = (*_ordered(~(seen.none | whole)), *_ordered(whole))
    return BlockMask.from_kv_blocks(*blocks, BLOCK_SIZE=_BLOCK, mask_mod=allows, seq_lengths=(n_queries, n_keys))


def _ordered(blocks: Bool[Tensor, "b r c"]) -> tuple[Int[Tensor, "b 1 r"], Int[Tensor, "b 1 r c"]]:
    """How many of the blocks of each row are meant, and the numbers of all, with those in front."""
    numbers = blocks.int().argsort(dim=-1, descending=True, stable=True)
    return blocks.sum(-1, dtype=torch.int32)[:, None], numbers.int()[:, None]


class _Seen(NamedTuple):
    """For each block of the map, whether nothing or all of it is seen; neither is also the answer of who must look."""

    none: Bool[Tensor, "#b #r #c"]
    whole: Bool[Tensor, "#b #r #c"]


def _seen(mask: Mask, n_queries: int, n_keys: int, device: torch.device) -> _Seen:
    match mask:
        case Not(inner):
            none, whole = _seen(inner, n_queries, n_keys, device)
            return _Seen(whole, none)
        case Both(left, right):
            one, other = (_seen(x, n_queries, n_keys, device) for x in (left, right))
            return _Seen(one.none | other.none, one.whole & other.whole)
        case Either(left, right):
            one, other = (_seen(x, n_queries, n_keys, device) for x in (left, right))
            return _Seen(one.none & other.none, one.whole | other.whole)
        # What ``sees`` says of these two, but where the tensors are, and for each sequence.
        case Keys(keys):
            own = _in_blocks(keys.to(device))[:, None]
            return _Seen(~own.any(-1), own.all(-1))
        case Segments():
            queries, keys = (_in_blocks(torch.atleast_2d(ids.to(device))) for ids in mask.ids())
            low, high = (x[:, :, None] for x in queries.aminmax(dim=-1))
            key_low, key_high = (x[:, None] for x in keys.aminmax(dim=-1))
            one = (low == high) & (key_low == key_high) & (low == key_low)
            return _Seen((high < key_low) | (key_high < low), one)
        case _:
            return _seen_by_rule(mask, n_queries, n_keys, device)


def _in_blocks(x: Shaped[Tensor, "b n"]) -> Shaped[Tensor, "b r 128"]:
    """The last block is filled up with its last number."""
    n = x.shape[1]
    index = torch.arange(-(-n // _BLOCK) * _BLOCK, device=x.device).clamp_max(n - 1)
    return x[:, index].unflatten(1, (-1, _BLOCK))


def _seen_by_rule(mask: Mask, n_queries: int, n_keys: int, device: torch.device) -> _Seen:
    n_rows, n_columns = (-(-n // _BLOCK) for n in (n_queries, n_keys))
    none = [[True] * n_columns for _ in range(n_rows)]
    whole = [[False] * n_columns for _ in range(n_rows)]
    for row, rows in enumerate(Span(0, n_queries).blocks(_BLOCK)):
        for columns, sees in seen_columns(mask, rows, n_queries, n_keys, _BLOCK):
            column = columns.start // _BLOCK
            none[row][column], whole[row][column] = False, sees is Sees.ALL
    shape = (1, n_rows, n_columns)
    return _Seen(*(torch.tensor(x, dtype=torch.bool, device=device).view(shape) for x in (none, whole)))


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
