"""A tile of scores against the definition, pair by pair, and the views it is built on."""

from itertools import product

import pytest
import torch
from torch import Tensor

from huiyan.attention.kernels.blockwise import attend_blockwise
from huiyan.attention.kernels.tiles import Workspace, folded, per_head, skewed
from huiyan.attention.oracle import attend_by_formula
from huiyan.attention.positions.relative import TENSORS, RelativeTerms
from huiyan.attention.scoring import Scoring


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (1, 4), (4, 1), (3, 5), (5, 3), (6, 6)])
def test_skewing_moves_each_row_one_place_further(rows: int, columns: int) -> None:
    x = torch.arange(2.0 * rows * (rows + columns - 1)).view(2, rows, rows + columns - 1)
    moved = skewed(x, columns)
    for head, i, j in product(range(2), range(rows), range(columns)):
        assert moved[head, i, j] == x[head, i, j - i + rows - 1]
    assert moved.untyped_storage().data_ptr() == x.untyped_storage().data_ptr()


def test_heads_that_share_a_key_head_are_rows_of_one_matrix() -> None:
    q, k = torch.randn(2, 6, 3, 4), torch.randn(2, 2, 5, 4)
    products = (folded(q, 2) @ folded(k, 2).mT).view(2, 6, 3, 5)
    torch.testing.assert_close(products, q @ per_head(k, 6).mT)
    assert per_head(q, 6) is q


def test_a_buffer_is_made_once_for_a_name_and_a_shape() -> None:
    space = Workspace(torch.zeros(1, dtype=torch.float64))
    buffer = space.buffer("a", 2, 3)
    assert buffer.dtype == torch.float64 and not buffer.any()
    buffer.fill_(7)
    assert space.buffer("a", 2, 3) is buffer
    assert not space.buffer("b", 2, 3).any() and not space.buffer("a", 3, 2).any()


def table(shape: tuple[int, ...], *, turned: bool) -> Tensor:
    """Numbers that lie in memory as the shape says, or with its last two dimensions the other way round."""
    generator = torch.Generator().manual_seed(len(shape))
    if turned:
        return torch.randn(*shape[:-2], shape[-1], shape[-2], generator=generator, dtype=torch.float64).mT
    return torch.randn(shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("turned", [False, True], ids=["rows in a row", "rows in columns"])
@pytest.mark.parametrize(("lowest", "n_rows"), [(-129, 259), (-20, 41), (-3, 1), (5, 4), (-300, 600), (-129, 130)])
@pytest.mark.parametrize("name", TENSORS[:4])
@pytest.mark.parametrize("sizes", [(130, 130), (70, 130), (1, 65)], ids=str)
def test_each_table_is_read_where_the_offset_says(
    name: str, lowest: int, n_rows: int, sizes: tuple[int, int], turned: bool
) -> None:
    """Tables that end within the map, beyond it, or to one side of it; and one that is a transposed view."""
    h, g, d = 4, 2, 6
    shape = {"bias": (h, n_rows), "keys": (1, n_rows, d), "queries": (h, n_rows, d), "values": (1, n_rows, d)}[name]
    generator = torch.Generator().manual_seed(0)
    shapes = (2, h, sizes[0], d), (2, g, sizes[1], d), (2, g, sizes[1], d)
    inputs = [torch.randn(x, generator=generator, dtype=torch.float64).requires_grad_() for x in shapes]
    own = table(shape, turned=turned).requires_grad_()
    results = []
    for kernel in (attend_by_formula, lambda *x: attend_blockwise(*x, block_size=64)):
        out = kernel(*inputs, Scoring(scale=0.4, terms=RelativeTerms(lowest=lowest, **{name: own})))
        results.append([out, *torch.autograd.grad(out.sin().sum(), [*inputs, own])])
    torch.testing.assert_close(*results, atol=1e-11, rtol=1e-11)
