"""Learnt rows, and the end of the table."""

import pytest
import torch
from beartype import beartype
from jaxtyping import jaxtyped

from huiyan.attention.positions.learned import Learned
from huiyan.core.errors import ConfigError, ShapeError

checked = jaxtyped(typechecker=beartype)


def test_each_position_adds_its_row() -> None:
    module, x = Learned(6, 4), torch.randn(5, 4)
    torch.testing.assert_close(module(x), x + module.table[:5])
    packed = module(x, torch.tensor([0, 1, 0, 1, 5]))
    torch.testing.assert_close(packed, x + module.table[[0, 1, 0, 1, 5]])
    dense = torch.randn(2, 3, 4)
    torch.testing.assert_close(module(dense, torch.tensor([3, 4, 5])), dense + module.table[3:])
    assert list(module.state_dict()) == ["table"]


def test_rows_learn_where_they_were_used() -> None:
    module = Learned(4, 3)
    module(torch.zeros(3, 3), torch.tensor([1, 1, 3])).sum().backward()
    assert module.table.grad is not None
    assert module.table.grad[:, 0].tolist() == [0, 2, 0, 1]


def test_beyond_the_table_is_an_error() -> None:
    module = Learned(4, 3)
    assert module(torch.zeros(4, 3)).shape == (4, 3)
    assert module(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64)).shape == (0, 3)
    with pytest.raises(ShapeError, match=r"no row for position 4. Expected 0 … 3"):
        module(torch.zeros(2, 5, 3))
    with pytest.raises(ShapeError, match="no row for position 4"):
        module(torch.zeros(2, 3), torch.tensor([0, 4]))
    with pytest.raises(ShapeError, match="no row for position -1"):
        module(torch.zeros(2, 3), torch.tensor([-1, 0]))


def test_misuse() -> None:
    with pytest.raises(ConfigError, match="n_positions"):
        Learned(0, 3)
    with pytest.raises(ConfigError, match="width"):
        Learned(3, 0)
    with pytest.raises(ShapeError, match="m = 3"):
        Learned(4, 3)(torch.zeros(2, 4))
    with pytest.raises(ShapeError, match="broadcast"):
        Learned(4, 3)(torch.zeros(2, 3), torch.tensor([0, 1, 2]))


def test_half_precision_and_annotations() -> None:
    forward = checked(Learned.forward)
    assert forward(Learned(4, 3).half(), torch.zeros(2, 3).half()).dtype == torch.float16
    assert forward(Learned(4, 3), torch.zeros(2, 3).bfloat16(), torch.tensor([2, 0])).dtype == torch.bfloat16


def test_it_compiles_without_a_break() -> None:
    module, x = Learned(4, 3), torch.randn(3, 3)
    compiled = torch.compile(module, backend="eager", fullgraph=True)
    positions = torch.tensor([2, 0, 1])
    torch.testing.assert_close(compiled(x, positions), module(x, positions))
