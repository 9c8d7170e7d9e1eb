"""Masks as tables: True lets attend."""

import pytest
import torch

from huiyan.attention.masks import Causal, Keys
from huiyan.core.errors import ShapeError

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("n_queries", "n_keys", "table"),
    [
        (3, 3, [[1, 0, 0], [1, 1, 0], [1, 1, 1]]),
        (2, 4, [[1, 1, 1, 0], [1, 1, 1, 1]]),
        (3, 2, [[0, 0], [1, 0], [1, 1]]),
        (1, 3, [[1, 1, 1]]),
    ],
)
def test_causal_has_its_corner_at_the_bottom_right(n_queries: int, n_keys: int, table: list[list[int]]) -> None:
    assert Causal().allowed(n_queries, n_keys, CPU)[0, 0].int().tolist() == table


def test_keys_are_the_same_for_every_query() -> None:
    keys = torch.tensor([[True, False], [True, True]])
    assert Keys(keys).allowed(3, 2, CPU).expand(2, 1, 3, 2)[0, 0].tolist() == [[True, False]] * 3


def test_and_allows_what_both_allow() -> None:
    both = Causal() & Keys(torch.tensor([[False, True, True]]))
    assert both.allowed(3, 3, CPU)[0, 0].int().tolist() == [[0, 0, 0], [0, 1, 0], [0, 1, 1]]
    assert [type(part) for part in (both & Causal()).parts()] == [Causal, Keys, Causal]


@pytest.mark.parametrize("keys", [torch.ones(2, 3), torch.ones(3).bool(), torch.ones(1, 1, 3).bool()])
def test_keys_must_be_a_boolean_table(keys: torch.Tensor) -> None:
    with pytest.raises(ShapeError, match=r"Keys takes a boolean tensor `b k`.*Got torch\.\w+ of shape \("):
        Keys(keys)
