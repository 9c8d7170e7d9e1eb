"""Masks: which keys a query may attend to. True means *may attend*, everywhere.

A mask is a small value, a rule on positions. Key j stands at position j; query i at position i + (k − q), so that the
last query stands at the last key (the corner is at the bottom right, which decoding with a cache needs). A mask answers
for any block of rows and columns: with the rule as a tensor, or with one word (all, none, mixed), so that a kernel can
skip a block, or the mask, without computing either.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from huiyan.attention.blocks import Block, Sees
from huiyan.core.config import require
from huiyan.core.errors import ShapeError


class Mask(ABC):
    """A rule for pairs of query and key. Combine rules with ``&`` (both allow), ``|`` (either does) and ``~`` (not)."""

    def __and__(self, other: "Mask") -> "Mask":
        """The pairs that both masks allow."""
        return Both(self, other)

    def __or__(self, other: "Mask") -> "Mask":
        """The pairs that at least one of the masks allows."""
        return Either(self, other)

    def __invert__(self) -> "Mask":
        """The pairs that this mask does not allow."""
        return Not(self)

    @abstractmethod
    def allowed(self, block: Block, device: torch.device) -> Bool[Tensor, "#b 1 #q #k"]:
        """The rule for a block, as a tensor that broadcasts to `b h q k`."""

    @abstractmethod
    def sees(self, block: Block) -> Sees:
        """How much of a block, which is not empty, is allowed: told without waiting for an accelerator."""

    def parts(self) -> "tuple[Mask, ...]":
        """The simple masks this one is made of."""
        return (self,)

    def has(self, *kinds: "type[Mask]") -> bool:
        """Whether a simple mask of one of these kinds is among them."""
        return any(isinstance(part, kinds) for part in self.parts())


@dataclass(frozen=True)
class Causal(Mask):
    """A query sees its own position and what came before: j ≤ i + (k − q).

    With more queries than keys the first ones see nothing, and give 0. (`torch`'s own ``is_causal`` has its corner at
    the top left.)
    """

    def allowed(self, block: Block, device: torch.device) -> Bool[Tensor, "1 1 q k"]:
        """Key position at most query position."""
        rows, columns = block.grid(device)
        return (columns <= rows)[None, None]

    def sees(self, block: Block) -> Sees:
        """ALL left of the diagonal, NONE right of it."""
        return _by_interval(block, None, 0)


@dataclass(frozen=True)
class Window(Mask):
    """A query sees keys near its own position: i − left ≤ j ≤ i + right, i being the query's position.

    Args:
        left: how many positions back; 0 is none.
        right: how many positions ahead; 0 makes the window causal.
    """

    left: int
    right: int

    def __post_init__(self) -> None:
        for name in ("left", "right"):
            require(getattr(self, name) >= 0, name, "at least 0", getattr(self, name))

    def allowed(self, block: Block, device: torch.device) -> Bool[Tensor, "1 1 q k"]:
        """Within the band."""
        rows, columns = block.grid(device)
        offsets = columns - rows
        return ((offsets >= -self.left) & (offsets <= self.right))[None, None]

    def sees(self, block: Block) -> Sees:
        """ALL within the band, NONE off it."""
        return _by_interval(block, -self.left, self.right)


@dataclass(frozen=True)
class Prefix(Mask):
    """Every query sees the first ``n`` keys; ``Causal() | Prefix(n)`` is the mask of a prefix language model.

    Source: Raffel et al. 2020, section 3.2.1.
    """

    n: int

    def __post_init__(self) -> None:
        require(self.n >= 0, "n", "at least 0", self.n)

    def allowed(self, block: Block, device: torch.device) -> Bool[Tensor, "1 1 1 k"]:
        """Key position below ``n``."""
        return (block.grid(device)[1] < self.n)[None, None, None]

    def sees(self, block: Block) -> Sees:
        """ALL left of column ``n``, NONE from there."""
        return _all_or_none(all_=block.columns.stop <= self.n, none=block.columns.start >= self.n)


@dataclass(frozen=True, eq=False)
class Segments(Mask):
    """A query sees the keys of its own segment: documents laid end to end in one dense row.

    Args:
        queries: `b q` or `q`, int64: the segment each query belongs to.
        keys: `b k` or `k`; None is as the queries.
    """

    queries: Int[Tensor, "#b q"] | Int[Tensor, " q"]
    keys: Int[Tensor, "#b k"] | Int[Tensor, " k"] | None = None

    def __post_init__(self) -> None:
        for ids in (self.queries, self.queries if self.keys is None else self.keys):
            if ids.dtype != torch.int64 or ids.dim() not in (1, 2):
                raise ShapeError(
                    "Segments takes the segment of each token, int64, `l` or `b l`. "
                    f"Got {ids.dtype} of shape {tuple(ids.shape)} instead."
                )

    def allowed(self, block: Block, device: torch.device) -> Bool[Tensor, "#b 1 q k"]:
        """Equal segments."""
        queries, keys = (_batched(ids) for ids in self.ids())
        own, others = block.rows.of(queries, 1).to(device), block.columns.of(keys, 1).to(device)
        return own[:, None, :, None] == others[:, None, None]

    def sees(self, block: Block) -> Sees:
        """NONE where the segments of rows and columns are disjoint intervals, ALL where they are one segment."""
        queries, keys = (_batched(ids) for ids in self.ids())
        if queries.device.type != "cpu":
            return Sees.MIXED
        own, others = block.rows.of(queries, 1), block.columns.of(keys, 1)
        lows, highs = own.amin(1), own.amax(1)
        other_lows, other_highs = others.amin(1), others.amax(1)
        one = (lows == highs) & (other_lows == other_highs) & (lows == other_lows)
        apart = (highs < other_lows) | (other_highs < lows)
        return _all_or_none(all_=bool(one.all()), none=bool(apart.all()))

    def ids(self) -> tuple[Tensor, Tensor]:
        """Segments of queries and of keys."""
        return self.queries, self.queries if self.keys is None else self.keys


@dataclass(frozen=True)
class Global(Mask):
    """The tokens at some positions see every key, and are seen by every query.

    ``Window(256, 256) | Global([0])`` lets a first token gather and spread what the windows see.

    Source: Beltagy et al. 2020, section 3.1.

    Args:
        positions: positions of the global tokens, each at least 0.
    """

    positions: tuple[int, ...]

    def __init__(self, positions: Sequence[int] | int) -> None:
        given = [positions] if isinstance(positions, int) else positions
        unique = tuple(sorted({int(position) for position in given}))
        require(bool(unique) and unique[0] >= 0, "positions", "positions of tokens, each at least 0", positions)
        object.__setattr__(self, "positions", unique)

    def allowed(self, block: Block, device: torch.device) -> Bool[Tensor, "1 1 q k"]:
        """A global row, or a global column."""
        rows, columns = block.grid(device)
        chosen = torch.tensor(self.positions, device=device)
        return (torch.isin(rows, chosen) | torch.isin(columns, chosen))[None, None]

    def sees(self, block: Block) -> Sees:
        """NONE where no global token stands."""
        rows, columns = (
            sum(span.start <= position < span.stop for position in self.positions)
            for span in (block.positions, block.columns)
        )
        everything = rows == block.rows.size or columns == block.columns.size
        return _all_or_none(all_=everything, none=not rows and not columns)


@dataclass(frozen=True, eq=False)
class Keys(Mask):
    """Every query of a sequence sees the same keys: the mask of a padded batch.

    Args:
        keys: `b k`, bool; False hides the key (padding).
    """

    keys: Bool[Tensor, "b k"]

    def __post_init__(self) -> None:
        if self.keys.dtype != torch.bool or self.keys.dim() != 2:
            raise ShapeError(
                "Keys takes a boolean tensor `b k` in which True lets attend. "
                f"Got {self.keys.dtype} of shape {tuple(self.keys.shape)} instead."
            )

    def allowed(self, block: Block, device: torch.device) -> Bool[Tensor, "b 1 1 k"]:
        """The same row for every query."""
        return block.columns.of(self.keys, 1).to(device)[:, None, None]

    def sees(self, block: Block) -> Sees:
        """From the keys of the block, where they are on the CPU: an accelerator is not waited for."""
        if self.keys.device.type != "cpu":
            return Sees.MIXED
        own = block.columns.of(self.keys, 1)
        return _all_or_none(all_=bool(own.all()), none=not bool(own.any()))


@dataclass(frozen=True)
class Where(Mask):
    """Any rule: ``Where(lambda row, column: (row + column) % 2 == 0)``.

    Args:
        rule: takes positions of queries, `q 1`, and of keys, `k`, as int64 tensors; gives a boolean tensor that
            broadcasts to `q k`.
    """

    rule: Callable[[Tensor, Tensor], Tensor]

    def allowed(self, block: Block, device: torch.device) -> Bool[Tensor, "1 1 q k"]:
        """What the rule says.

        Raises:
            ShapeError: it gave something else than booleans for `q k`.
        """
        rows, columns = block.grid(device)
        said = self.rule(rows, columns)
        if said.dtype != torch.bool or said.dim() > 2:
            raise ShapeError(
                "The rule of Where must give a boolean tensor `q k`. "
                f"Got {said.dtype} of shape {tuple(said.shape)} instead."
            )
        return said.expand(block.rows.size, block.columns.size)[None, None]

    def sees(self, block: Block) -> Sees:
        """MIXED: only looking would tell."""
        return Sees.MIXED


@dataclass(frozen=True)
class Both(Mask):
    """What two masks both allow: ``left & right``."""

    left: Mask
    right: Mask

    def allowed(self, block: Block, device: torch.device) -> Bool[Tensor, "#b 1 #q #k"]:
        """Both."""
        return self.left.allowed(block, device) & self.right.allowed(block, device)

    def sees(self, block: Block) -> Sees:
        """NONE where either sees none; ALL where both see all."""
        two = {self.left.sees(block), self.right.sees(block)}
        return _all_or_none(all_=two == {Sees.ALL}, none=Sees.NONE in two)

    def parts(self) -> tuple[Mask, ...]:
        """The parts of both."""
        return (*self.left.parts(), *self.right.parts())


@dataclass(frozen=True)
class Either(Mask):
    """What at least one of two masks allows: ``left | right``."""

    left: Mask
    right: Mask

    def allowed(self, block: Block, device: torch.device) -> Bool[Tensor, "#b 1 #q #k"]:
        """Either."""
        return self.left.allowed(block, device) | self.right.allowed(block, device)

    def sees(self, block: Block) -> Sees:
        """ALL where either sees all; NONE where both see none."""
        two = {self.left.sees(block), self.right.sees(block)}
        return _all_or_none(all_=Sees.ALL in two, none=two == {Sees.NONE})

    def parts(self) -> tuple[Mask, ...]:
        """The parts of both."""
        return (*self.left.parts(), *self.right.parts())


@dataclass(frozen=True)
class Not(Mask):
    """What a mask does not allow: ``~inner``."""

    inner: Mask

    def allowed(self, block: Block, device: torch.device) -> Bool[Tensor, "#b 1 #q #k"]:
        """The opposite."""
        return ~self.inner.allowed(block, device)

    def sees(self, block: Block) -> Sees:
        """The opposite."""
        opposite = {Sees.ALL: Sees.NONE, Sees.NONE: Sees.ALL, Sees.MIXED: Sees.MIXED}
        return opposite[self.inner.sees(block)]

    def parts(self) -> tuple[Mask, ...]:
        """The parts of what is turned around."""
        return self.inner.parts()


@dataclass(frozen=True)
class OfSequence(Mask):
    """What a mask of a batch says of one sequence of it.

    Args:
        inner: the mask of the batch.
        number: which sequence.
    """

    inner: Mask
    number: int

    def allowed(self, block: Block, device: torch.device) -> Bool[Tensor, "1 1 #q #k"]:
        """The rule for this sequence."""
        every = self.inner.allowed(block, device)
        return every if every.shape[0] == 1 else every.narrow(0, self.number, 1)

    def sees(self, block: Block) -> Sees:
        """What holds for the whole batch; MIXED where sequences differ."""
        return self.inner.sees(block)

    def parts(self) -> tuple[Mask, ...]:
        """The parts of what it is taken from."""
        return self.inner.parts()


def _all_or_none(*, all_: bool, none: bool) -> Sees:
    return Sees.NONE if none else Sees.ALL if all_ else Sees.MIXED


def _by_interval(block: Block, lowest: int | None, highest: int) -> Sees:
    """What a rule lowest ≤ j − i ≤ highest, i and j positions, says of a block."""
    rows, columns = block.positions, block.columns
    least, most = columns.start - (rows.stop - 1), columns.stop - 1 - rows.start
    inside = most <= highest and (lowest is None or least >= lowest)
    outside = least > highest or (lowest is not None and most < lowest)
    return _all_or_none(all_=inside, none=outside)


def _batched(ids: Tensor) -> Tensor:
    return ids if ids.dim() == 2 else ids[None]
