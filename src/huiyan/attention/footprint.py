"""The memory that an attention takes, counted from what its kernels allocate; nothing is allocated to find out.

Memory is counted as it is touched: a row of zeros or an empty tensor costs nothing before something is written to it,
which is how a CPU's pages behave. A GPU counts it when it is allocated, a little earlier.
"""

from dataclasses import dataclass
from typing import NamedTuple

from huiyan.attention.kernels.blockwise import Blocks, blocks_for, computed_at_once
from huiyan.attention.kernels.sdpa import SHORT
from huiyan.attention.masks import Keys, Mask, Prefix, Segments, Where
from huiyan.attention.scoring import Scoring


@dataclass(frozen=True, kw_only=True)
class Call:
    """A self-attention, as far as its memory depends on it.

    Args:
        runs: number of sequences and their length, for neighbours of equal length; a dense batch is one run.
        n_heads: `h`.
        n_kv_heads: `g`.
        head_width: `d`.
        scoring: the variants; tables may be on the meta device.
        kernel: what ``decide`` says.
        number_bytes: of a number of the queries: 4, or 2 in half precision.
        training: whether a backward pass follows.
        device: its type, such as "cpu".
        rotates: whether queries and keys are turned first (``Rotary``).
        moves_queries: whether a bias is added to the queries first (Transformer-XL).
        table_bytes: of the position tables that are made in the call.
    """

    runs: tuple[tuple[int, int], ...]
    n_heads: int
    n_kv_heads: int
    head_width: int
    scoring: Scoring
    kernel: str
    number_bytes: int
    training: bool
    device: str
    rotates: bool = False
    moves_queries: bool = False
    table_bytes: int = 0

    @property
    def computed_bytes(self) -> int:
        """Of a number while it is computed with."""
        return max(4, self.number_bytes)

    @property
    def is_half(self) -> bool:
        """Whether numbers are given in half precision, and computed in float32."""
        return self.number_bytes < 4

    def sizes(self, n_sequences: int, length: int) -> "Sizes":
        """Of a dense batch of these heads."""
        rows = n_sequences * length
        q, kv = (rows * n * self.head_width for n in (self.n_heads, self.n_kv_heads))
        return Sizes(q, kv, rows * self.n_heads)

    @property
    def whole(self) -> "Sizes":
        """Of all runs together."""
        every = [self.sizes(*run) for run in self.runs]
        return Sizes(*(sum(column) for column in zip(*every, strict=True)))


class Sizes(NamedTuple):
    """How many numbers: of the queries, of the keys, and rows of the map."""

    q: int
    kv: int
    rows: int

    @property
    def inputs(self) -> int:
        """Of queries, keys and values, or of their gradients."""
        return self.q + 2 * self.kv


class Footprint(NamedTuple):
    """Bytes at the peak of the forward pass, kept until the backward pass (with the output), and at its peak."""

    forward: int
    kept: int
    backward: int

    @property
    def peak(self) -> int:
        """Of both passes."""
        return max(self.forward, self.backward)


def footprint(call: Call) -> Footprint:
    """What the call allocates beyond q, k, v and the gradient of the output that is given to the backward pass."""
    if call.kernel == "packed":
        found = _packed(call) if call.device == "cpu" else _padded(call)
    elif call.kernel == "blockwise":
        found = _blockwise(call)
    elif call.kernel == "sdpa":
        found = _sdpa(call)
    else:
        found = _flex(call)
    found = _with_tables(found, call)
    return found if call.training else Footprint(found.forward, found.kept, 0)


def seen_block(call: Call, length: int) -> Blocks:
    """The block of the blockwise kernel, no larger than the map."""
    size = blocks_for(length, length, call.scoring)
    return Blocks(min(size.rows, length), min(size.columns, length))


def is_fused(scoring: Scoring) -> bool:
    """Whether torch's fused kernel takes these square maps, of as many keys as queries."""
    return scoring.is_fused(1, 1)


def _sdpa(call: Call) -> Footprint:
    """``kernels/sdpa.py``: on the CPU in half precision the training pass over few keys is that of float32."""
    x, given = call.sizes(*call.runs[0]), call.number_bytes
    widened = call.is_half and call.training and call.device == "cpu" and call.runs[0][1] <= SHORT
    size = 4 if widened else given
    copies = x.inputs * 4 if widened else 0
    lse = x.rows * 4
    masked = not is_fused(call.scoring)
    pairs = _mask_numbers(call.scoring.mask, *call.runs[0]) if masked else 0
    # What may attend, the same with blind rows, and what is added to the scores.
    making = pairs * (2 + size)
    outs = x.q * size * (2 if masked else 1) + (x.q * given if widened else 0)
    kept = copies + lse + pairs * size + x.q * (size + given if widened else size * (2 if masked else 1))
    # The gradient that comes in is laid out anew for the kernel, and passes the mask or the cast before.
    d_out = x.q * size * (2 if masked or widened else 1)
    return Footprint(copies + lse + making + outs, kept, kept + d_out + x.inputs * size)


def _blockwise(call: Call) -> Footprint:
    x, size = call.sizes(*call.runs[0]), call.number_bytes
    forward = _blockwise_forward(call, call.runs[0], copied=call.is_half)
    kept = x.q * size + x.rows * 4
    backward = kept + _blockwise_backward(call, call.runs[0], copied=call.is_half)
    return Footprint(x.q * size + forward, kept, backward)


def _packed(call: Call) -> Footprint:
    """``kernels/packed.py`` on a CPU, run by run; the whole output and gradients are touched as runs are done."""
    mask, size = call.scoring.mask, call.number_bytes
    by_autograd = mask is not None and mask.has(Where)
    whole = call.whole
    lse = whole.rows * 4
    kept = whole.q * size * (2 if by_autograd else 1) + lse
    done = done_back = held = held_back = forward = backward = 0  # held: what the run before gave, until the next gives
    for run in call.runs:
        x = call.sizes(*run)
        copied = call.is_half or (call.n_heads > 1 and run[1] > 1)
        widened = call.is_half and run[1] <= SHORT
        within, within_back = 0, x.q * 4 * 2 + (x.inputs * 4) if widened else 0
        gradients = x.inputs * (call.computed_bytes if is_fused(call.scoring) and widened else size)
        if not is_fused(call.scoring):
            within = _blockwise_forward(call, run, copied=copied)
            within_back = _blockwise_backward(call, run, copied=copied) - gradients
            if by_autograd and copied and not call.is_half:
                within_back -= x.q * size  # the output is the kernel's own, and laid out as it wants it
        own = x.q * size
        forward = max(forward, done + own + max(held + within, own))
        backward = max(backward, done_back + gradients + max(held_back + within_back, x.inputs * size))
        done, done_back = done + own, done_back + x.inputs * size
        held, held_back = (0, 0) if by_autograd else (own, gradients)
    if by_autograd:  # all runs are there, and then joined
        forward, backward = max(forward, 2 * whole.q * size), max(backward, 2 * whole.inputs * size)
    return Footprint(forward + lse, kept, kept + backward)


def _padded(call: Call) -> Footprint:
    """``kernels/padded.py``, on an accelerator: the batch padded to its longest sequence."""
    n_sequences, longest = sum(n for n, _ in call.runs), max(length for _, length in call.runs)
    x, padded, size = call.whole, call.sizes(n_sequences, longest), call.number_bytes
    if call.scoring.is_plain:
        within = padded.q * size * 2 + padded.rows * 4
        within_back = within + padded.q * size + padded.inputs * size
    else:
        whole_run = (n_sequences, longest)
        within = padded.q * size + _blockwise_forward(call, whole_run, copied=True)
        within_back = padded.q * size + padded.rows * 4 + _blockwise_backward(call, whole_run, copied=True)
    kept = x.q * size + x.rows * 4
    return Footprint(
        kept + padded.inputs * size + within, kept, kept + padded.inputs * size + within_back + x.inputs * size
    )


def _flex(call: Call) -> Footprint:
    x, size = call.sizes(*call.runs[0]), call.number_bytes
    kept = x.q * size + x.rows * 4
    return Footprint(kept, kept, kept + x.rows * 4 + x.inputs * size)


def _blockwise_forward(call: Call, run: tuple[int, int], *, copied: bool) -> int:
    """``blockwise.forward`` without its output."""
    x = call.sizes(*run)
    return (x.inputs * call.computed_bytes if copied else 0) + x.rows * 4 + _tile_bytes(call, run, backward=False)


def _blockwise_backward(call: Call, run: tuple[int, int], *, copied: bool) -> int:
    """``blockwise.backward``, with the gradients it gives."""
    x, size = call.sizes(*run), call.computed_bytes
    copies = (x.inputs + 2 * x.q) * size if copied else 0
    if call.scoring.dropout is not None and not copied:
        copies = x.q * size  # the gradient that comes in, divided by the share that is kept
    returned = x.inputs * call.number_bytes if call.is_half else 0
    return copies + 2 * x.rows * 4 + x.inputs * size + returned + _tile_bytes(call, run, backward=True)


def _tile_bytes(call: Call, run: tuple[int, int], *, backward: bool) -> int:
    """The buffers that tiles share, and what a tile allocates besides."""
    (n_sequences, length), scoring = run, call.scoring
    block = seen_block(call, length)
    share = call.n_heads // call.n_kv_heads
    sequences, groups = computed_at_once(block, call.n_kv_heads, share, call.device)
    sequences = min(n_sequences, sequences)
    rows, columns = (size + (length % size if length > size else 0) for size in block)  # tiles at the edge are smaller
    tile = sequences * groups * share * rows * columns * call.computed_bytes
    wide, terms = (block.rows + block.columns) / block.columns, scoring.terms
    n_tiles = (2.0 if backward else 1.0) + 0.5
    if scoring.dropout is not None:
        n_tiles += 2.75 if backward else 1.75
    if scoring.soft_cap is not None and backward:
        n_tiles += 1
    if terms is not None:
        tables = {"bias": (1, 1), "keys": (1, 2), "queries": (1, 2), "values": (1, 2)}
        n_tiles += wide * sum(n[backward] for name, n in tables.items() if getattr(terms, name) is not None)
    return int(n_tiles * tile)


def _with_tables(found: Footprint, call: Call) -> Footprint:
    """With what positions make before the kernel runs: tables, and queries and keys of their own."""
    x, size = call.whole, call.number_bytes
    tables = call.table_bytes * (2 if call.training else 1)
    own = x.q * size if call.moves_queries else (x.q + x.kv) * size if call.rotates else 0
    # A rotation holds its products in float32 and the joined halves; its gradient as many.
    turning = 2 * x.q * 4 + x.q * size + (x.q * size if call.is_half else 0) if call.rotates else 0
    start = max(2 * call.table_bytes, turning + (x.kv * size if call.rotates else 0))
    forward = max(start, tables + own + found.forward)
    kept = tables + own + found.kept
    backward = tables + own + found.backward + 3 * call.table_bytes
    # When the kernel's backward pass is done, what it saved is free; the output and three gradients are there.
    turned_back = found.kept + x.inputs * size + 3 * x.q * 4 if call.rotates else 0
    return Footprint(forward, kept, max(backward, turned_back))


def _mask_numbers(mask: Mask | None, n_sequences: int, length: int) -> int:
    """Of a mask that is written out; dimensions that it does not depend on are 1."""
    parts = mask.parts() if mask is not None else ()
    sequences = n_sequences if mask is not None and mask.has(Keys, Segments) else 1
    return sequences * length * (1 if all(isinstance(part, Keys | Prefix) for part in parts) else length)
