"""What must hold of attention whatever the numbers: laws, on inputs that hypothesis thinks of."""

from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from huiyan.attention.blocks import Block, Sees, Span
from huiyan.attention.functional import attend
from huiyan.attention.kernels.blockwise import attend_blockwise
from huiyan.attention.mask_text import mask_as_text, mask_from_text
from huiyan.attention.masks import Causal, Global, Keys, Mask, Prefix, Segments, Where, Window
from huiyan.attention.oracle import attend_by_formula
from huiyan.attention.positions.alibi import Alibi
from huiyan.attention.positions.disentangled import Disentangled
from huiyan.attention.positions.rotary import Rotary
from huiyan.attention.positions.shaw import ShawRelative
from huiyan.attention.positions.t5 import T5Bias
from huiyan.attention.positions.xl import XLRelative
from huiyan.attention.scoring import Scoring

EXACT = {"atol": 1e-11, "rtol": 1e-11}  # float64: only the order of sums may differ
CPU = torch.device("cpu")
seeds = st.integers(0, 2**31)

small = st.integers(0, 5)
numbers_only = st.one_of(
    st.just(Causal()),
    st.builds(Window, small, small),
    st.builds(Prefix, small),
    st.lists(st.integers(0, 7), min_size=1, max_size=3).map(Global),
)


def combined(simple: st.SearchStrategy[Mask]) -> st.SearchStrategy[Mask]:
    """Expressions of any depth with ``&``, ``|`` and ``~``."""
    return st.recursive(
        simple,
        lambda inner: st.one_of(
            st.builds(lambda a, b: a & b, inner, inner),
            st.builds(lambda a, b: a | b, inner, inner),
            inner.map(lambda mask: ~mask),
        ),
        max_leaves=6,
    )


packed_masks = st.none() | combined(numbers_only)


def dense_masks(b: int, n_queries: int, n_keys: int) -> st.SearchStrategy[Mask]:
    """All masks there are, those that hold tensors among them."""

    def ids(rows: int, n: int) -> st.SearchStrategy[Tensor]:
        flat = st.lists(st.integers(0, 2), min_size=rows * n, max_size=rows * n)
        return flat.map(lambda x: torch.tensor(x, dtype=torch.int64).view(rows, n))

    keys = ids(b, n_keys).map(lambda x: Keys(x > 0))
    segments = st.sampled_from([1, b]).flatmap(
        lambda rows: st.builds(Segments, ids(rows, n_queries), ids(rows, n_keys))
    )
    rules = st.builds(lambda a, m: Where(lambda row, column: (row * a + column) % m != 0), small, st.integers(1, 4))
    return combined(st.one_of(numbers_only, keys, segments, rules))


@dataclass(frozen=True)
class Input:
    """Packed queries, keys and values in float64, of sequences that may be empty."""

    q: Tensor
    k: Tensor
    v: Tensor
    lengths: list[int]
    key_lengths: list[int]

    def attend(self, mask: Mask | None, **options: Any) -> Tensor:
        lengths = {"lengths": torch.tensor(self.lengths), "key_lengths": torch.tensor(self.key_lengths)}
        return attend(self.q, self.k, self.v, **lengths, mask=mask, **options)

    def sequences(self) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Each by itself, as a dense batch of one."""
        parts = (self.q.split(self.lengths), self.k.split(self.key_lengths), self.v.split(self.key_lengths))
        return [tuple(x.transpose(0, 1)[None] for x in qkv) for qkv in zip(*parts, strict=True)]  # pyright: ignore[reportReturnType] - three of them


@st.composite
def inputs(draw: st.DrawFn, *, same_lengths: bool = False) -> Input:
    sizes = st.integers(0, 6)
    lengths = draw(st.lists(sizes, min_size=1, max_size=5))
    n = len(lengths)
    key_lengths = lengths if same_lengths else draw(st.lists(sizes, min_size=n, max_size=n))
    g, repeats, d = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 9))
    generator = torch.Generator().manual_seed(draw(seeds))
    shapes = (sum(lengths), g * repeats, d), (sum(key_lengths), g, d), (sum(key_lengths), g, d)
    size = draw(st.sampled_from([1.0, 30.0]))
    q, k, v = (torch.randn(shape, generator=generator, dtype=torch.float64) * size for shape in shapes)
    return Input(q, k, v, lengths, key_lengths)


@st.composite
def positions(draw: st.DrawFn, n_heads: int, head_width: int) -> nn.Module | None:
    """One of all schemes, with random parameters."""
    far = draw(st.integers(1, 6))
    made = {
        "none": lambda: None,
        "alibi": lambda: Alibi(n_heads),
        "t5": lambda: T5Bias(n_heads, n_buckets=8, max_distance=2 + far, bidirectional=draw(st.just(True))),
        "shaw": lambda: ShawRelative(head_width, far, n_heads=draw(st.sampled_from([None, n_heads]))),
        "xl": lambda: XLRelative(4, n_heads, head_width=head_width, clamp_length=draw(st.sampled_from([None, far]))),
        "disentangled": lambda: Disentangled(4, n_heads, head_width=head_width, max_relative_positions=far),
    }
    if head_width % 2 == 0:
        made["rotary"] = lambda: Rotary(head_width)
    module = made[draw(st.sampled_from(sorted(made)))]()
    if module is not None:
        module.double()
        generator = torch.Generator().manual_seed(draw(seeds))
        for parameter in module.parameters():
            nn.init.normal_(parameter, std=0.5, generator=generator)
    return module


@st.composite
def variants(draw: st.DrawFn, n_heads: int, head_width: int) -> dict[str, Any]:
    """Position, cap, sinks and dropout, each there or not."""
    found: dict[str, Any] = {"position": draw(positions(n_heads, head_width))}
    if draw(st.booleans()):
        found["soft_cap"] = draw(st.sampled_from([0.5, 30.0]))
    if draw(st.booleans()):
        found["sinks"] = torch.linspace(-2, 2, n_heads, dtype=torch.float64)
    if draw(st.booleans()):
        found |= {"dropout": draw(st.sampled_from([0.1, 0.7])), "seed": draw(seeds)}
    return found


@given(inputs(), packed_masks, st.data())
def test_packed_is_one_by_one(given_: Input, mask: Mask | None, data: st.DataObject) -> None:
    """Without dropout, which knows each sequence by its number."""
    options = data.draw(variants(given_.q.shape[1], given_.q.shape[2]))
    options.pop("dropout", None)
    alone = [attend(*qkv, mask=mask, **options)[0].transpose(0, 1) for qkv in given_.sequences()]
    torch.testing.assert_close(given_.attend(mask, **options), torch.cat(alone), **EXACT)


@given(inputs(), packed_masks, st.sampled_from(["packed", "blockwise"]), st.data())
def test_packed_kernels_are_the_formula(given_: Input, mask: Mask | None, kernel: str, data: st.DataObject) -> None:
    options = data.draw(variants(given_.q.shape[1], given_.q.shape[2]))
    expected = given_.attend(mask, kernel="oracle", **options)
    torch.testing.assert_close(given_.attend(mask, kernel=kernel, **options), expected, **EXACT)


@given(st.integers(1, 3), st.integers(0, 7), st.integers(0, 7), st.integers(1, 3), seeds, st.data())
def test_dense_kernels_are_the_formula(b: int, q: int, k: int, repeats: int, seed: int, data: st.DataObject) -> None:
    """Any mask expression, any position, outputs and gradients."""
    h, d = 2 * repeats, data.draw(st.integers(1, 5))
    mask = data.draw(st.none() | dense_masks(b, q, k))
    options = data.draw(variants(h, d))
    generator = torch.Generator().manual_seed(seed)
    shapes = (b, h, q, d), (b, 2, k, d), (b, 2, k, d)
    leaves = [torch.randn(x, generator=generator, dtype=torch.float64).requires_grad_() for x in shapes]
    kernels = ["blockwise", "auto"]
    if options.keys() == {"position"} and isinstance(options["position"], Rotary | None):
        kernels.append("sdpa")

    def derived(kernel: Any) -> list[Tensor]:
        out = attend(*leaves, mask=mask, kernel=kernel, **options)
        return [out, *torch.autograd.grad(out.sin().sum(), leaves)]

    expected = derived("oracle")
    for kernel in kernels:
        torch.testing.assert_close(derived(kernel), expected, **EXACT)


@given(st.integers(1, 80), st.integers(1, 80), st.integers(1, 70), st.integers(1, 70), st.data())
def test_blocks_of_any_two_sizes_give_one_result(q: int, k: int, one: int, other: int, data: st.DataObject) -> None:
    """Dropout among it, over one or two of its own tiles."""
    generator = torch.Generator().manual_seed(0)
    shapes = (1, 2, q, 3), (1, 2, k, 3), (1, 2, k, 3)
    qkv = [torch.randn(x, generator=generator, dtype=torch.float64) for x in shapes]
    mask = data.draw(st.none() | combined(numbers_only))
    from_seed = attend(*qkv, mask=mask, dropout=0.5, seed=1, kernel="oracle")
    scoring = Scoring(scale=3**-0.5, mask=mask)
    results = [attend_blockwise(*qkv, scoring, block_size=size) for size in (one, other)]
    torch.testing.assert_close(results[0], results[1], **EXACT)
    torch.testing.assert_close(results[0], attend_by_formula(*qkv, scoring), **EXACT)
    torch.testing.assert_close(attend(*qkv, mask=mask, dropout=0.5, seed=1, kernel="blockwise"), from_seed, **EXACT)


@given(st.integers(1, 2), st.integers(1, 8), st.integers(1, 8), st.data())
def test_masks_answer_truly_for_every_block(b: int, q: int, k: int, data: st.DataObject) -> None:
    """A block is a part of the whole; all and none are true; and what is combined is combined cell by cell."""
    one, other = data.draw(dense_masks(b, q, k)), data.draw(dense_masks(b, q, k))
    whole = Block.whole(q, k)
    tables = [mask.allowed(whole, CPU).expand(b, 1, q, k) for mask in (one, other)]
    for mask, table in (
        (one & other, tables[0] & tables[1]),
        (one | other, tables[0] | tables[1]),
        (~one, ~tables[0]),
    ):
        assert torch.equal(mask.allowed(whole, CPU).expand(b, 1, q, k), table)
        first_row, first_column = data.draw(st.integers(0, q - 1)), data.draw(st.integers(0, k - 1))
        rows = Span(first_row, data.draw(st.integers(first_row + 1, q)))
        columns = Span(first_column, data.draw(st.integers(first_column + 1, k)))
        block = Block(rows, columns, q, k)
        part = table[:, :, rows.start : rows.stop, columns.start : columns.stop]
        assert torch.equal(mask.allowed(block, CPU).expand(part.shape), part)
        sees = mask.sees(block)
        assert sees is not Sees.ALL or bool(part.all())
        assert sees is not Sees.NONE or not bool(part.any())


@given(combined(numbers_only))
def test_masks_of_numbers_survive_as_text(mask: Mask) -> None:
    assert mask_from_text(mask_as_text(mask)) == mask


@given(inputs(same_lengths=True), st.data())
def test_nothing_later_reaches_a_causal_row(given_: Input, data: st.DataObject) -> None:
    """Shaking the keys and values from one token on leaves every row before it as it was."""
    options = data.draw(variants(given_.q.shape[1], given_.q.shape[2]))
    mask = data.draw(st.just(Causal()) | combined(numbers_only).map(lambda other: Causal() & other))
    before = given_.attend(mask, **options)
    starts = torch.tensor([0, *given_.lengths]).cumsum(0)
    for i, length in enumerate(given_.lengths):
        if length:
            cut = int(starts[i]) + data.draw(st.integers(0, length - 1))
            k, v = given_.k.clone(), given_.v.clone()
            k[cut : int(starts[i + 1])] += 100.0
            v[cut : int(starts[i + 1])] -= 100.0
            after = Input(given_.q, k, v, given_.lengths, given_.key_lengths).attend(mask, **options)
            torch.testing.assert_close(after[:cut], before[:cut], **EXACT)
            torch.testing.assert_close(after[int(starts[i + 1]) :], before[int(starts[i + 1]) :], **EXACT)


@given(inputs())
def test_every_row_is_a_weighted_mean_of_its_values(given_: Input) -> None:
    """Weights that sum to 1 keep each row between the least and the greatest value it sees."""
    constant = Input(given_.q, given_.k, torch.ones_like(given_.v), given_.lengths, given_.key_lengths)
    sees = torch.tensor(given_.key_lengths).repeat_interleave(torch.tensor(given_.lengths)) > 0
    expected = sees.double()[:, None, None].expand_as(given_.q)
    torch.testing.assert_close(constant.attend(None), expected, **EXACT)


@given(st.integers(1, 3), st.integers(1, 6), st.sampled_from(["oracle", "sdpa", "blockwise"]), seeds, st.data())
def test_hidden_keys_do_not_exist(b: int, n_queries: int, kernel: str, seed: int, data: st.DataObject) -> None:
    """Rows that see nothing are 0 with finite gradients; what nobody sees may hold anything, and gets no gradient."""
    mask = data.draw(dense_masks(b, n_queries, 4))
    generator = torch.Generator().manual_seed(seed)
    q, k, v = (
        torch.randn(b, 2, n, 3, generator=generator, dtype=torch.float64).requires_grad_() for n in (n_queries, 4, 4)
    )
    out = attend(q, k, v, mask=mask, kernel=kernel)

    allowed = mask.allowed(Block.whole(n_queries, 4), CPU).expand(b, 2, n_queries, 4)
    blind, hidden = ~allowed.any(-1), ~allowed.any(-2)[..., None]
    assert not out[blind].any()
    gradients = torch.autograd.grad(out.sin().sum(), (q, k, v))
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert not gradients[0][blind].any()
    assert not any(gradient.masked_select(hidden).any() for gradient in gradients[1:])
    other = attend(q, k.masked_fill(hidden, 50.0), v.masked_fill(hidden, -50.0), mask=mask, kernel=kernel)
    torch.testing.assert_close(other, out, **EXACT)


@given(inputs(same_lengths=True), packed_masks)
def test_order_of_sequences_does_not_matter(given_: Input, mask: Mask | None) -> None:
    turned = Input(
        *(torch.cat(x.split(given_.lengths)[::-1]) for x in (given_.q, given_.k, given_.v)),
        given_.lengths[::-1],
        given_.key_lengths[::-1],
    )
    back = torch.cat(turned.attend(mask).split(turned.lengths)[::-1])
    torch.testing.assert_close(back, given_.attend(mask), **EXACT)
