"""The masks of `transformers` as ours: by name where we have the rule, else by asking theirs, tile by tile."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from jaxtyping import Bool
from torch import Tensor
from transformers import masking_utils

from huiyan.attention.blocks import Block, Sees
from huiyan.attention.masks import Causal, Keys, Mask, Window
from huiyan.core.errors import ConfigError

Rule = Callable[..., Any]  # of a sequence, a head, a query and a key: whether they may attend


@dataclass(frozen=True)
class Foreign(Mask):
    """A rule of `transformers`, asked for a tile when a kernel computes it.

    Args:
        rule: takes numbers of sequence, head, query and key, as int64 tensors that broadcast to `b 1 q k`.
        n_sequences: `b`.
        first_query: what the rule calls the first query.
        first_key: what it calls the first key.
    """

    rule: Rule
    n_sequences: int
    first_query: int
    first_key: int

    def allowed(self, block: Block, device: torch.device) -> Bool[Tensor, "b 1 q k"]:
        """What the rule says."""
        sequences = torch.arange(self.n_sequences, device=device)[:, None, None, None]
        heads = torch.zeros(1, 1, 1, 1, dtype=torch.int64, device=device)
        rows = block.rows.numbers(device)[:, None] + self.first_query
        columns = block.columns.numbers(device) + self.first_key
        said = self.rule(sequences, heads, rows[None, None], columns[None, None, None])
        return said.expand(self.n_sequences, 1, block.rows.size, block.columns.size)

    def sees(self, block: Block) -> Sees:
        """MIXED: only looking would tell."""
        return Sees.MIXED


@dataclass(frozen=True)
class Written(Mask):
    """A mask that somebody has written out, `b 1 q k`."""

    table: Bool[Tensor, "b 1 q k"]

    def allowed(self, block: Block, device: torch.device) -> Bool[Tensor, "b 1 q k"]:
        """The part of it."""
        return block.columns.of(block.rows.of(self.table.to(device), 2), 3)

    def sees(self, block: Block) -> Sees:
        """MIXED: only looking would tell."""
        return Sees.MIXED


@dataclass(frozen=True)
class Seen:
    """What our mask function gives to a model, which hands it on to its attention layers.

    Args:
        mask: None lets every query see every key.
    """

    mask: Mask | None

    @classmethod
    def __torch_function__(cls, *_call: object) -> NoReturn:
        """What torch calls when a model computes with it.

        Raises:
            ConfigError: always: such a model has an attention of its own.
        """
        raise NoTensorError

    def __getattr__(self, name: str) -> NoReturn:
        """What Python calls for all that a tensor has and this has not."""
        raise NoTensorError

    def _computed(self, *_with: object) -> NoReturn:
        raise NoTensorError

    __getitem__ = __invert__ = __neg__ = _computed
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = _computed


class NoTensorError(ConfigError, AttributeError):
    """A model takes `Seen` for a tensor. An AttributeError too: who only looks for a method (accelerate) hears no."""

    def __init__(self) -> None:
        super().__init__(
            "This model computes with its mask by itself: its attention does not go through the interface of "
            "transformers, and Huiyan cannot take its place.",
            hint="Use attn_implementation='eager'.",
        )


def mask_for_models(
    batch_size: int,
    q_length: int,
    kv_length: int,
    q_offset: int = 0,
    kv_offset: int = 0,
    mask_function: Rule = masking_utils.causal_mask_function,
    attention_mask: Tensor | None = None,
    **_options: Any,
) -> Seen:
    """What `transformers` calls in place of its own mask functions; the arguments are theirs.

    Args:
        batch_size: `b`.
        q_length: queries.
        kv_length: keys.
        q_offset: what the rule calls the first query.
        kv_offset: what it calls the first key.
        mask_function: the rule.
        attention_mask: `b k`, 0 or False at padding.
    """
    # Ours counts so that the last query stands at the last key.
    aligned = int(q_offset) + q_length == int(kv_offset) + kv_length
    mask: Mask | None = Foreign(mask_function, batch_size, int(q_offset), int(kv_offset))
    if aligned:
        known = _known(mask_function)
        mask = mask if known is None else known.mask
    padding = masking_utils.prepare_padding_mask(attention_mask, kv_length, int(kv_offset))
    if padding is not None and padding.shape[1] > kv_length:  # of a cache that has let go of its oldest
        padding = padding[:, int(kv_offset) : int(kv_offset) + kv_length]
    if padding is not None and not bool(padding.all()):
        keys = Keys(padding.bool().expand(batch_size, -1))
        mask = keys if mask is None else mask & keys
    return Seen(mask)


def mask_of_tensor(table: Tensor) -> Written | None:
    """A mask that a model has written out itself, `b 1 q k`: True, or 0 among very low numbers, may attend.

    Returns:
        None where it adds other numbers to the scores: that is no mask.
    """
    if table.dtype == torch.bool:
        return Written(table)
    allowed = table == 0
    hidden = table <= torch.finfo(table.dtype).min / 2
    return Written(allowed) if bool((allowed | hidden).all()) else None


def _known(rule: Rule) -> Seen | None:
    """Our mask for one of their rules, if it is one that we know."""
    if rule is masking_utils.causal_mask_function:
        return Seen(Causal())
    if rule is masking_utils.bidirectional_mask_function:
        return Seen(None)
    name = getattr(rule, "__qualname__", "").partition(".")[0]
    inside = _inside(rule)
    if name == "sliding_window_overlay" and isinstance(inside.get("sliding_window"), int):
        return Seen(Window(max(inside["sliding_window"] - 1, 0), _FAR))
    if name == "and_masks" and isinstance(inside.get("mask_functions"), tuple):
        parts = [_known(part) for part in inside["mask_functions"]]
        return None if None in parts else Seen(_all([part.mask for part in parts if part is not None]))
    return None


_FAR = 1 << 40  # beyond every text


def _all(masks: list[Mask | None]) -> Mask | None:
    limits = [mask for mask in masks if mask is not None]
    windows = [mask for mask in limits if isinstance(mask, Window)]
    if windows and any(isinstance(mask, Causal) for mask in limits) and len(limits) == 2:
        return Window(windows[0].left, 0)
    joined = limits[0] if limits else None
    for mask in limits[1:]:
        joined = mask if joined is None else joined & mask
    return joined


def _inside(rule: Rule) -> dict[str, Any]:
    """What a function made by another one holds of it, by name."""
    code, cells = getattr(rule, "__code__", None), getattr(rule, "__closure__", None)
    return (
        {}
        if code is None or not cells
        else dict(zip(code.co_freevars, (cell.cell_contents for cell in cells), strict=True))
    )
