"""Attention maps that are looked at, and never held: queries, keys and a number a row give any part of them exactly.

``observe`` gives ``Maps``; ``maps[layer][head]`` is an ``AttentionMap``. Weights are those before dropout, in float32
(float64 where the model is), whatever the kernel and the precision of the pass that was observed; a row sums to 1, or
less with a sink, or to 0 where it may attend to nothing.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Self

import torch
from jaxtyping import Float, Int
from torch import Tensor

from huiyan.attention.blocks import Span
from huiyan.attention.kernels.tiles import Tile
from huiyan.attention.kernels.weights import Rows, log_sum_exp, rows_of, weight_gradients, weights_of
from huiyan.attention.pictures import MOST_CELLS, bins, heat_svg, row_of_thumbnails
from huiyan.attention.scoring import Scoring
from huiyan.core.config import require
from huiyan.core.errors import ConfigError, ShapeError

FIGURES = ("column_mass", "entropy", "distance", "topk")
_DRAWN = 1 << 27  # weights that a notebook's picture may cost; seconds
_THUMBNAIL_CELLS = 24
LARGEST_MAP = 1 << 24
"""Weights that ``to_dense`` gives without being told to: 64 MiB in float32."""


@dataclass(eq=False)
class Call:
    """What one call of ``attend`` compared, for one sequence of its batch.

    Args:
        q: queries, `1 h q d`, turned by their positions where those turn them.
        k: keys, `1 g k d`.
        scoring: what stood between q·k and the weights, without dropout.
        v: values, `1 g k d`, where gradients are kept.
        d_out: the gradient of the output, `1 h q d`, once there is one.
    """

    q: Float[Tensor, "1 h q d"]
    k: Float[Tensor, "1 g k d"]
    scoring: Scoring
    v: Float[Tensor, "1 g k d"] | None = None
    d_out: Callable[[], Tensor | None] = lambda: None

    @property
    def n_heads(self) -> int:
        """`h`."""
        return self.q.shape[1]

    @cached_property
    def lse(self) -> Float[Tensor, "1 h q"]:
        """The log-sum-exp of each row: computed when first asked for, then kept."""
        found = self.q.new_empty(self.q.shape[:3], dtype=torch.promote_types(self.q.dtype, torch.float32))
        for rows in self.rows(Span(0, self.n_heads), Span(0, self.q.shape[2])):
            rows.rows.of(rows.heads.of(found, 1), 2).copy_(log_sum_exp(rows, self.scoring))
        return found

    def rows(self, heads: Span, rows: Span) -> Iterator[Rows]:
        """Some heads and queries at a time."""
        return rows_of(self.q, self.k, self.scoring, heads=heads, rows=rows)


@dataclass(frozen=True, eq=False)
class Figures:
    """What one walk over the maps of `h` heads gives; what was not asked for is 0.

    Args:
        column_mass: `h k`, what each key gets from all queries together; it adds up to the number of queries.
        entropy: `h q`, −Σ w ln w of each row, in nats: 0 where one key has all, ln k where all have the same.
        distance: `h q`, Σ w |position − column| of each row; the last query stands at the last key.
        values: `h q k`, the largest of each row, the largest first.
        columns: `h q k`, the keys that those belong to.
    """

    column_mass: Float[Tensor, "h k"]
    entropy: Float[Tensor, "h q"]
    distance: Float[Tensor, "h q"]
    values: Float[Tensor, "h q k"]
    columns: Int[Tensor, "h q k"]


@dataclass(frozen=True, eq=False)
class _Reader:
    """Reads a map, a tile at a time, for some heads. What is read has a first dimension for them, `h`.

    Args:
        call: what was compared.
        heads: of which heads.
        kind: "weights" A; "gradients" dA, what the loss changes by with each weight; "relevance" max(0, A ∘ dA).
    """

    call: Call
    heads: Span
    kind: str = "weights"

    @property
    def shape(self) -> tuple[int, int]:
        """Queries and keys."""
        return self.call.q.shape[2], self.call.k.shape[2]

    def tiles(self, rows: Span | None = None) -> Iterator[tuple[Span, Span, Span, Float[Tensor, "h q k"]]]:
        """Heads (counted from 0), rows, columns and values; a tensor is good until the next one is asked for.

        Tiles in which every weight is 0 because nothing is seen are left out.
        """
        call = self.call
        for own in call.rows(self.heads, Span(0, self.shape[0]) if rows is None else rows):
            lse = own.rows.of(own.heads.of(call.lse, 1), 2)
            which = own.heads.moved(-self.heads.start)
            for tile, weights in weights_of(own, lse):
                yield which, own.rows, tile.block.columns, self._values(own, tile, weights)[0]

    def _values(self, rows: Rows, tile: Tile, weights: Tensor) -> Tensor:
        if self.kind == "weights":
            return weights
        d_out, v = self.call.d_out(), self.call.v
        if d_out is None or v is None:
            raise ConfigError(
                "There are no gradients of this map.",
                hint="Observe with gradients=True, and call backward() on a loss inside the block.",
            )
        share = self.call.q.shape[1] // v.shape[1]
        groups = Span(rows.heads.start // share, (rows.heads.stop - 1) // share + 1)
        own_d_out = rows.rows.of(rows.heads.of(d_out, 1), 2).to(weights.dtype).contiguous()
        gradients = weight_gradients(tile, own_d_out, groups.of(v, 1).to(weights.dtype))
        return gradients if self.kind == "gradients" else (gradients * weights).clamp_(min=0)

    def block(self, rows: Span, columns: Span) -> Float[Tensor, "h q k"]:
        """Some rows and columns, whole."""
        found = self._zeros(rows.size, columns.size)
        for heads, own, here, values in self.tiles(rows):
            both = Span(max(columns.start, here.start), min(columns.stop, here.stop))
            if both.size > 0:
                part = both.moved(-here.start).of(values, 2)
                target = own.moved(-rows.start).of(heads.of(found, 0), 1)
                both.moved(-columns.start).of(target, 2).copy_(part)
        return found

    def figures(self, *wanted: str, k: int = 1) -> "Figures":
        """The figures that are wanted, in one walk over the map; ``k`` is for "topk"."""
        n_queries, n_keys = self.shape
        require(1 <= k <= n_keys, "k", f"from 1 to the {n_keys} keys", k)
        found = {
            "column_mass": self._zeros(n_keys),
            "entropy": self._zeros(n_queries),
            "distance": self._zeros(n_queries),
            "values": self._zeros(n_queries, k).fill_(-torch.inf if "topk" in wanted else 0.0),
        }
        columns = torch.zeros(found["values"].shape, dtype=torch.int64, device=self.call.q.device)
        ahead = n_keys - n_queries
        for heads, rows, here, tile in self.tiles():
            by_row = {name: rows.of(heads.of(found[name], 0), 1) for name in ("entropy", "distance", "values")}
            if "column_mass" in wanted:
                here.of(heads.of(found["column_mass"], 0), 1).add_(tile.sum(dim=1))
            if "distance" in wanted:
                offsets = here.numbers(tile.device) - rows.moved(ahead).numbers(tile.device)[:, None]
                by_row["distance"].add_(torch.einsum("hqk,qk->hq", tile, offsets.abs().to(tile.dtype)))
            if "topk" in wanted:
                _keep_largest(by_row["values"], rows.of(heads.of(columns, 0), 1), tile, here)
            if "entropy" in wanted:  # last: it may write into the tile
                by_row["entropy"].sub_(torch.special.xlogy(tile, tile, out=tile).sum(dim=2))
        found["values"].masked_fill_(found["values"] == -torch.inf, 0.0)
        return Figures(**found, columns=columns)

    def times(self, x: Float[Tensor, "k d"]) -> Float[Tensor, "h q d"]:
        """The map times rows."""
        self._check(x, self.shape[1], "key")
        found = self._zeros(self.shape[0], x.shape[1])
        for heads, rows, columns, tile in self.tiles():
            rows.of(heads.of(found, 0), 1).add_(tile @ columns.of(x, 0).to(tile.dtype))
        return found

    def transposed_times(self, x: Float[Tensor, "q d"]) -> Float[Tensor, "h k d"]:
        """The map on its side, times rows."""
        self._check(x, self.shape[0], "query")
        found = self._zeros(self.shape[1], x.shape[1])
        for heads, rows, columns, tile in self.tiles():
            columns.of(heads.of(found, 0), 1).add_(tile.mT @ rows.of(x, 0).to(tile.dtype))
        return found

    def _zeros(self, *shape: int) -> Tensor:
        q = self.call.q
        return q.new_zeros((self.heads.size, *shape), dtype=torch.promote_types(q.dtype, torch.float32))

    def _check(self, x: Tensor, rows: int, what: str) -> None:
        if x.dim() != 2 or len(x) != rows:
            raise ShapeError(f"There must be one row a {what}: `{rows} d`. Got {tuple(x.shape)} instead.")


@dataclass(frozen=True, eq=False)
class AttentionMap:
    """The map of one head for one sequence, `q k`: what it tells is computed when asked, in O(q + k) memory.

    With ``observe(..., gradients=True)`` and a loss whose ``backward`` was called, ``gradients`` is the map of dA, what
    the loss changes by with each weight, and ``relevance`` that of max(0, A ∘ dA) (Chefer et al. 2021, eq. 5).
    """

    _reader: _Reader

    @property
    def shape(self) -> tuple[int, int]:
        """How many queries and keys there are."""
        return self._reader.shape

    @property
    def gradients(self) -> Self:
        """The map of what the loss changes by with each weight."""
        return replace(self, _reader=replace(self._reader, kind="gradients"))

    @property
    def relevance(self) -> Self:
        """The map of max(0, weight · gradient)."""
        return replace(self, _reader=replace(self._reader, kind="relevance"))

    def row(self, i: int) -> Float[Tensor, " k"]:
        """What query ``i`` looks at; a negative number counts from the end."""
        place = _place(i, self.shape[0], "query")
        return self._reader.block(Span(place, place + 1), Span(0, self.shape[1]))[0, 0]

    def column(self, j: int) -> Float[Tensor, " q"]:
        """Who looks at key ``j``."""
        place = _place(j, self.shape[1], "key")
        return self._reader.block(Span(0, self.shape[0]), Span(place, place + 1))[0, :, 0]

    def block(self, rows: slice, columns: slice) -> Float[Tensor, "q k"]:
        """Some neighbouring rows and columns, as slices."""
        return self._reader.block(_span(rows, self.shape[0]), _span(columns, self.shape[1]))[0]

    def topk(self, k: int) -> tuple[Float[Tensor, "q k"], Int[Tensor, "q k"]]:
        """The ``k`` largest of every row, the largest first, and the keys they belong to."""
        found = self._reader.figures("topk", k=k)
        return found.values[0], found.columns[0]

    def column_mass(self) -> Float[Tensor, " k"]:
        """What each key gets from all queries together; it adds up to the number of queries."""
        return self._reader.figures("column_mass").column_mass[0]

    def entropy(self) -> Float[Tensor, " q"]:
        """Of each row, in nats: 0 where one key has all, ln k where all have the same."""
        return self._reader.figures("entropy").entropy[0]

    def distance(self) -> Float[Tensor, " q"]:
        """How many places away each query looks, on average."""
        return self._reader.figures("distance").distance[0]

    @property
    def T(self) -> "_Transposed":  # noqa: N802 - as of any matrix
        """The map on its side, to be multiplied."""
        return _Transposed(self._reader)

    def __matmul__(self, x: Tensor) -> Tensor:
        """``map @ x``: `k` → `q`, or `k d` → `q d`."""
        return self._reader.times(x)[0] if x.dim() != 1 else self._reader.times(x[:, None])[0, :, 0]

    def to_dense(self, *, most: int = LARGEST_MAP) -> Float[Tensor, "q k"]:
        """All of it.

        Args:
            most: weights that may be held.
        Raises:
            ConfigError: there are more.
        """
        n_queries, n_keys = self.shape
        if n_queries * n_keys > most:
            raise ConfigError(
                f"This map has {n_queries:,} × {n_keys:,} weights, more than {most:,}.",
                hint=f"Ask for rows, a block or topk; or for all of it with to_dense(most={n_queries * n_keys}).",
            )
        return self._reader.block(Span(0, n_queries), Span(0, n_keys))[0]

    def small(self, most: int = MOST_CELLS) -> Float[Tensor, "r c"]:
        """The map in at most ``most`` × ``most`` cells: rows by their mean, columns by their sum."""
        rows, columns = (bins(n, most).to(self._reader.call.q.device) for n in self.shape)
        by_cell = self @ columns
        return (rows.T.to(by_cell.dtype) @ by_cell) / rows.sum(0)[:, None].clamp_min(1)

    def __repr__(self) -> str:
        """Its size."""
        return f"AttentionMap({self.shape[0]} queries × {self.shape[1]} keys, head {self._reader.heads.start})"

    def _repr_html_(self) -> str:
        """What a notebook shows: who looks (down) at whom (across)."""
        return heat_svg(self.small().cpu(), title=repr(self))


@dataclass(frozen=True, eq=False)
class _Transposed:
    _reader: _Reader

    def __matmul__(self, x: Tensor) -> Tensor:
        """``map.T @ x``: `q` → `k`, or `q d` → `k d`."""
        found = self._reader.transposed_times(x if x.dim() != 1 else x[:, None])[0]
        return found if x.dim() != 1 else found[:, 0]


@dataclass(frozen=True, eq=False)
class LayerMaps(Sequence[AttentionMap]):
    """The maps of one layer for one sequence: ``[head]`` is one of them, and figures of all are computed at once.

    Args:
        call: what the layer compared.
        heads: the heads that are observed; all where None.
    """

    call: Call
    heads: tuple[int, ...] | None = None

    @property
    def numbers(self) -> tuple[int, ...]:
        """The heads that are observed."""
        return tuple(range(self.call.n_heads)) if self.heads is None else self.heads

    def __len__(self) -> int:
        """How many heads the layer has."""
        return self.call.n_heads

    def __getitem__(self, head: int) -> AttentionMap:  # pyright: ignore[reportIncompatibleMethodOverride] - no slices
        """The map of a head; a negative number counts from the end."""
        place = _place(head, self.call.n_heads, "head")
        if place not in self.numbers:
            raise IndexError(f"Head {place} is not observed. Those that are: {', '.join(map(str, self.numbers))}.")
        return AttentionMap(_Reader(self.call, Span(place, place + 1)))

    def __iter__(self) -> Iterator[AttentionMap]:
        """The maps of the heads that are observed."""
        return (self[head] for head in self.numbers)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Observed heads, queries and keys."""
        return len(self.numbers), self.call.q.shape[2], self.call.k.shape[2]

    def column_mass(self) -> Float[Tensor, "h k"]:
        """As of each map."""
        return self.figures("column_mass").column_mass

    def entropy(self) -> Float[Tensor, "h q"]:
        """As of each map."""
        return self.figures("entropy").entropy

    def distance(self) -> Float[Tensor, "h q"]:
        """As of each map."""
        return self.figures("distance").distance

    def topk(self, k: int) -> tuple[Float[Tensor, "h q k"], Int[Tensor, "h q k"]]:
        """As of each map."""
        found = self.figures("topk", k=k)
        return found.values, found.columns

    def figures(self, *wanted: str, k: int = 1) -> Figures:
        """Several figures of all heads in one walk over their maps, which is what takes the time.

        Args:
            wanted: "column_mass", "entropy", "distance", "topk".
            k: for "topk".
        """
        for name in wanted:
            require(name in FIGURES, "wanted", "of " + ", ".join(FIGURES), name)
        if self.heads is None:
            return _Reader(self.call, Span(0, self.call.n_heads)).figures(*wanted, k=k)
        each = [vars(_Reader(self.call, Span(head, head + 1)).figures(*wanted, k=k)) for head in self.heads]
        return Figures(**{name: torch.cat([one[name] for one in each]) for name in each[0]})

    def __repr__(self) -> str:
        """Its size."""
        return "LayerMaps({} heads, {} queries × {} keys)".format(*self.shape)

    def _repr_html_(self) -> str:
        """What a notebook shows: every head as a thumbnail."""
        return f"<pre>{self!r}</pre>" if math.prod(self.shape) > _DRAWN else _thumbnails(self)


@dataclass(eq=False)
class Maps:
    """What ``observe`` saw in the last forward pass: ``maps[layer][head]``, of the one sequence there was.

    Layers are the calls of ``attend`` in the order they were made: a layer that is passed twice counts twice, and in a
    decoder with a context self- and cross-attention take turns. ``maps.sequence(i)`` is for a batch of several.
    """

    layers: dict[int, list[LayerMaps]] = field(default_factory=dict[int, list[LayerMaps]])

    def sequence(self, i: int) -> list[LayerMaps]:
        """The layers that are observed, of sequence ``i`` of the batch.

        Raises:
            IndexError: there was no forward pass, or there are fewer sequences.
        """
        return [each[_place(i, len(each), "sequence")] for each in self._seen().values()]

    @property
    def n_sequences(self) -> int:
        """How many sequences the batch had."""
        return len(next(iter(self._seen().values())))

    @property
    def numbers(self) -> tuple[int, ...]:
        """The layers that were observed, in order."""
        return tuple(self.layers)

    def __len__(self) -> int:
        """How many layers were observed."""
        return len(self.layers)

    def __getitem__(self, layer: int) -> LayerMaps:
        """A layer by its number in the model; a negative number counts from the last one observed."""
        seen = self._seen()
        number = self.numbers[layer] if -len(self) <= layer < 0 else layer
        if number not in seen:
            raise IndexError(f"Layer {layer} was not observed. Those that were: {', '.join(map(str, self.numbers))}.")
        if len(seen[number]) != 1:
            raise IndexError(f"The batch had {len(seen[number])} sequences. Use maps.sequence(i)[layer][head].")
        return seen[number][0]

    def __iter__(self) -> Iterator[LayerMaps]:
        """The layers that were observed, of the one sequence there was."""
        return (self[layer] for layer in self.numbers)

    def _seen(self) -> dict[int, list[LayerMaps]]:
        if not self.layers:
            raise IndexError(
                "Nothing was observed: no attention of Huiyan ran in the block. Call the model inside it; a model of "
                "transformers is first given to huiyan.bridge.attach."
            )
        return self.layers

    def __repr__(self) -> str:
        """How much there is."""
        return f"Maps({len(self)} layers of {self.n_sequences} sequences)" if self.layers else "Maps(nothing yet)"

    def _repr_html_(self) -> str:
        """What a notebook shows: layers down, heads across, of the first sequence."""
        if not self.layers or sum(math.prod(layer.shape) for layer in self.sequence(0)) > _DRAWN:
            return f"<pre>{self!r}</pre>"
        return "".join(map(_thumbnails, self.sequence(0)))


def _thumbnails(layer: LayerMaps) -> str:
    return row_of_thumbnails(
        [layer[head].small(_THUMBNAIL_CELLS).cpu() for head in layer.numbers],
        [f"head {head}" for head in layer.numbers],
    )


def _keep_largest(values: Tensor, columns: Tensor, tile: Tensor, here: Span) -> None:
    """The largest of each row, those so far and the tile's; changed in place."""
    k = values.shape[-1]
    best, place = tile.topk(min(k, here.size), dim=-1)
    both, where = torch.cat([values, best], dim=-1), torch.cat([columns, place + here.start], dim=-1)
    kept, order = both.topk(k, dim=-1)
    values.copy_(kept)
    columns.copy_(where.gather(-1, order))


def _place(number: int, of: int, what: str) -> int:
    if not -of <= number < of:
        raise IndexError(f"There is no {what} {number}: there are {of}.")
    return number % of


def _span(part: slice, of: int) -> Span:
    start, stop, step = part.indices(of)
    require(step == 1, "step", "1", step)
    return Span(start, max(start, stop))
