"""Dropout of attention weights that can be had again: what is dropped is a function of the seed and the place.

Each 64 × 64 tile of each map has a key of its own, and each weight in the tile a number: 16 bits of a hash of key and
place. Whoever computes a tile, in blocks of whatever size, in the forward pass or again in the backward pass, on a CPU
or a GPU, alone or in a packed batch, drops the same weights.
"""

from dataclasses import dataclass
from functools import cache

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from huiyan.attention.blocks import Span
from huiyan.core.config import require

TILE = 64
_LEVELS = 1 << 16  # a weight's number has 16 bits: two of them come from one hash of 32
# Tensors: a number of Python would be made one of 32 bits in every call.
_FIRST, _SECOND, _15, _16, _LOW_17, _LOW_16 = torch.tensor(
    [0x7FEB352D, 0x846CA68B - (1 << 32), 15, 16, (1 << 17) - 1, (1 << 16) - 1], dtype=torch.int32, device="cpu"
).unbind()


@dataclass(frozen=True)
class Dropout:
    """Weights are made 0 with probability ``p``, rounded to a 65,536th; the others are divided by ``keep_share``.

    Source: Srivastava et al. 2014; on the weights after the softmax, as in Vaswani et al. 2017. The hash is C. Wellons'
    ``lowbias32``.

    Args:
        p: probability, at least 0 and below 1.
        seed: any 64-bit integer; as a tensor, on the CPU, it is not read before a tile is computed.
    """

    p: float
    seed: int | Int[Tensor, ""]

    def __post_init__(self) -> None:
        require(0 <= self.p < 1, "dropout", "at least 0 and below 1", self.p)

    @property
    def keep_share(self) -> float:
        """The probability that a weight is kept, exactly."""
        return 1 - self._n_dropped_levels / _LEVELS

    @property
    def _n_dropped_levels(self) -> int:
        return min(round(self.p * _LEVELS), _LEVELS - 1)

    def keeps(
        self, sequences: Span, heads: Span, rows: Span, columns: Span, device: torch.device
    ) -> Bool[Tensor, "b h q k"]:
        """Which weights of a block are kept.

        Args:
            sequences: numbers of sequences in the batch, dense or packed.
            heads: numbers of query heads.
            rows: indices of queries in their sequence.
            columns: indices of keys.
        """
        shape = (sequences.size, heads.size, rows.size, columns.size)
        if 0 in shape:
            return torch.empty(shape, dtype=torch.bool, device=device)
        tile_rows, tile_columns = _tiles(rows), _tiles(columns)
        seed = int(self.seed)
        key = torch.full((1,) * 6, _low_32_bits(seed), dtype=torch.int32, device=device)
        key = _mix(_mix(key).bitwise_xor_(torch.tensor(_low_32_bits(seed >> 32), dtype=torch.int32, device="cpu")))
        for numbers, place in ((sequences, 0), (heads, 1), (tile_rows, 2), (tile_columns, 4)):
            broadcast = [1] * 6
            broadcast[place] = numbers.size
            own = numbers.numbers(device).to(torch.int32).view(broadcast)
            key = _mix(key + own.mul_(_SECOND))
        own_rows, own_columns = _within(rows, tile_rows), _within(columns, tile_columns)
        places = _places(device)
        # In a single tile only the numbers that are asked for; two columns share one.
        if tile_rows.size == 1:
            places, own_rows = own_rows.of(places, 0), Span(0, rows.size)
        if tile_columns.size == 1:
            pairs = Span(own_columns.start // 2, -(-own_columns.stop // 2))
            places = pairs.of(places, 1)
            own_columns = Span(own_columns.start - 2 * pairs.start, own_columns.stop - 2 * pairs.start)
        hashed = _mix(key + places[:, None])  # b h, tile and row, tile and column pair
        numbers = own_columns.of(own_rows.of(hashed.view(torch.int16).flatten(4, 5).flatten(2, 3), 2), 3)
        return numbers >= self._n_dropped_levels - _LEVELS // 2


def _tiles(indices: Span) -> Span:
    return Span(indices.start // TILE, -(-indices.stop // TILE))


def _within(indices: Span, tiles: Span) -> Span:
    """The indices counted from the beginning of their first tile."""
    return Span(indices.start - tiles.start * TILE, indices.stop - tiles.start * TILE)


def _low_32_bits(number: int) -> int:
    number &= (1 << 32) - 1
    return number - (1 << 32) if number >= 1 << 31 else number


def _mix(x: Int[Tensor, "..."]) -> Int[Tensor, "..."]:
    """A bijection of 32-bit numbers that spreads every bit over all. Changes ``x``, which must be fresh."""
    for factor, shift, mask in ((_FIRST, _15, _LOW_17), (_SECOND, _16, _LOW_16)):
        x.mul_(factor)
        # `>>` keeps the sign; the mask makes it the shift of an unsigned number.
        x.bitwise_xor_((x >> shift).bitwise_and_(mask))
    return x


@cache
def _places(device: torch.device) -> Int[Tensor, "q k"]:
    """Random numbers for the places of a tile, two neighbours sharing one; the same in every process."""
    generator = torch.Generator("cpu").manual_seed(20170612)
    numbers = torch.randint(-(1 << 31), 1 << 31, (TILE, TILE // 2), generator=generator, device="cpu")
    return numbers.to(device=device, dtype=torch.int32)
