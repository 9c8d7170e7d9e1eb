"""The formula itself, against numbers worked out by hand."""

import math

import torch

from huiyan.attention.masks import Causal, Keys
from huiyan.attention.oracle import attend_by_formula, attend_each_by_formula, masked_softmax


def test_two_queries_by_hand() -> None:
    """With k the unit vectors, the scores are q itself: softmax([ln 3, 0]) is (3/4, 1/4)."""
    q = torch.tensor([[math.log(3), 0.0], [0.0, 0.0]], dtype=torch.float64)[None, None]
    k = torch.eye(2, dtype=torch.float64)[None, None]
    v = torch.tensor([[8.0, 0.0], [0.0, 4.0]], dtype=torch.float64)[None, None]
    expected = torch.tensor([[6.0, 1.0], [4.0, 2.0]], dtype=torch.float64)
    torch.testing.assert_close(attend_by_formula(q, k, v, mask=None, scale=1.0)[0, 0], expected)


def test_scale_multiplies_the_scores() -> None:
    q = torch.tensor([[math.log(3), 0.0]], dtype=torch.float64)[None, None]
    k = v = torch.eye(2, dtype=torch.float64)[None, None]
    expected = torch.tensor([[0.9, 0.1]], dtype=torch.float64)  # 3² to 1
    torch.testing.assert_close(attend_by_formula(q, k, v, mask=None, scale=2.0)[0, 0], expected)


def test_a_masked_softmax_sums_to_one_over_what_is_allowed() -> None:
    scores = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    keys = torch.tensor([[True, False, True, False, False], [False] * 5])
    weights = masked_softmax(scores, Keys(keys))
    torch.testing.assert_close(weights[0].sum(-1), torch.ones(3, 4, dtype=torch.float64))
    assert not weights[0][..., ~keys[0]].any()
    assert not weights[1].any()


def test_neighbouring_query_heads_share_a_key_head() -> None:
    q, k, v = torch.randn(1, 4, 3, 2), torch.randn(1, 2, 3, 2), torch.randn(1, 2, 3, 2)
    shared = attend_by_formula(q, k, v, mask=None, scale=1.0)
    for head, key_head in enumerate((0, 0, 1, 1)):
        alone = attend_by_formula(
            q[:, [head]], k[:, [key_head]], v[:, [key_head]], mask=Keys(torch.ones(1, 3).bool()), scale=1.0
        )
        torch.testing.assert_close(shared[:, [head]], alone)


def test_packed_sequences_are_taken_one_by_one() -> None:
    q, k, v = (torch.randn(5, 2, 4) for _ in range(3))
    out = attend_each_by_formula(
        q, k, v, lengths=torch.tensor([2, 3]), key_lengths=torch.tensor([1, 4]), mask=Causal(), scale=0.5
    )
    heads_first = (x.transpose(0, 1)[None] for x in (q[2:], k[1:], v[1:]))
    alone = attend_by_formula(*heads_first, mask=Causal(), scale=0.5)[0].transpose(0, 1)
    torch.testing.assert_close(out[2:], alone)
