"""What must hold of attention whatever the numbers: laws, on inputs that hypothesis thinks of."""

from dataclasses import dataclass

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from huiyan.attention.functional import attend
from huiyan.attention.masks import Causal, Keys, Mask

EXACT = {"atol": 1e-12, "rtol": 1e-12}  # float64: only the order of sums may differ


@dataclass(frozen=True)
class Input:
    """Packed queries, keys and values in float64, of sequences that may be empty."""

    q: Tensor
    k: Tensor
    v: Tensor
    lengths: list[int]
    key_lengths: list[int]

    def attend(self, mask: Mask | None, **options: float) -> Tensor:
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
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    shapes = (sum(lengths), g * repeats, d), (sum(key_lengths), g, d), (sum(key_lengths), g, d)
    size = draw(st.sampled_from([1.0, 30.0]))
    q, k, v = (torch.randn(shape, generator=generator, dtype=torch.float64) * size for shape in shapes)
    return Input(q, k, v, lengths, key_lengths)


masks = st.sampled_from([None, Causal()])


@given(inputs(), masks)
def test_packed_is_one_by_one(given_: Input, mask: Mask | None) -> None:
    alone = [attend(*qkv, mask=mask)[0].transpose(0, 1) for qkv in given_.sequences()]
    torch.testing.assert_close(given_.attend(mask), torch.cat(alone), **EXACT)


@given(inputs(), masks)
def test_the_fast_path_is_the_formula(given_: Input, mask: Mask | None) -> None:
    torch.testing.assert_close(given_.attend(mask), given_.attend(mask, kernel="oracle"), **EXACT)


@given(inputs(same_lengths=True), st.data())
def test_nothing_later_reaches_a_causal_row(given_: Input, data: st.DataObject) -> None:
    """Shaking the keys and values from one token on leaves every row before it as it was."""
    before = given_.attend(Causal())
    starts = torch.tensor([0, *given_.lengths]).cumsum(0)
    for i, length in enumerate(given_.lengths):
        if length:
            cut = int(starts[i]) + data.draw(st.integers(0, length - 1))
            k, v = given_.k.clone(), given_.v.clone()
            k[cut : int(starts[i + 1])] += 100.0
            v[cut : int(starts[i + 1])] -= 100.0
            after = Input(given_.q, k, v, given_.lengths, given_.key_lengths).attend(Causal())
            torch.testing.assert_close(after[:cut], before[:cut], **EXACT)
            torch.testing.assert_close(after[int(starts[i + 1]) :], before[int(starts[i + 1]) :], **EXACT)


@given(inputs())
def test_every_row_is_a_weighted_mean_of_its_values(given_: Input) -> None:
    """Weights that sum to 1 keep each row between the least and the greatest value it sees."""
    constant = Input(given_.q, given_.k, torch.ones_like(given_.v), given_.lengths, given_.key_lengths)
    sees = torch.tensor(given_.key_lengths).repeat_interleave(torch.tensor(given_.lengths)) > 0
    expected = sees.double()[:, None, None].expand_as(given_.q)
    torch.testing.assert_close(constant.attend(None), expected, **EXACT)


@given(
    st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=1, max_size=4),
    st.booleans(),
    st.integers(1, 6),
    st.integers(0, 2**31),
)
def test_hidden_keys_do_not_exist(keys: list[list[bool]], causal: bool, n_queries: int, seed: int) -> None:
    """Rows that see nothing are 0 with finite gradients; what is hidden may hold anything, and gets no gradient."""
    allowed = torch.tensor(keys)
    generator = torch.Generator().manual_seed(seed)
    q, k, v = (
        torch.randn(len(keys), 2, n, 3, generator=generator, dtype=torch.float64).requires_grad_()
        for n in (n_queries, 4, 4)
    )
    mask = Causal() & Keys(allowed) if causal else Keys(allowed)
    out = attend(q, k, v, mask=mask)

    sees = mask.allowed(n_queries, 4, out.device).any(-1).expand(len(keys), 2, n_queries)
    assert not out[~sees].any()
    gradients = torch.autograd.grad(out.sin().sum(), (q, k, v))
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert not gradients[0][~sees].any()
    hidden = (~allowed)[:, None, :, None]
    assert not any(gradient.masked_select(hidden).any() for gradient in gradients[1:])
    other = attend(q, k.masked_fill(hidden, 50.0), v.masked_fill(hidden, -50.0), mask=mask)
    torch.testing.assert_close(other, out, **EXACT)


@given(inputs(same_lengths=True))
def test_order_of_sequences_does_not_matter(given_: Input) -> None:
    turned = Input(
        *(torch.cat(x.split(given_.lengths)[::-1]) for x in (given_.q, given_.k, given_.v)),
        given_.lengths[::-1],
        given_.key_lengths[::-1],
    )
    back = torch.cat(turned.attend(None).split(turned.lengths)[::-1])
    torch.testing.assert_close(back, given_.attend(None), **EXACT)
