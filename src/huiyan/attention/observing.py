"""Watching attention on the fast path: ``with observe(model) as maps:``.

``attend`` tells whoever watches what it compares. Nothing is copied and nothing is computed: queries and keys, which
the pass made anyway, are kept.
"""

import itertools
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace

import torch
from jaxtyping import Int
from torch import Tensor, nn

from huiyan.attention.maps import Call, LayerMaps, Maps
from huiyan.attention.masks import OfSequence
from huiyan.attention.scoring import Scoring
from huiyan.core.errors import ConfigError


@dataclass(eq=False)
class _Watcher:
    """Takes down the calls of one forward pass.

    Args:
        maps: what it fills.
        layers: numbers of the calls to take down; None is all.
        heads: heads of each.
        gradients: also keep values, and the gradient of the output.
    """

    maps: Maps
    layers: frozenset[int] | None
    heads: tuple[int, ...] | None
    gradients: bool
    n_calls: int = 0

    def begin(self) -> None:
        self.maps.layers.clear()
        self.n_calls = 0

    def take(self, q: Tensor, k: Tensor, v: Tensor, out: Tensor, scoring: Scoring, lengths: "Lengths | None") -> None:
        number, self.n_calls = self.n_calls, self.n_calls + 1
        if self.layers is not None and number not in self.layers:
            return
        if self.heads is not None and max(self.heads, default=0) >= q.shape[1]:
            raise ConfigError(f"Layer {number} has {q.shape[1]} heads. Got head {max(self.heads)} to observe.")
        own = replace(scoring, dropout=None)
        own = own.with_tensors([None if x is None else x.detach() for x in own.tensors()])
        gradient = _Gradient(out) if self.gradients else None
        calls = [
            Call(
                part(q.detach(), of_queries=True),
                part(k.detach(), of_queries=False),
                own
                if own.mask is None or lengths is not None or len(q) == 1
                else replace(own, mask=OfSequence(own.mask, i)),
                v=part(v.detach(), of_queries=False) if gradient else None,
                d_out=(lambda g=gradient, p=part: g.of(p)) if gradient else (lambda: None),
            )
            for i, part in enumerate(_parts(q, lengths))
        ]
        self.maps.layers[number] = [LayerMaps(call, self.heads) for call in calls]


@dataclass(frozen=True)
class Lengths:
    """Of packed sequences: tokens of queries and of keys, `b` each."""

    queries: Int[Tensor, " b"]
    keys: Int[Tensor, " b"]


@dataclass(frozen=True)
class _Part:
    """One sequence of a batch: dense, or packed from one row to another."""

    number: int
    queries: tuple[int, int] | None = None
    keys: tuple[int, int] | None = None

    def __call__(self, x: Tensor, *, of_queries: bool) -> Tensor:
        """Its own, `1 h n d`, by a view."""
        rows = self.queries if of_queries else self.keys
        if rows is None:
            return x[self.number : self.number + 1]
        return x[rows[0] : rows[1]].transpose(0, 1)[None]


class _Gradient:
    """The gradient of an output, once there is one."""

    def __init__(self, out: Tensor) -> None:
        self._found: Tensor | None = None
        if out.requires_grad:
            out.register_hook(self._keep)

    def _keep(self, gradient: Tensor) -> None:
        self._found = gradient.detach()

    def of(self, part: _Part) -> Tensor | None:
        return None if self._found is None else part(self._found, of_queries=True)


_COMPILED = "A compiled model cannot be observed: its attention is part of one program."
_UNCOMPILED = "Observe the model as it was before torch.compile; they share their weights."
_watching: ContextVar[_Watcher | None] = ContextVar("watching", default=None)


@contextmanager
def observe(
    model: nn.Module,
    *,
    layers: Iterable[int] | None = None,
    heads: Iterable[int] | None = None,
    gradients: bool = False,
) -> Iterator[Maps]:
    """Watch the attention of a model: what comes back tells of the last forward pass inside the block.

    It costs no time, and the memory of queries and keys, which is O(n). The maps can be read after the block.

    Args:
        model: any module that calls ``attend``; what it calls elsewhere is not watched.
        layers: numbers of the attention layers, from 0 in the order they are passed; None is all.
        heads: numbers of the heads of each; None is all.
        gradients: keep values, and gradients of the outputs when ``backward`` is called, for ``gradients`` and
            ``relevance`` of a map.
    Raises:
        ConfigError: the model is compiled: a compiled program does not stop to be watched.
    """
    # torch has no public name that tells of a compiled part.
    if any(hasattr(part, "_orig_mod") or part._compiled_call_impl is not None for part in model.modules()):  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
        raise ConfigError(_COMPILED, hint=_UNCOMPILED)
    watching = _Watcher(
        Maps(),
        None if layers is None else frozenset(layers),
        None if heads is None else tuple(dict.fromkeys(heads)),
        gradients,
    )
    outer: list[_Watcher | None] = []

    def begin(_module: nn.Module, _args: object, _kwargs: object) -> None:
        if torch.compiler.is_compiling():
            raise RuntimeError(_COMPILED)  # of errors with a hint the compiler would not tell
        outer.append(_watching.get())
        watching.begin()
        _watching.set(watching)

    def end(_module: nn.Module, _args: object, _output: object) -> None:
        _watching.set(outer.pop() if outer else None)

    handles = [
        model.register_forward_pre_hook(begin, with_kwargs=True, prepend=True),
        model.register_forward_hook(end, always_call=True),
    ]
    try:
        yield watching.maps
    finally:
        for handle in handles:
            handle.remove()


def told(q: Tensor, k: Tensor, v: Tensor, out: Tensor, scoring: Scoring, lengths: Lengths | None) -> None:
    """Tell whoever watches in this thread of a call of ``attend``."""
    watching = _watching.get()
    if watching is not None:
        watching.take(q, k, v, out, scoring, lengths)


def _parts(q: Tensor, lengths: Lengths | None) -> list[_Part]:
    if lengths is None:
        return [_Part(number) for number in range(len(q))]
    bounds = ([0, *x.cumsum(0).tolist()] for x in (lengths.queries, lengths.keys))
    pairs = [list(itertools.pairwise(each)) for each in bounds]
    return [_Part(number, queries, keys) for number, (queries, keys) in enumerate(zip(*pairs, strict=True))]
