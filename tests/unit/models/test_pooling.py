import pytest
import torch

from huiyan.core.packed import Packed
from huiyan.models.pooling import AttentionPooling, FirstPooling, MeanPooling

PACKED = Packed.from_lists([[1, 1, 1], [1], [1, 1]])
ROWS = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))


def test_first_is_the_first_row_of_each() -> None:
    torch.testing.assert_close(FirstPooling()(ROWS, PACKED), ROWS[[0, 3, 4]])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_mean_is_the_mean_of_each_in_no_less_than_float32(dtype: torch.dtype) -> None:
    rows = ROWS.to(dtype)
    pooled = MeanPooling()(rows, PACKED)
    precise = torch.promote_types(dtype, torch.float32)
    expected = torch.stack([rows[:3].to(precise).mean(0), rows[3].to(precise), rows[4:].to(precise).mean(0)])
    torch.testing.assert_close(pooled, expected)
    assert pooled.dtype == precise


def test_attention_pools_each_sequence_by_itself() -> None:
    pooling = AttentionPooling(8, 2)
    with torch.no_grad():
        pooling.query.normal_()
    alone = [pooling(rows, Packed.from_lists([[1] * len(rows)])) for rows in ROWS.split([3, 1, 2])]
    torch.testing.assert_close(pooling(ROWS, PACKED), torch.cat(alone))


def test_attention_that_asks_nothing_is_the_mean_of_the_values() -> None:
    pooling = AttentionPooling(8, 2)
    torch.testing.assert_close(pooling(ROWS, PACKED), MeanPooling()(pooling.value(ROWS), PACKED))


def test_attention_weighs_by_its_query() -> None:
    """A key that answers the query takes all the weight."""
    pooling = AttentionPooling(8, 2)
    with torch.no_grad():
        for projection in (pooling.key, pooling.value):
            projection.weight.copy_(torch.eye(8))
            projection.bias.zero_()
        pooling.query.copy_(torch.ones(2, 4) * 50)
    rows = torch.stack([torch.zeros(8), torch.ones(8), torch.zeros(8)])
    torch.testing.assert_close(pooling(rows, Packed.from_lists([[1, 1, 1]])), torch.ones(1, 8))
