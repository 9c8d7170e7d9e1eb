"""Masks for keys of which some are gone: what a rule on positions says once a cache has let go of a stretch of keys."""

import torch
from torch import Tensor

from huiyan.attention.masks import Both, Either, Global, Keys, Mask, Not, Prefix, Segments, Where, Window


def without_gap(mask: Mask, *, start: int, size: int) -> Mask:  # noqa: PLR0911 - one line a mask
    """The same rule for keys without those at positions ``start`` … ``start + size − 1``.

    What remains is counted through: a token at position p beyond the gap, query or key, stands at p − size.

    Args:
        mask: for all keys.
        start: keys before the gap.
        size: keys in the gap. The queries stand beyond it.
    """

    def moved(inner: Mask) -> Mask:
        return without_gap(inner, start=start, size=size)

    match mask:
        case Both(left, right):
            return Both(moved(left), moved(right))
        case Either(left, right):
            return Either(moved(left), moved(right))
        case Not(inner):
            return Not(moved(inner))
        case Window(left, right) if start:
            # Keys beyond the gap are as far as they were; those before it are nearer than they were.
            near = mask & ~Prefix(start)
            return near if left < size else near | (Window(left - size, right) & Prefix(start))
        case Prefix(n):
            return Prefix(min(n, start) + max(0, n - start - size))
        case Global(positions):
            kept = [p if p < start else p - size for p in positions if p < start or p >= start + size]
            return Global(kept) if kept else Prefix(0)
        case Keys(keys):
            return Keys(_cut(keys, start, size))
        case Segments():
            queries, keys = mask.ids()
            return Segments(queries, _cut(keys, start, size))
        case Where(rule):
            return Where(lambda row, column: rule(row + size, torch.where(column < start, column, column + size)))
        case _:  # Causal, and Window where the first keys are gone: they know distances alone
            return mask


def _cut(x: Tensor, start: int, size: int) -> Tensor:
    before, after = x.narrow(-1, 0, start), x.narrow(-1, start + size, x.shape[-1] - start - size)
    return torch.cat((before, after), dim=-1) if start else after
