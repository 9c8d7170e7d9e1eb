"""With a cache, however a sequence is cut, every token gets what it gets in one pass over all of it."""

from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from huiyan.attention.cache import KeyValueCache
from huiyan.attention.masks import Causal, Global, Keys, Mask, Prefix, Segments, Where, Window
from huiyan.attention.multihead import MultiHeadAttention
from huiyan.attention.positions.alibi import Alibi
from huiyan.attention.positions.disentangled import Disentangled
from huiyan.attention.positions.rotary import Rotary
from huiyan.attention.positions.shaw import ShawRelative
from huiyan.attention.positions.t5 import T5Bias
from huiyan.attention.positions.xl import XLRelative

EXACT = {"atol": 1e-10, "rtol": 1e-10}  # float64: only the order of sums may differ
WIDTH, HEADS, LENGTH = 8, 4, 12

# Tables much shorter than the sequences: far offsets are clipped too.
absolute = st.sampled_from(["none", "rotary"])
relative = st.sampled_from(["rotary", "t5", "alibi", "xl", "shaw", "disentangled"])


def position_named(name: str) -> Any:
    return {
        "none": lambda: None,
        "rotary": lambda: Rotary(2),
        "t5": lambda: T5Bias(HEADS, 8, 6),
        "alibi": lambda: Alibi(HEADS),
        "xl": lambda: XLRelative(WIDTH, HEADS),
        "shaw": lambda: ShawRelative(2, 3),
        "disentangled": lambda: Disentangled(WIDTH, HEADS, max_relative_positions=4),
    }[name]()


@dataclass(frozen=True)
class Case:
    """A module in float64, a batch for it, and lengths of the pieces the batch comes in."""

    module: MultiHeadAttention
    x: Tensor
    pieces: list[int]

    def in_pieces(self, cache: KeyValueCache, mask: Mask | None) -> Tensor:
        with torch.inference_mode():
            rows = [self.module(part, mask=mask, cache=cache) for part in self.x.split(self.pieces, dim=1)]
        return torch.cat(rows, dim=1)

    def at_once(self, mask: Mask | None) -> Tensor:
        with torch.no_grad():
            return self.module(self.x, mask=mask)


@st.composite
def cases(draw: st.DrawFn, positions: st.SearchStrategy[str] = absolute | relative) -> Case:
    torch.manual_seed(draw(st.integers(0, 2**31)))
    module = MultiHeadAttention(
        WIDTH,
        HEADS,
        n_kv_heads=draw(st.sampled_from([1, 2, HEADS])),
        position=position_named(draw(positions)),
        qk_norm=draw(st.booleans()),
        soft_cap=draw(st.sampled_from([None, 1.5])),
        sinks=draw(st.booleans()),
    )
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) / 2)
    length = draw(st.integers(1, LENGTH))
    cuts = sorted(draw(st.sets(st.integers(1, LENGTH - 1))) & set(range(1, length)))
    pieces = [end - start for start, end in zip([0, *cuts], [*cuts, length], strict=True)]
    return Case(module.double().eval(), torch.randn(2, length, WIDTH, dtype=torch.float64), pieces)


@given(
    cases(),
    st.sampled_from([Causal(), Window(2, 0), Causal() & (Window(3, 3) | Global([1])), ~Window(1, 0) & Causal()]),
)
def test_a_cache_changes_nothing(case: Case, mask: Mask) -> None:
    torch.testing.assert_close(case.in_pieces(KeyValueCache(), mask), case.at_once(mask), **EXACT)


@given(cases(), st.integers(1, LENGTH), st.integers(0, 3))
def test_a_sliding_cache_is_a_window(case: Case, max_length: int, spare: int) -> None:
    cache = KeyValueCache(max_length=max_length, spare=spare)
    expected = case.at_once(Window(max_length - 1, 0))
    torch.testing.assert_close(case.in_pieces(cache, Causal()), expected, **EXACT)
    length = case.x.shape[1]
    assert cache.next_position == length
    assert cache.length == min(length, max_length + spare)


@given(cases(absolute), st.integers(1, 4), st.integers(1, 6), st.integers(0, 2))
def test_first_tokens_that_stay_are_a_prefix(case: Case, n_sinks: int, newest: int, spare: int) -> None:
    cache = KeyValueCache(max_length=n_sinks + newest, n_sinks=n_sinks, spare=spare)
    expected = case.at_once((Window(newest - 1, 0) | Prefix(n_sinks)) & Causal())
    torch.testing.assert_close(case.in_pieces(cache, Causal()), expected, **EXACT)


def other_masks(length: int) -> dict[str, Mask]:
    """Masks that name places, for tokens so far: what is gone must not shift what they mean."""
    return {
        "prefix": Causal() & ~Prefix(3),
        "global": Window(1, 0) | Global([0, 5]),
        "where": Where(lambda row, column: (row + 2 * column) % 3 > 0),
        "window": ~Window(2, 0) & Window(7, 0),
        "keys": Keys(torch.arange(length) % torch.tensor([[3], [4]]) > 0),
        "segments": Segments(torch.arange(length) // 4),
    }


@given(cases(absolute), st.sampled_from(list(other_masks(1))), st.integers(0, 3), st.integers(1, 6))
def test_masks_mean_the_same_places_once_keys_are_gone(case: Case, name: str, n_sinks: int, newest: int) -> None:
    n = case.x.shape[1]
    sliding = (Window(newest - 1, 0) | Prefix(n_sinks)) & Causal()
    expected = case.at_once(other_masks(n)[name] & sliding)
    cache, rows, end = KeyValueCache(max_length=n_sinks + newest, n_sinks=n_sinks), [], 0
    for part in case.x.split(case.pieces, dim=1):
        end += part.shape[1]
        mask = other_masks(end)[name]
        if isinstance(mask, Segments):
            mask = Segments(mask.queries[-part.shape[1] :], mask.queries)
        with torch.no_grad():
            rows.append(case.module(part, mask=mask & Causal(), cache=cache))
    torch.testing.assert_close(torch.cat(rows, dim=1), expected, **EXACT)


@given(cases(), st.data())
def test_tokens_taken_back_leave_no_trace(case: Case, data: st.DataObject) -> None:
    """Guessed tokens are appended and taken back before each piece."""
    sliding = data.draw(st.booleans())
    spare = data.draw(st.integers(0, 4))
    cache = KeyValueCache(max_length=5, spare=spare) if sliding else KeyValueCache()
    rows: list[Tensor] = []
    for part in case.x.split(case.pieces, dim=1):
        guesses = data.draw(st.integers(0, spare + 1))
        with torch.no_grad():
            case.module(torch.randn(2, guesses, WIDTH, dtype=torch.float64), mask=Causal(), cache=cache)
            cache.roll_back(guesses)
            rows.append(case.module(part, mask=Causal(), cache=cache))
    expected = case.at_once(Window(4, 0) if sliding else Causal())
    torch.testing.assert_close(torch.cat(rows, dim=1), expected, **EXACT)
