"""What is checked below ``attend``; the misuses of ``attend`` itself are in `test_functional`."""

import pytest
import torch
from torch import Tensor

from huiyan.attention.masks import Causal, Keys, Segments
from huiyan.attention.positions.relative import RelativeTerms
from huiyan.attention.shapes import check_mask, check_sinks, check_terms
from huiyan.core.errors import ShapeError

Q, K, PACKED = torch.zeros(2, 4, 5, 8), torch.zeros(2, 2, 3, 8), torch.zeros(7, 4, 8)


@pytest.mark.parametrize("q", [Q, PACKED], ids=["dense", "packed"])
def test_tables_of_these_heads_or_shared_by_them_pass(q: Tensor) -> None:
    terms = RelativeTerms(lowest=-2, bias=torch.zeros(4, 3), keys=torch.zeros(1, 3, 8), values=torch.zeros(4, 3, 8))
    check_terms(terms, q)
    check_terms(RelativeTerms(lowest=0, content_bias=torch.zeros(4, 8), position_bias=torch.zeros(4, 8)), q)


@pytest.mark.parametrize("q", [Q, PACKED], ids=["dense", "packed"])
@pytest.mark.parametrize(
    ("terms", "message"),
    [
        (RelativeTerms(lowest=0, bias=torch.zeros(1, 3)), r"bias must be for 4 heads of width 8.*Got \(1, 3\)"),
        (RelativeTerms(lowest=0, keys=torch.zeros(2, 3, 8)), r"keys must be for 4 heads.*Got \(2, 3, 8\)"),
        (RelativeTerms(lowest=0, queries=torch.zeros(4, 3, 6)), r"queries must be .* width 8.*Got \(4, 3, 6\)"),
        (RelativeTerms(lowest=0, values=torch.zeros(1, 3, 1)), r"values must be .* width 8.*Got \(1, 3, 1\)"),
        (RelativeTerms(lowest=0, content_bias=torch.zeros(1, 8)), r"content_bias must be for 4 heads"),
        (RelativeTerms(lowest=0, position_bias=torch.zeros(4, 4)), r"position_bias must be .* width 8"),
        (
            RelativeTerms(lowest=0, bias=torch.zeros(4, 3), keys=torch.zeros(4, 2, 8)),
            r"equally many rows, one an offset. Got \{'bias': 3, 'keys': 2\}",
        ),
        (
            RelativeTerms(lowest=0, bias=torch.zeros(4, 3, device="meta")),
            r"device of q, cpu. Got bias on meta. Move the position module with \.to\(device\)",
        ),
    ],
)
def test_tables_that_do_not_fit_are_named(terms: RelativeTerms, message: str, q: Tensor) -> None:
    with pytest.raises(ShapeError, match=message):
        check_terms(terms, q)


@pytest.mark.parametrize(
    "sinks", [torch.zeros(2), torch.zeros(4, 1), torch.zeros(4).long(), torch.zeros(4, device="meta")], ids=str
)
def test_sinks_are_one_number_a_head(sinks: Tensor) -> None:
    with pytest.raises(ShapeError, match=r"one floating number a query head, `h`, here \(4,\), on cpu. Got torch\."):
        check_sinks(sinks, Q)
    check_sinks(torch.zeros(4), PACKED)


@pytest.mark.parametrize(
    "ids", [torch.zeros(5), torch.zeros(1, 5), torch.zeros(2, 5)], ids=lambda x: str(tuple(x.shape))
)
def test_segments_are_of_the_batch_or_for_all_of_it(ids: Tensor) -> None:
    check_mask(~Segments(ids.long(), torch.zeros(3).long()) & Causal(), Q, K)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (Keys(torch.ones(2, 5).bool()), r"Keys mask must be `b k`, here \(2, 3\). Got \(2, 5\)"),
        (Keys(torch.ones(1, 3).bool()), r"here \(2, 3\). Got \(1, 3\)"),
        (
            Segments(torch.zeros(5).long()),
            r"keys of Segments must be `k` or `b k`, here \(3,\) or \(2, 3\). Got \(5,\)",
        ),
        (Segments(torch.zeros(3, 5).long(), torch.zeros(3).long()), r"queries of Segments must be `q` or `b q`"),
    ],
)
def test_masks_of_another_batch_are_named(mask: Keys | Segments, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        check_mask(Causal() | ~mask, Q, K)
