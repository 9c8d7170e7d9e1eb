"""Masks as tables, and what they say of a block without looking: True lets attend."""

from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from huiyan.attention.blocks import Block, Sees, Span
from huiyan.attention.masks import Causal, Global, Keys, Mask, Prefix, Segments, Where, Window
from huiyan.core.errors import ConfigError, ShapeError

CPU = torch.device("cpu")


def table(mask: Mask, n_queries: int, n_keys: int, sequence: int = 0) -> list[str]:
    """The rule as rows of x and ."""
    whole = Block.whole(n_queries, n_keys)
    allowed = mask.allowed(whole, CPU)
    allowed = allowed.expand(max(len(allowed), 1), 1, n_queries, n_keys)[min(sequence, len(allowed) - 1), 0]
    return ["".join("x" if cell else "." for cell in row) for row in allowed.tolist()]


@pytest.mark.parametrize(
    ("n_queries", "n_keys", "expected"),
    [
        (3, 3, ["x..", "xx.", "xxx"]),
        (2, 4, ["xxx.", "xxxx"]),
        (3, 2, ["..", "x.", "xx"]),
        (1, 3, ["xxx"]),
    ],
)
def test_causal_has_its_corner_at_the_bottom_right(n_queries: int, n_keys: int, expected: list[str]) -> None:
    assert table(Causal(), n_queries, n_keys) == expected


@pytest.mark.parametrize(
    ("mask", "n_queries", "n_keys", "expected"),
    [
        (Window(1, 0), 4, 4, ["x...", "xx..", ".xx.", "..xx"]),
        (Window(0, 2), 4, 4, ["xxx.", ".xxx", "..xx", "...x"]),
        (Window(1, 1), 2, 4, [".xxx", "..xx"]),  # the last query stands at the last key
        (Window(0, 0), 3, 3, ["x..", ".x.", "..x"]),
        (Prefix(2), 2, 4, ["xx..", "xx.."]),
        (Prefix(0), 1, 2, [".."]),
        (Prefix(9), 1, 2, ["xx"]),
        (Causal() | Prefix(2), 3, 3, ["xx.", "xx.", "xxx"]),
        (Global([1]), 3, 3, [".x.", "xxx", ".x."]),
        (Global([3]), 2, 4, ["...x", "xxxx"]),  # position 3 is the second of two queries
        (Global([7]), 2, 2, ["..", ".."]),
        (Window(0, 0) | Global([0]), 3, 3, ["xxx", "xx.", "x.x"]),
        (Segments(torch.tensor([0, 0, 1])), 3, 3, ["xx.", "xx.", "..x"]),
        (Segments(torch.tensor([5, 6]), torch.tensor([6, 6, 5])), 2, 3, ["..x", "xx."]),
        (Segments(torch.tensor([0, 0, 1])) & Causal(), 3, 3, ["x..", "xx.", "..x"]),
        (Where(lambda row, column: (row + column) % 2 == 0), 2, 3, [".x.", "x.x"]),
        (Where(lambda row, _: row > 1), 2, 3, ["...", "xxx"]),
        (~Causal(), 3, 3, [".xx", "..x", "..."]),
        (~(Causal() & Window(1, 1)), 3, 3, [".xx", "..x", "x.."]),
        (Causal() & ~Prefix(1), 3, 3, ["...", ".x.", ".xx"]),
    ],
    ids=str,
)
def test_a_mask_is_this_table(mask: Mask, n_queries: int, n_keys: int, expected: list[str]) -> None:
    assert table(mask, n_queries, n_keys) == expected


def test_keys_and_segments_differ_by_sequence() -> None:
    keys = Keys(torch.tensor([[True, False], [True, True]]))
    assert [table(keys, 3, 2, sequence) for sequence in (0, 1)] == [["x."] * 3, ["xx"] * 3]
    segments = Segments(torch.tensor([[0, 0], [0, 1]]))
    assert [table(segments, 2, 2, sequence) for sequence in (0, 1)] == [["xx", "xx"], ["x.", ".x"]]


def test_parts_are_those_without_a_combination() -> None:
    mask = ~(Causal() & Window(1, 1)) | Prefix(3)
    assert [type(part) for part in mask.parts()] == [Causal, Window, Prefix]


EVEN = Where(lambda row, column: (row + column) % 2 == 0)
KEYS = Keys(torch.tensor([[True, True, False, False, True, False, True]] * 2))
SEGMENTS = Segments(torch.tensor([0, 0, 1, 1, 2]), torch.tensor([0, 0, 0, 1, 1, 2, 2]))
EXACT = {
    "causal": Causal(),
    "window": Window(2, 1),
    "prefix": Prefix(3),
    "global": Global([2, 3, 6]),
    "keys": KEYS,
    "segments": SEGMENTS,
    "not": ~Window(1, 0),
}
OTHERS = {
    "where": EVEN,
    "keys that differ": Keys(torch.tensor([[True] * 7, [False] * 7])),
    "segments that differ": Segments(
        torch.tensor([[0, 0, 1, 1, 1], [0] * 5]), torch.tensor([[0, 1, 0, 1, 1, 1, 1]] * 2)
    ),
    "and": Causal() & Window(2, 2),
    "or": Causal() | Prefix(2),
    "all three": ~(Causal() & KEYS) | SEGMENTS & Global([4]),
}


def blocks(n_queries: int, n_keys: int) -> list[Block]:
    """Every block that is not empty."""
    spans = [[Span(a, b) for a, b in product(range(n + 1), repeat=2) if a < b] for n in (n_queries, n_keys)]
    return [Block(rows, columns, n_queries, n_keys) for rows, columns in product(*spans)]


@pytest.mark.parametrize("mask", (EXACT | OTHERS).values(), ids=EXACT | OTHERS)
def test_a_block_is_a_part_of_the_whole_and_all_or_none_is_true_of_it(mask: Mask) -> None:
    whole = mask.allowed(Block.whole(5, 7), CPU).expand(2, 1, 5, 7)
    said = set()
    for block in blocks(5, 7):
        part = block.columns.of(block.rows.of(whole, 2), 3)
        assert torch.equal(mask.allowed(block, CPU).expand(part.shape), part)
        sees = mask.sees(block)
        said.add(sees)
        truth = Sees.ALL if part.all() else Sees.NONE if not part.any() else Sees.MIXED
        if mask in EXACT.values():
            assert sees is truth
        else:
            assert sees in (truth, Sees.MIXED)
    assert said == ({Sees.MIXED} if mask in (EVEN, OTHERS["keys that differ"]) else set(Sees))


@pytest.mark.parametrize(("n", "expected"), [(1024, 46), (2048, 94), (4096, 190)])
def test_blocks_that_a_window_sees_grow_with_n(n: int, expected: int) -> None:
    """Three a row of blocks, less two at the edges: O(n · w) and not O(n²)."""
    pairs = product(Span(0, n).blocks(64), repeat=2)
    seen = [Window(64, 64).sees(Block(rows, columns, n, n)) is not Sees.NONE for rows, columns in pairs]
    assert sum(seen) == expected


def test_an_accelerator_is_not_waited_for() -> None:
    """What lies on another device is not read: a mask there answers that it would have to look."""
    block = Block.whole(2, 2)
    assert Keys(torch.ones(1, 2, dtype=torch.bool, device="meta")).sees(block) is Sees.MIXED
    assert Segments(torch.zeros(2, dtype=torch.int64, device="meta")).sees(block) is Sees.MIXED


def test_spans_and_blocks() -> None:
    assert [tuple(piece) for piece in Span(3, 8).blocks(2)] == [(3, 5), (5, 7), (7, 8)]
    assert Span(3, 8).moved(-2) == (1, 6)
    assert Span(1, 3).numbers(CPU).tolist() == [1, 2]
    assert Block.whole(2, 5).positions == (3, 5)
    assert Block(Span(0, 0), Span(0, 3), 4, 3).is_empty and not Block.whole(1, 1).is_empty


@pytest.mark.parametrize("keys", [torch.ones(2, 3), torch.ones(3).bool(), torch.ones(1, 1, 3).bool()])
def test_keys_must_be_a_boolean_table(keys: Tensor) -> None:
    with pytest.raises(ShapeError, match=r"Keys takes a boolean tensor `b k`.*Got torch\.\w+ of shape \("):
        Keys(keys)


@pytest.mark.parametrize("ids", [torch.zeros(3), torch.zeros(3, dtype=torch.int32), torch.zeros(1, 1, 3).long()])
def test_segments_must_be_numbers_of_segments(ids: Tensor) -> None:
    with pytest.raises(ShapeError, match=r"Segments takes the segment of each token, int64.*Got torch\.\w+ of shape"):
        Segments(ids)
    with pytest.raises(ShapeError, match="Segments takes"):
        Segments(torch.zeros(3, dtype=torch.int64), ids)


@pytest.mark.parametrize("said", [torch.ones(2, 2), torch.ones(1, 2, 2).bool()], ids=["numbers", "three dimensions"])
def test_a_rule_must_give_a_boolean_table(said: Tensor) -> None:
    with pytest.raises(ShapeError, match=r"rule of Where must give a boolean tensor `q k`. Got"):
        Where(lambda *_: said).allowed(Block.whole(2, 2), CPU)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Window(-1, 0), "left option must be at least 0. Got -1"),
        (lambda: Window(0, -2), "right option must be at least 0. Got -2"),
        (lambda: Prefix(-1), "n option must be at least 0. Got -1"),
        (lambda: Global([]), r"positions of tokens, each at least 0. Got \[\]"),
        (lambda: Global([3, -1]), r"each at least 0. Got \[3, -1\]"),
    ],
)
def test_numbers_that_are_no_mask(make: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()  # pyright: ignore[reportCallIssue]


def test_masks_of_numbers_are_values() -> None:
    assert Causal() & Window(1, 2) == Causal() & Window(1, 2)
    assert hash(Global([2, 1, 2])) == hash(Global((1, 2)))
    assert Window(1, 2) != Window(2, 1)


@pytest.mark.parametrize(
    ("mask", "n"), [(Keys(torch.ones(2, 90).bool()), 2 * 10), (Segments(torch.zeros(2, 90).long()), 2 * 10)], ids=str
)
def test_only_the_block_goes_to_the_device(mask: Mask, n: int) -> None:
    moved: list[int] = []

    class Moved(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func is torch.ops.aten._to_copy.default:
                moved.append(args[0].numel())
            return func(*args, **(kwargs or {}))

    with Moved():
        mask.allowed(Block(Span(0, 10), Span(20, 30), 90, 90), torch.device("meta"))
    assert moved and set(moved) == {n}


def test_one_global_token_needs_no_list() -> None:
    assert Global(3) == Global([3])
