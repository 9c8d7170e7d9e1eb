"""The blockwise kernel: blocks of any size, blocks that are never touched, memory that grows with n."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from huiyan.attention.blocks import Block, Sees, Span
from huiyan.attention.dropout import Dropout
from huiyan.attention.kernels import blockwise
from huiyan.attention.kernels.blockwise import attend_blockwise, blocks_for
from huiyan.attention.kernels.seen import seen_columns
from huiyan.attention.kernels.tiles import Tile
from huiyan.attention.masks import Causal, Global, Keys, Mask, Prefix, Segments, Where, Window
from huiyan.attention.oracle import attend_by_formula
from huiyan.attention.positions.relative import RelativeTerms
from huiyan.attention.scoring import Scoring

H, G, D = 4, 2, 4


def draw(*shapes: tuple[int, ...], dtype: torch.dtype = torch.float64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes]


def everything(n: int = 40, *, mask: Mask | None = None) -> Scoring:
    """All variants at once; the tables end before the map does, on both sides."""
    bias, keys, queries, values, sinks = draw((H, n), (1, n, D), (H, n, D), (1, n, D), (H,))
    terms = RelativeTerms(lowest=-n // 2, bias=bias, keys=keys, queries=queries, values=values)
    dropout = Dropout(0.3, 9)
    return Scoring(scale=0.4, mask=mask, terms=terms, soft_cap=4.0, sinks=sinks, dropout=dropout)


def derived(kernel: Callable[..., Tensor], inputs: list[Tensor], scoring: Scoring) -> list[Tensor]:
    """The output and every gradient."""
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    tensors = [None if x is None else x.detach().clone().requires_grad_() for x in scoring.tensors()]
    out = kernel(*leaves, scoring.with_tensors(tensors))
    wanted = [*leaves, *(x for x in tensors if x is not None)]
    return [out, *torch.autograd.grad((out * torch.linspace(-1, 1, D)).sum(), wanted)]


@pytest.mark.parametrize("size", [16, 32, 64, 100, 128, 1000])
@pytest.mark.parametrize("sizes", [(130, 130), (20, 130), (130, 70)], ids=str)
def test_the_size_of_a_block_changes_nothing(size: int, sizes: tuple[int, int]) -> None:
    """With every variant, dropout among them, in the output and in every gradient."""
    inputs = draw((2, H, sizes[0], D), (2, G, sizes[1], D), (2, G, sizes[1], D))
    scoring = everything(mask=~Global([3]) & (Causal() | Prefix(30)))
    expected = derived(attend_by_formula, inputs, scoring)
    given = derived(lambda *x: attend_blockwise(*x, block_size=size), inputs, scoring)
    torch.testing.assert_close(given, expected, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("numbers", [1, 64 * 64, 64 * 64 * 2, 64 * 64 * 5])
def test_sequences_and_heads_may_be_taken_a_few_at_a_time(numbers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as fill a tile: one key head, a sequence, two. Nothing changes, with masks and dropout of each own."""
    monkeypatch.setattr(blockwise, "_TILE_NUMBERS", {"cpu": numbers})
    n = 70
    inputs = draw((3, H, n, D), (3, G, n, D), (3, G, n, D))
    scoring = everything(mask=Keys(torch.arange(n) % 5 != torch.tensor([[0], [1], [2]])))
    given = derived(lambda *x: attend_blockwise(*x, block_size=64), inputs, scoring)
    torch.testing.assert_close(given, derived(attend_by_formula, inputs, scoring), atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize(
    "mask",
    [
        Window(30, 30),
        Causal(),
        Prefix(64),
        Keys((torch.arange(256) < 128)[None]),
        Segments(torch.arange(256) // 64),
        Window(0, 0) | Global([0]),
        ~Window(200, 200),
    ],
    ids=str,
)
def test_blocks_that_nobody_sees_are_not_touched(mask: Mask) -> None:
    """NaN in the keys and values of every block of 64 that the rows do not see stays out of what they give."""
    (q,) = draw((1, 2, 256, D))
    clean = draw((1, 2, 256, D), (1, 2, 256, D))
    for block_of_rows in range(4):
        rows = slice(64 * block_of_rows, 64 * block_of_rows + 64)
        allowed = mask.allowed(blockwise.Block.whole(256, 256), q.device).expand(1, 1, 256, 256)[0, 0, rows]
        unseen = ~allowed.unflatten(1, (4, 64)).any(2).any(0).repeat_interleave(64)
        k, v = (x.masked_fill(unseen[:, None], torch.nan) for x in clean)
        out = attend_blockwise(q, k, v, Scoring(scale=1.0, mask=mask), block_size=64)
        expected = attend_by_formula(q, *clean, Scoring(scale=1.0, mask=mask))
        torch.testing.assert_close(out[:, :, rows], expected[:, :, rows])


def test_some_of_those_masks_do_hide_blocks() -> None:
    """What the test above would not notice: that nothing was poisoned."""
    (x,) = draw((1, 2, 256, D))
    poisoned = x.clone()
    poisoned[:, :, 128:192] = torch.nan
    out = attend_blockwise(x, poisoned, poisoned, Scoring(scale=1.0, mask=Window(30, 30)), block_size=64)
    finite = out.isfinite().all(-1)[0, 0].tolist()
    assert finite[:64] == [True] * 64 and not any(finite[128:192])


@pytest.mark.parametrize("passes", ["forward", "backward"])
def test_tiles_of_a_window_grow_with_n(passes: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three a row of blocks: O(n · w), in both passes."""
    made: list[int] = []

    class Counted(Tile):
        def __post_init__(self) -> None:
            super().__post_init__()
            made.append(1)

    monkeypatch.setattr(blockwise, "Tile", Counted)
    counts = []
    for n in (512, 1024, 2048):
        x = torch.randn(1, 1, n, 2).requires_grad_()
        made.clear()
        out = attend_blockwise(x, x, x, Scoring(scale=1.0, mask=Window(64, 64)), block_size=64)
        if passes == "backward":
            made.clear()
            out.sum().backward()
        counts.append(len(made))
    assert counts == [3 * n // 64 - 2 for n in (512, 1024, 2048)]


def test_what_is_kept_for_the_backward_pass_grows_with_n() -> None:
    """Inputs, output and one number a row; no n² map, with every variant."""
    kept = []
    for n in (128, 256, 512):
        sizes: dict[int, int] = {}
        q, k, v = (x.requires_grad_() for x in draw((1, H, n, D), (1, G, n, D), (1, G, n, D)))

        def pack(x: Tensor) -> Tensor:
            sizes[x.data_ptr()] = x.untyped_storage().nbytes()  # noqa: B023 - called in this turn of the loop
            return x

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            attend_blockwise(q, k, v, everything(mask=Causal()), block_size=64)
        kept.append(sum(sizes.values()))
    assert kept[2] - kept[1] == 2 * (kept[1] - kept[0])
    assert kept[2] - kept[1] == 8 * 256 * (H * (2 * D + 1) + G * 2 * D)


def test_a_row_that_sees_nothing_is_0_and_so_are_its_gradients() -> None:
    inputs = draw((2, H, 70, D), (2, G, 70, D), (2, G, 70, D))
    keys = torch.ones(2, 70, dtype=torch.bool)
    keys[1] = False
    for scoring in (Scoring(scale=1.0, mask=Keys(keys)), everything(mask=Keys(keys))):
        out, d_q, d_k, d_v, *others = derived(lambda *x: attend_blockwise(*x, block_size=64), inputs, scoring)
        assert not any(x[1].any() for x in (out, d_q, d_k, d_v))
        assert out[0].any() and all(x.isfinite().all() for x in (out, d_q, d_k, d_v, *others))


def test_gradients_are_given_where_they_are_wanted() -> None:
    """A frozen key, and a table that alone learns."""
    q, k, v = draw((1, H, 5, D), (1, G, 5, D), (1, G, 5, D))
    scoring = everything()
    expected = derived(attend_by_formula, [q, k, v], scoring)
    tensors = [x.requires_grad_() if i == 0 and x is not None else x for i, x in enumerate(scoring.tensors())]
    out = attend_blockwise(q, k, v, scoring.with_tensors(tensors))
    (d_bias,) = torch.autograd.grad((out * torch.linspace(-1, 1, D)).sum(), tensors[0])  # pyright: ignore[reportArgumentType]
    torch.testing.assert_close(d_bias, expected[4])


def test_inputs_are_left_as_they_were() -> None:
    inputs = draw((1, H, 70, D), (1, G, 70, D), (1, G, 70, D))
    scoring = everything(mask=Causal())
    copies = [x.clone() for x in (*inputs, *(x for x in scoring.tensors() if x is not None))]
    derived(attend_blockwise, inputs, scoring)
    out = attend_blockwise(*(x.requires_grad_() for x in inputs), scoring)
    out.sum().backward()
    after = [*inputs, *(x for x in scoring.tensors() if x is not None)]
    assert all(torch.equal(one.detach(), other) for one, other in zip(after, copies, strict=True))


@pytest.mark.parametrize("n", [0, 1, 64, 65, 300, 5000])
@pytest.mark.parametrize(("left", "right"), [(0, 0), (31, 32), (64, 64), (2000, 0)])
def test_blocks_are_whole_tiles_and_no_wider_than_a_window_needs(n: int, left: int, right: int) -> None:
    """Beside a narrow window, half a block on either side is computed in vain; a tile of dropout is 64 wide."""
    free = blocks_for(n, n, Scoring(scale=1.0))
    blocks = blocks_for(n, n, Scoring(scale=1.0, mask=Window(left, right) | Global([0])))
    for size, without in zip(blocks, free, strict=True):
        assert size % 64 == 0 and 64 <= size <= without
        assert size < max(128, 2 * (left + right + 1))
        assert without <= max(64, 2 * n)


@pytest.mark.parametrize("size", [None, 64])
@pytest.mark.parametrize("n", [1, 64, 65, 600])
def test_a_rule_in_python_is_asked_block_by_block(size: int | None, n: int) -> None:
    q, k, v = draw((1, H, n, D), (1, G, n, D), (1, G, n, D))
    options: dict[str, Any] = {"scale": 0.5, "mask": Where(lambda row, column: (row * 7 + column * 3) % 5 < 2)}
    out = attend_blockwise(q, k, v, Scoring(**options), block_size=size)
    torch.testing.assert_close(out, attend_by_formula(q, k, v, Scoring(**options)))


def test_a_sink_of_minus_infinity_is_none() -> None:
    """Also where the first tile of a row is hidden: the difference of two infinities would be NaN."""
    q, k, v = torch.randn(3, 1, 2, 200, 4, dtype=torch.float64).unbind()
    no_sinks = torch.full((2,), -torch.inf, dtype=torch.float64)
    mask = ~Prefix(64)
    out = attend_blockwise(q, k, v, Scoring(scale=0.5, mask=mask, sinks=no_sinks), block_size=64)
    torch.testing.assert_close(out, attend_blockwise(q, k, v, Scoring(scale=0.5, mask=mask)))


@pytest.mark.parametrize(
    "mask",
    [
        Causal(),
        Window(3, 40),
        Prefix(70),
        ~Window(90, 10),
        Window(2, 2) | Global([0, 150]),
        Keys(torch.arange(333) % 200 > torch.tensor([[90], [150]])),
        Segments(torch.arange(200) // 50, torch.arange(333) // 70) & ~Prefix(16),
        Where(lambda row, column: column < row),
    ],
    ids=str,
)
def test_wide_questions_find_the_blocks_that_narrow_ones_find(mask: Mask) -> None:
    for size in (16, 64, 1000):
        for rows in Span(0, 200).blocks(64):
            blocks = {columns: mask.sees(Block(rows, columns, 200, 333)) for columns in Span(0, 333).blocks(size)}
            expected = [(columns, sees) for columns, sees in blocks.items() if sees is not Sees.NONE]
            assert list(seen_columns(mask, rows, 200, 333, size)) == expected
    assert list(seen_columns(mask, Span(0, 64), 200, 0, 16)) == []


def test_questions_about_a_window_grow_as_n_log_n(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is skipped must cost next to nothing: every block asked by itself would be 16 times as many each time."""
    counts: list[int] = []
    sees = Window.sees

    def counted(self: Window, block: Block) -> Sees:
        counts[-1] += 1
        return sees(self, block)

    monkeypatch.setattr(Window, "sees", counted)
    for n in (4096, 16_384):
        counts.append(0)
        for rows in Span(0, n).blocks(64):
            list(seen_columns(Window(64, 64), rows, n, n, 64))
    assert counts[0] <= 64 * 2 * 4 * 6 and counts[1] <= 256 * 2 * 4 * 8


def test_a_blind_row_is_0_where_tiny_numbers_are_flushed() -> None:
    """A share of the smallest number, by which such a row is divided, is no number there."""
    x = torch.randn(1, 1, 8, 4)
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor flushes nothing")
    try:
        out = attend_blockwise(x, x, x, Scoring(scale=1.0, mask=Prefix(0), dropout=Dropout(0.5, 0)))
    finally:
        torch.set_flush_denormal(False)
    assert torch.equal(out, torch.zeros_like(x))
