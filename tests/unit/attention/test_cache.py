"""The cache by itself: memory, taking back, beams, and what it refuses."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from huiyan.attention.cache import KeyValueCache
from huiyan.attention.masks import Causal, Keys, Prefix, Segments, Window
from huiyan.attention.multihead import MultiHeadAttention
from huiyan.attention.positions.alibi import Alibi
from huiyan.attention.positions.rotary import Rotary
from huiyan.core.errors import ConfigError, ShapeError


def tokens(n: int, first: int = 0, b: int = 2, g: int = 3, d: int = 4) -> tuple[Tensor, Tensor]:
    """Keys that hold their position, and values that hold its negative."""
    k = torch.arange(first, first + n, dtype=torch.float32)[:, None].expand(b, g, n, d)
    return k, -k


def held(cache: KeyValueCache) -> list[int]:
    """The positions a cache holds, which its keys say."""
    keys, values = cache._from(cache._oldest)
    assert torch.equal(keys, -values)
    return keys[0, 0, :, 0].long().tolist()


def test_it_gives_all_that_the_new_tokens_may_see() -> None:
    cache = KeyValueCache()
    cache.append(*tokens(3))
    keys, values = cache.append(*tokens(2, first=3))
    assert keys.shape == values.shape == (2, 3, 5, 4)
    assert keys[1, 2, :, 3].tolist() == [0, 1, 2, 3, 4]
    assert (cache.length, cache.next_position) == (5, 5)


def test_memory_doubles_so_that_few_appends_copy() -> None:
    cache = KeyValueCache()
    n_copies = 0
    for position in range(1000):
        before = cache._buffers
        cache.append(*tokens(1, first=position, b=1, g=1))
        n_copies += cache._buffers is not before
    assert n_copies == 11  # 1, 2, 4 … 1024
    assert cache.memory_bytes == 2 * 1024 * 4 * 4
    assert held(cache) == list(range(1000))


@pytest.mark.parametrize("n_sinks", [0, 2])
def test_a_sliding_cache_stays_small_and_seldom_copies(n_sinks: int) -> None:
    cache, n_copies = KeyValueCache(max_length=8, n_sinks=n_sinks, spare=1), 0
    for position in range(300):
        before = cache._buffers
        cache.append(*tokens(1, first=position, b=1, g=1))
        n_copies += cache._buffers is not before
        assert cache.memory_bytes <= 2 * 18 * 4 * 4
    assert n_copies <= 300 / 9 + 5
    assert held(cache) == [*range(n_sinks), *range(291 + n_sinks, 300)]
    assert cache.next_position == 300


def test_a_long_prompt_is_not_kept_by_a_sliding_cache() -> None:
    cache = KeyValueCache(max_length=4)
    keys, _ = cache.append(*tokens(500))
    assert keys.shape[2] == 500  # each of them may see three before it
    assert held(cache) == [496, 497, 498, 499]
    assert cache.memory_bytes == 2 * 2 * 3 * 8 * 4 * 4
    assert keys[0, 0, :, 0].tolist() == list(range(500))


def test_what_may_be_seen_needs_no_mask_token_by_token() -> None:
    """One query that may see all the keys: no kernel has to look at a mask."""
    cache = KeyValueCache(max_length=4)
    cache.append(*tokens(6))
    assert cache.mask(Causal(), 1) is None
    assert cache.mask(None, 1) is None
    assert cache.mask(Causal(), 2) is not None
    assert cache.mask(None, 0) is None


def test_tokens_are_taken_back() -> None:
    cache = KeyValueCache()
    cache.append(*tokens(5))
    cache.roll_back(2)
    assert held(cache) == [0, 1, 2]
    cache.append(*tokens(1, first=7))
    assert held(cache) == [0, 1, 2, 7]
    cache.roll_back(4)
    assert (cache.length, cache.next_position) == (0, 0)


def test_more_than_there_is_is_not_taken_back() -> None:
    cache = KeyValueCache()
    cache.append(*tokens(5))
    for n in (6, -1):
        with pytest.raises(ConfigError, match=f"From 0 to 5 tokens can be taken back here. Got {n}"):
            cache.roll_back(n)
    assert cache.length == 5


def test_what_has_slid_out_does_not_come_back() -> None:
    cache = KeyValueCache(max_length=4, spare=2)
    cache.append(*tokens(4))
    cache.roll_back(4)  # nothing has left yet
    cache.append(*tokens(20))
    with pytest.raises(
        ConfigError, match=r"From 0 to 3 tokens can be taken back here. Got 4. KeyValueCache\(spare=4\)"
    ):
        cache.roll_back(4)
    cache.roll_back(3)
    assert held(cache) == [14, 15, 16]  # what the token at 17 may see beside itself
    with pytest.raises(ConfigError, match="From 0 to 0 tokens"):
        cache.roll_back(1)


def test_reset_forgets_all_and_keeps_the_memory() -> None:
    cache = KeyValueCache(max_length=4, n_sinks=1)
    cache.append(*tokens(9))
    before = cache.memory_bytes
    cache.reset()
    assert (cache.length, cache.next_position, cache.memory_bytes) == (0, 0, before)
    cache.append(*tokens(2))
    assert held(cache) == [0, 1]
    cache.reset()
    cache.append(*tokens(2, b=5))  # another batch
    assert cache.read((5, 2)).keys.shape == (5, 3, 2, 4)


def test_beams_are_selected() -> None:
    cache = KeyValueCache()
    rows = torch.tensor([10.0, 20.0, 30.0])[:, None, None, None].expand(3, 1, 2, 4)
    cache.append(rows, rows)
    cache.select(torch.tensor([2, 0, 0, 1]))
    keys, _ = cache.append(torch.zeros(4, 1, 1, 4), torch.zeros(4, 1, 1, 4))
    assert keys[:, 0, :, 0].tolist() == [[30, 30, 0], [10, 10, 0], [10, 10, 0], [20, 20, 0]]


@pytest.mark.parametrize(
    ("indices", "message"),
    [
        (torch.tensor([0, 2]), r"from 0 to 1. Got [0, 2]"),
        (torch.tensor([-1]), "Got [-1]"),
        (torch.tensor([True, False]), "torch.bool"),
        (torch.tensor([[0]]), "(1, 1)"),
    ],
)
def test_beams_that_are_not_there_are_refused(indices: Tensor, message: str) -> None:
    cache = KeyValueCache()
    with pytest.raises(ShapeError, match="no sequences to select from"):
        cache.select(indices)
    cache.append(*tokens(1))
    with pytest.raises(ShapeError, match=re.escape(message)):
        cache.select(indices)


def test_it_may_be_filled_in_inference_mode_and_out_of_it() -> None:
    cache = KeyValueCache()
    with torch.inference_mode():
        for position in range(5):  # 8 places: no further token moves them
            cache.append(*tokens(1, first=position))
    cache.append(*tokens(1, first=5))
    with torch.inference_mode():
        cache.select(torch.tensor([1, 0]))
    cache.append(*tokens(1, first=6))
    assert held(cache) == [0, 1, 2, 3, 4, 5, 6]


def test_a_gradient_is_refused_with_the_next_step() -> None:
    module, cache = MultiHeadAttention(8, 2), KeyValueCache()
    with pytest.raises(ConfigError, match=r"no gradient can pass.*torch.no_grad\(\)"):
        module(torch.randn(1, 3, 8), cache=cache)
    assert cache.length == 0
    with torch.no_grad():
        module(torch.randn(1, 3, 8), cache=cache)
    assert cache.length == 3


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (tokens(1, b=1), r"holds `b g d` of (2, 3, 4), torch.float32 on cpu. Got (1, 3, 4)"),
        (tokens(1, g=1), "Got (2, 1, 4)"),
        (tokens(1, d=8), "Got (2, 3, 8)"),
        (tuple(x.double() for x in tokens(1)), "Got (2, 3, 4), torch.float64"),
        ((tokens(1)[0], tokens(2)[1]), "one shape `b g n d`"),
        ((tokens(1)[0][0], tokens(1)[1][0]), "one shape `b g n d`"),
        ((tokens(1)[0], tokens(1)[1].double()), "one dtype"),
    ],
)
def test_keys_of_another_kind_are_refused(other: tuple[Tensor, Tensor], message: str) -> None:
    cache = KeyValueCache()
    cache.append(*tokens(2))
    with pytest.raises(ShapeError, match=re.escape(message)):
        cache.append(*other)
    assert held(cache) == [0, 1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_length": 0}, "max_length option must be above n_sinks, 0, or None. Got 0"),
        ({"max_length": 2, "n_sinks": 2}, "max_length option must be above n_sinks, 2"),
        ({"n_sinks": 2}, "n_sinks option must be at least 0, and 0 without max_length. Got 2"),
        ({"spare": 1}, "spare option"),
        ({"max_length": 2, "n_sinks": -1}, "n_sinks option"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        KeyValueCache(**options)


def attend_with(cache: KeyValueCache | None = None, **options: Any) -> Callable[..., Tensor]:
    module = MultiHeadAttention(8, 2, **options)
    return lambda *x, **given: module(*x, cache=cache or KeyValueCache(), **given)


X = torch.zeros(1, 3, 8)


def begun() -> KeyValueCache:
    cache = KeyValueCache()
    cache.append(*tokens(2, b=1, g=2))
    return cache


@pytest.mark.parametrize("position", [None, Rotary(4), Alibi(2)], ids=lambda x: type(x).__name__)
@pytest.mark.parametrize("mask", [Causal(), Window(2, 0), None], ids=repr)
def test_packed_sequences_begin_a_cache_and_each_goes_on_by_itself(position: Any, mask: Any) -> None:
    lengths = torch.tensor([4, 1, 6])
    module = MultiHeadAttention(8, 2, position=position).eval()
    texts = [torch.randn(int(n) + 5, 8) for n in lengths]
    cache = KeyValueCache()
    with torch.no_grad():
        begin = torch.cat([text[:-5] for text in texts])
        found = [module(begin, lengths=lengths, mask=mask, cache=cache).split(lengths.tolist())]
        assert cache.starts is not None
        assert cache.starts.tolist() == [2, 5, 0]
        for first, last in ((-5, -3), (-3, -2)):
            found.append(module(torch.stack([text[first:last] for text in texts]), mask=mask, cache=cache))
        cache.select(torch.tensor([2, 1]))
        two = module(torch.stack([texts[2][-2:-1], texts[1][-2:-1]]), mask=mask, cache=cache)
        with pytest.raises(ConfigError, match="From 0 to 5 tokens"):
            cache.roll_back(6)
        cache.roll_back(1)
        again = module(torch.stack([texts[2][-2:-1], texts[1][-2:-1]]), mask=mask, cache=cache)
        for number, text in enumerate(texts):
            joined = torch.cat([part[number] for part in found])
            if mask is None:  # each token saw those before it and those that came with it
                wanted = torch.cat([module(text[None, :end])[0, first:] for first, end in parts(len(text) - 5)])
            else:
                wanted = module(text[None, :-2], mask=mask)[0]
            torch.testing.assert_close(joined, wanted, atol=1e-5, rtol=1e-5)
        for row, number in enumerate((2, 1)):
            wanted = module(texts[number][None, :-1], mask=mask)[0, -1]
            torch.testing.assert_close(two[row, 0], wanted, atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(again[row, 0], wanted, atol=1e-5, rtol=1e-5)


def parts(held: int) -> list[tuple[int, int]]:
    return [(0, held), (held, held + 2), (held + 2, held + 3)]


def test_a_packed_context_is_held_and_looked_at_again() -> None:
    lengths, own = torch.tensor([3, 1, 5]), torch.tensor([2, 1, 1])
    module, cache = MultiHeadAttention(8, 2, context_width=6).eval(), KeyValueCache()
    context, begin = torch.randn(9, 6), torch.randn(4, 8)
    with torch.no_grad():
        module(begin, context=context, lengths=own, context_lengths=lengths, cache=cache)
        next_ones = torch.randn(3, 2, 8)
        found = module.attend_held(next_ones, cache)
        for row, each in enumerate(context.split(lengths.tolist())):
            wanted = module(next_ones[row : row + 1], context=each[None])
            torch.testing.assert_close(found[row : row + 1], wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: attend_with(begun())(X[0], lengths=torch.tensor([3])),
            ConfigError,
            "Got packed input, with lengths. Every sequence goes on",
        ),
        (
            lambda: attend_with(KeyValueCache(max_length=4))(X[0], lengths=torch.tensor([2, 1])),
            ConfigError,
            "sequences of one length. Got several",
        ),
        (lambda: MultiHeadAttention(8, 2).attend_held(X, None), ShapeError, "has to be given"),
        (lambda: MultiHeadAttention(8, 2).attend_held(X, KeyValueCache()), ShapeError, "has to be given"),
        (lambda: begun().append_packed(X[0, :, None], X[0, :, None], torch.tensor([3])), ConfigError, "reset() it"),
        (
            lambda: attend_with(KeyValueCache(max_length=4, n_sinks=1), position=Alibi(2))(X),
            ConfigError,
            "cannot tell Alibi how far they are. Use Rotary",
        ),
        (lambda: attend_with(KeyValueCache(max_length=4))(X, context=X), ConfigError, "holds all of it"),
        (lambda: attend_with(position=Rotary(4))(X, context=X), ConfigError, "counted from the last query"),
        (lambda: attend_with()(X, mask=Keys(torch.ones(1, 2, dtype=torch.bool))), ShapeError, "here k = 3. Got (1, 2)"),
    ],
)
def test_what_a_module_does_not_do_with_a_cache(
    call: Callable[[], object], error: type[Exception], message: str
) -> None:
    with torch.no_grad(), pytest.raises(error, match=re.escape(message)):
        call()


@pytest.mark.parametrize("options", [{}, {"max_length": 4}, {"max_length": 4, "n_sinks": 1}], ids=str)
@pytest.mark.parametrize("held", [0, 2, 3, 9])
def test_what_fails_leaves_the_cache_as_it_was(held: int, options: dict[str, int]) -> None:
    """Also where it has slid, or must make room: the next tokens see what they would have seen."""
    module = MultiHeadAttention(8, 2).eval()
    x, cache, other = torch.randn(1, held + 5, 8), KeyValueCache(**options), KeyValueCache(**options)
    with torch.no_grad():
        for one in (cache, other):
            for token in range(held):
                module(x[:, token : token + 1], cache=one)
        state = (cache.length, cache.next_position, cache.memory_bytes)
        for kernel, mask in (("packed", None), ("auto", Segments(torch.arange(99))), ("auto", Causal)):
            module.kernel = kernel
            with pytest.raises((ConfigError, ShapeError)):
                module(x[:, held:], mask=mask, cache=cache)
            assert (cache.length, cache.next_position, cache.memory_bytes) == state
        module.kernel = "auto"
        assert torch.equal(module(x[:, held:], cache=cache), module(x[:, held:], cache=other))


def test_a_context_whose_attention_fails_is_not_kept() -> None:
    module, cache = MultiHeadAttention(8, 2).eval(), KeyValueCache()
    with torch.no_grad(), pytest.raises(ShapeError, match="Keys mask must be"):
        module(X, context=X, mask=Keys(torch.ones(1, 2, dtype=torch.bool)), cache=cache)
    assert cache.length == 0


def test_a_context_is_projected_once() -> None:
    module = MultiHeadAttention(8, 2, n_kv_heads=1, context_width=6).eval()
    x, context = torch.randn(2, 4, 8), torch.randn(2, 5, 6)
    mask = Keys(torch.tensor([[True] * 5, [True] * 3 + [False] * 2]))
    cache = KeyValueCache()
    with torch.no_grad():
        expected = module(x, context=context, mask=mask)
        first = module(x[:, :1], context=context, mask=mask, cache=cache)
        calls: list[int] = []
        module.key.register_forward_hook(lambda *_: calls.append(1))
        rest = module(x[:, 1:], context=context, mask=mask, cache=cache)
    torch.testing.assert_close(torch.cat([first, rest], dim=1), expected)
    assert not calls
    assert cache.length == 5
    with (
        torch.no_grad(),
        pytest.raises(ShapeError, match=re.escape("a context `b k` of (2, 5). Got a context of (2, 4)")),
    ):
        module(x, context=context[:, :4], cache=cache)


def test_a_mask_over_a_slid_cache_is_cut_as_the_keys_are() -> None:
    cache = KeyValueCache(max_length=4, n_sinks=1)
    cache.append(*tokens(9))
    # The next token stands at 9 and may see 0, 7, 8 and itself.
    assert cache.mask(Prefix(8) & Causal(), 1) == Prefix(2) & Causal()
    keys = cache.mask(Keys(torch.tensor([[False] + [True] * 9])), 1)
    assert isinstance(keys, Keys)
    assert keys.keys.tolist() == [[False, True, True, True]]
    assert cache.mask(Window(3, 0), 1) == Window(3, 0) & ~Prefix(1)
