"""Keys and values of the tokens so far, so that a further token costs one row of the map and not the whole of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from huiyan.attention.blocks import Block, Sees
from huiyan.attention.masks import Keys, Mask, Prefix, Window
from huiyan.attention.positions.rotary import Rotary
from huiyan.attention.shapes import check_is_mask
from huiyan.attention.sliding import without_gap
from huiyan.core.config import require
from huiyan.core.errors import ConfigError, ShapeError
from huiyan.core.packed import packed_positions


class KeysValues(NamedTuple):
    """Keys and values, `b g k d` each."""

    keys: Float[Tensor, "b g k d"]
    values: Float[Tensor, "b g k d"]


class KeyValueCache:
    """The keys and values of one attention layer, for a dense batch that grows token by token.

    ``attention(x, mask=Causal(), cache=cache)`` appends the tokens of ``x`` and lets them attend to all that the cache
    holds. Position p is the p-th token appended, whatever has been let go of since.

    With ``max_length`` a token sees ``max_length`` keys, itself included: the first ``n_sinks``, and the newest ones.
    That is the map of ``Window(max_length − n_sinks − 1, 0) | Prefix(n_sinks)``, and the cache forgets what nobody
    will see any more. Source: Xiao et al. 2024 (StreamingLLM), section 3.2. Differs: positions are those in the text,
    theirs are those in the cache.

    Sequences of different lengths begin packed, with ``append_packed``: each then ends at the newest row, and what
    stands before its first token is seen by nobody. No token is computed for that.

    It is for inference, and writes in place. A gradient through it would need every earlier state of what it has
    overwritten, so it refuses tensors that ask for one, rather than copying all it holds at each token.

    Args:
        max_length: keys that a token may see; None is all.
        n_sinks: the first tokens are kept when others leave, and count in ``max_length``.
        spare: keys held beyond those, so that ``roll_back`` may take as many tokens back (one more, in fact).
        dtype: of what is held; None is that of the first keys.
    Raises:
        ConfigError: numbers below 0, ``max_length`` not above ``n_sinks``, or ``n_sinks`` or ``spare`` without it.
    """

    def __init__(
        self,
        *,
        max_length: int | None = None,
        n_sinks: int = 0,
        spare: int = 0,
        dtype: torch.dtype | None = None,
    ) -> None:
        for name, value in (("n_sinks", n_sinks), ("spare", spare)):
            fits = value >= 0 if max_length is not None else value == 0
            require(fits, name, "at least 0, and 0 without max_length", value)
        long_enough = max_length is None or max_length > n_sinks
        require(long_enough, "max_length", f"above n_sinks, {n_sinks}, or None", max_length)
        self.max_length, self.n_sinks, self.spare, self.dtype = max_length, n_sinks, spare, dtype
        self._buffers: KeysValues | None = None
        self.reset()

    def reset(self) -> None:
        """Forget all tokens. The memory is kept for the next batch of the same shape."""
        self.next_position = 0  # of the next token appended, in the longest sequence
        self.starts: Int[Tensor, " b"] | None = None  # the row of each sequence's first token; None: all in row 0
        self._hidden: Keys | None = None
        # The buffers hold the sinks from row 0 on; and from row `_start` on the tokens from position `_oldest` on.
        self._oldest = self._start = self.n_sinks

    @property
    def length(self) -> int:
        """Keys held: at most ``max_length`` + ``spare``."""
        return self.next_position - (self._oldest - self.n_sinks)

    @property
    def memory_bytes(self) -> int:
        """Of the buffers, the part that is still free included."""
        return sum(buffer.nbytes for buffer in self._buffers or ())

    def append(self, k: Float[Tensor, "b g n d"], v: Float[Tensor, "b g n d"]) -> KeysValues:
        """Take in the keys and values of `n` further tokens, in O(n) on average.

        Returns:
            All keys and values that some of the `n` tokens may see, `b g k d`, their own last. They are views, good
            until tokens are appended or taken back. ``mask`` tells which token may see which.
        Raises:
            ShapeError: another batch, heads, width, dtype or device than before.
            ConfigError: a gradient is wanted.
        """
        self._check(k, v)
        n = k.shape[2]
        lowest = self._lowest_seen(n)
        self._make_room(k, n)
        end = self._start + self.next_position - self._oldest
        for buffer, new in zip(self._written(), (k, v), strict=True):
            buffer.narrow(2, end, n).copy_(new)
        self.next_position += n
        seen = self._from(lowest)
        self._let_go()
        return seen

    def append_packed(self, k: Float[Tensor, "t g d"], v: Float[Tensor, "t g d"], lengths: Int[Tensor, " b"]) -> None:
        """Take in the keys and values of packed sequences, as the first that it holds.

        Raises:
            ShapeError: lengths that do not add up to the tokens.
            ConfigError: it holds tokens; a gradient is wanted; or sequences of different lengths for a cache that
                forgets.
        """
        n = int(lengths.max()) if len(lengths) else 0
        if self.length:
            raise ConfigError("Packed sequences begin a cache. Got them for one that holds tokens.", hint="reset() it.")
        if bool((lengths == n).all()):
            self.append(*(x.unflatten(0, (-1, n)).transpose(1, 2) for x in (k, v)))
            return
        if self.max_length is not None:
            raise ConfigError(
                "A cache with max_length takes sequences of one length. Got several.",
                hint="Use one cache a sequence, or KeyValueCache().",
            )
        starts = n - lengths
        firsts = torch.arange(len(lengths)) * n + starts
        rows = packed_positions(lengths, len(k)) + firsts.repeat_interleave(lengths, output_size=len(k))
        rows = rows.to(k.device, non_blocking=True)
        laid = (x.new_zeros(len(lengths) * n, *x.shape[1:]).index_copy(0, rows, x) for x in (k, v))
        self.append(*(x.unflatten(0, (-1, n)).transpose(1, 2) for x in laid))
        self.starts = starts.to(k.device, non_blocking=True)

    def visible(self, n_new: int = 0) -> Keys | None:
        """Which of the rows held, and of `n_new` about to be appended, are tokens; None where all are."""
        if self.starts is None:
            return None
        total = self.next_position + n_new
        if self._hidden is None or self._hidden.keys.shape[1] != total:
            self._hidden = Keys(torch.arange(total, device=self.starts.device) >= self.starts[:, None])
        return self._hidden

    def read(self, shape: tuple[int, ...]) -> KeysValues:
        """All that is held, for a context of this shape, `b k`, whose keys and values were appended before.

        Raises:
            ShapeError: the cache holds another batch or another number of keys, so another context.
        """
        held = self._from(self._oldest)
        own = (held.keys.shape[0], held.keys.shape[2])
        if own != tuple(shape[:2]):
            raise ShapeError(
                f"This cache holds the keys of a context `b k` of {own}. Got a context of {tuple(shape[:2])}.",
                hint="Call reset() before another context.",
            )
        return held

    def mask(self, mask: Mask | None, n_new: int) -> Mask | None:
        """The mask for `n_new` tokens that are about to be appended, over what ``append`` will give.

        Args:
            mask: in terms of all tokens appended so far and now; a ``Keys`` mask is `b k` for as many.
            n_new: tokens about to be appended.
        Returns:
            None where they may see all of it.
        Raises:
            ShapeError: a ``Keys`` mask for another number of tokens.
            ConfigError: no mask at all.
        """
        check_is_mask(mask)
        hidden = self.visible(n_new)
        total = self.next_position + n_new
        for part in mask.parts() if mask else ():
            if isinstance(part, Keys) and part.keys.shape[1] != total:
                raise ShapeError(
                    f"A Keys mask beside a cache must be `b k` for all tokens so far, here k = {total}. "
                    f"Got {tuple(part.keys.shape)}."
                )
        gap = self._lowest_seen(n_new) - self.n_sinks
        if self.max_length is not None and n_new > 1 and total > self.max_length:
            newest: Mask = Window(self.max_length - self.n_sinks - 1, n_new - 1)
            newest = newest | Prefix(self.n_sinks) if self.n_sinks else newest
            mask = newest if mask is None else mask & newest
        if hidden is not None:
            limits = mask is not None and mask.sees(Block.whole(n_new, total)) is not Sees.ALL
            mask = mask & hidden if mask is not None and limits else hidden
        if mask is None or not n_new:
            return mask
        mask = without_gap(mask, start=self.n_sinks, size=gap) if gap else mask
        return None if mask.sees(Block.whole(n_new, total - gap)) is Sees.ALL else mask

    def rotate(
        self, rotary: Rotary, q: Float[Tensor, "b h n d"], k: Float[Tensor, "b g n d"]
    ) -> tuple[Float[Tensor, "b h n d"], Float[Tensor, "b g n d"]]:
        """Queries and keys of `n` tokens about to be appended, turned by their positions."""
        positions = torch.arange(self.next_position, self.next_position + k.shape[2], device=k.device)
        if self.starts is not None:
            positions = positions - self.starts[:, None]
        # Both at once: a step has so few rows that each operation costs what it takes to start it.
        both = torch.cat((q, k), dim=1).transpose(1, 2)
        turned = rotary.rotate(both, positions).transpose(1, 2)
        return turned[:, : q.shape[1]], turned[:, q.shape[1] :]

    def roll_back(self, n: int) -> None:
        """Take back the last ``n`` tokens, as speculative decoding does with those that were guessed wrong.

        Source: Leviathan et al. 2023.

        Raises:
            ConfigError: there are not as many, or the next token would see keys that the cache has let go of.
        """
        held = self.next_position
        if self.max_length is not None and self._oldest > self.n_sinks:
            # As many as leave the next token all the keys that it may see.
            held -= self._oldest + self.max_length - self.n_sinks - 1
        if self.starts is not None:
            held = min(held, self.next_position - int(self.starts.max()))
        if not 0 <= n <= held:
            raise ConfigError(
                f"From 0 to {held} tokens can be taken back here. Got {n}.",
                hint="" if held == self.next_position else f"KeyValueCache(spare={n}) keeps enough for that.",
            )
        self.next_position -= n

    @contextmanager
    def kept_on_error(self) -> Iterator[None]:
        """A `with` block that fails leaves the cache as it was: tokens are written behind what is held, not over it."""
        before = self._buffers, self.next_position, self._oldest, self._start, self.starts
        try:
            yield
        except BaseException:
            self._buffers, self.next_position, self._oldest, self._start, self.starts = before
            raise

    def select(self, indices: Int[Tensor, " n"]) -> None:
        """Make the batch these of its sequences, in this order; one may come more than once, as in beam search.

        Raises:
            ShapeError: not int64 numbers, `n`, of sequences in the batch.
        """
        if self._buffers is None:
            raise ShapeError("An empty cache has no sequences to select from.", hint="Append tokens first.")
        n = self._buffers.keys.shape[0]
        whole = indices.dim() == 1 and indices.dtype == torch.int64
        if not whole or bool(((indices < 0) | (indices >= n)).any()):
            raise ShapeError(
                f"Sequences are selected by int64 numbers, from 0 to {n - 1}. "
                f"Got {indices.tolist() if whole else (indices.dtype, tuple(indices.shape))}."
            )
        with torch.inference_mode(mode=False), torch.no_grad():
            chosen = indices.to(self._buffers.keys.device)
            empty = 0  # rows in front that no sequence has any more
            if self.starts is not None:
                starts = self.starts[chosen]
                empty = int(starts.min()) if len(starts) else 0
                self.starts = starts - empty if bool((starts > empty).any()) else None
                self.next_position -= empty
                self._hidden = None
            kept = (x.narrow(2, empty, x.shape[2] - empty) for x in self._buffers)
            self._buffers = KeysValues(*(x.index_select(0, chosen) for x in kept))

    def _lowest_seen(self, n_new: int) -> int:
        """The lowest position that `n_new` tokens about to be appended may see, sinks aside."""
        if self.max_length is None:
            return self._oldest
        return max(self._oldest, self.next_position + 1 - (self.max_length - self.n_sinks)) if n_new else self._oldest

    def _from(self, position: int) -> KeysValues:
        """The sinks, and all from this position on."""
        end = self._start + self.next_position - self._oldest
        if position == self.n_sinks:
            return KeysValues(*(x.narrow(2, 0, end) for x in self._written()))
        first = self._start + position - self._oldest
        newest = KeysValues(*(x.narrow(2, first, end - first) for x in self._written()))
        if not self.n_sinks:
            return newest
        sinks = (x.narrow(2, 0, self.n_sinks) for x in self._written())
        return KeysValues(*(torch.cat(both, dim=2) for both in zip(sinks, newest, strict=True)))

    def _written(self) -> KeysValues:
        if self._buffers is None:
            raise ShapeError("The cache is empty.", hint="Append keys and values first.")
        return self._buffers

    def _make_room(self, like: Tensor, n: int) -> None:
        """Room for `n` tokens behind the newest: twice as much as before, or, where old ones leave, as much again."""
        capacity = 0 if self._buffers is None else self._buffers.keys.shape[2]
        if self._buffers is None or self._start + self.next_position - self._oldest + n > capacity:
            doubled = 2 * capacity if self.max_length is None else min(2 * capacity, self._largest_capacity)
            self._move(like, max(self.length + n, doubled))

    def _let_go(self) -> None:
        """Forget what no token to come may see, but for ``spare`` keys."""
        if self.max_length is None:
            return
        oldest = max(self._oldest, self.next_position - (self.max_length - self.n_sinks) - self.spare)
        self._start, self._oldest = self._start + oldest - self._oldest, oldest
        keys = self._written().keys
        if keys.shape[2] > self._largest_capacity:  # many tokens at once, such as a long prompt
            self._move(keys, self._largest_capacity)

    @property
    def _largest_capacity(self) -> int:
        """Of a sliding cache: what it holds, once more, so that what stays is seldom moved."""
        return 2 * ((self.max_length or 0) + self.spare)

    def _move(self, like: Tensor, capacity: int) -> None:
        """What is held, to the front of new buffers."""
        shape = (*like.shape[:2], capacity, like.shape[3])
        # Ordinary tensors even under `inference_mode`: those made there could not be written to outside it.
        with torch.inference_mode(mode=False), torch.no_grad():
            dtype = self.dtype or like.dtype
            moved = KeysValues(*(torch.empty(shape, dtype=dtype, device=like.device) for _ in range(2)))
        if self._buffers is not None:
            for old, new in zip(self._from(self._oldest), moved, strict=True):
                new.narrow(2, 0, self.length).copy_(old)
        self._buffers, self._start = moved, self.n_sinks

    def _check(self, k: Tensor, v: Tensor) -> None:
        if k.dim() != 4 or k.shape != v.shape or k.dtype != v.dtype or k.device != v.device:
            raise ShapeError(
                "A cache takes keys and values of one shape `b g n d`, one dtype and one device. "
                f"Got {k.dtype} {tuple(k.shape)} on {k.device}, and {v.dtype} {tuple(v.shape)} on {v.device}."
            )
        if torch.is_grad_enabled() and (k.requires_grad or v.requires_grad):
            raise ConfigError(
                "A KeyValueCache is written in place, which no gradient can pass. Got tensors that require one.",
                hint="Decode under torch.no_grad() or torch.inference_mode(), and train without a cache.",
            )
        if self._buffers is None:
            return
        held = self._buffers.keys
        have = (held.shape[0], held.shape[1], held.shape[3], held.dtype, str(held.device))
        got = (k.shape[0], k.shape[1], k.shape[3], self.dtype or k.dtype, str(k.device))
        if have == got:
            return
        if self.next_position:
            raise ShapeError(
                f"This cache holds `b g d` of {have[:3]}, {have[3]} on {have[4]}. Got {got[:3]}, {got[3]} on {got[4]}.",
                hint="Call reset() before another batch.",
            )
        self._buffers = None
