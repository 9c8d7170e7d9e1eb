"""What stands between q·k and the weights, as one value."""

from typing import Any

import pytest
import torch

from huiyan.attention.dropout import Dropout
from huiyan.attention.masks import Causal
from huiyan.attention.positions.relative import TABLES, RelativeTerms
from huiyan.attention.scoring import Scoring

TERMS = RelativeTerms(lowest=-1, bias=torch.randn(2, 3), values=torch.randn(1, 3, 4))


@pytest.mark.parametrize(
    ("variant", "plain"),
    [
        ({}, True),
        ({"mask": Causal()}, True),
        ({"first_sequence": 3}, True),
        ({"terms": TERMS}, False),
        ({"soft_cap": 1.0}, False),
        ({"sinks": torch.zeros(2)}, False),
        ({"dropout": Dropout(0.1, 0)}, False),
    ],
    ids=str,
)
def test_plain_is_a_scale_and_a_mask(variant: dict[str, Any], plain: bool) -> None:
    assert Scoring(scale=1.0, **variant).is_plain is plain


def test_tensors_go_out_and_come_back_in_one_order() -> None:
    sinks = torch.randn(2)
    scoring = Scoring(scale=0.5, terms=TERMS, sinks=sinks, soft_cap=3.0)
    tensors = scoring.tensors()
    assert len(tensors) == len(TABLES) + 1
    assert [x is not None for x in tensors] == [name in ("bias", "values") for name in TABLES] + [True]
    doubled = scoring.with_tensors([None if x is None else 2 * x for x in tensors])
    assert doubled.terms is not None and doubled.terms.bias is not None and TERMS.bias is not None
    assert torch.equal(doubled.terms.bias, 2 * TERMS.bias)
    assert torch.equal(doubled.sinks, 2 * sinks)  # pyright: ignore[reportArgumentType]
    assert (doubled.terms.lowest, doubled.terms.keys, doubled.soft_cap) == (-1, None, 3.0)


def test_without_tensors_there_is_nothing_to_give() -> None:
    scoring = Scoring(scale=1.0, mask=Causal())
    assert scoring.tensors() == [None] * (len(TABLES) + 1)
    assert scoring.with_tensors(scoring.tensors()) == scoring
