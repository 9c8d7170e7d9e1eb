"""The formula itself, against numbers worked out by hand and against another one's computation."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from huiyan.attention.blocks import Span
from huiyan.attention.dropout import Dropout
from huiyan.attention.masks import Causal, Keys
from huiyan.attention.oracle import attend_by_formula, attend_each_by_formula, compare, mix, project, weigh
from huiyan.attention.positions.relative import RelativeTerms
from huiyan.attention.scoring import Scoring
from huiyan.core.errors import ShapeError


def draw(*shapes: tuple[int, ...]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]


def test_two_queries_by_hand() -> None:
    """With k the unit vectors, the scores are q itself: softmax([ln 3, 0]) is (3/4, 1/4)."""
    q = torch.tensor([[math.log(3), 0.0], [0.0, 0.0]], dtype=torch.float64)[None, None]
    k = torch.eye(2, dtype=torch.float64)[None, None]
    v = torch.tensor([[8.0, 0.0], [0.0, 4.0]], dtype=torch.float64)[None, None]
    expected = torch.tensor([[6.0, 1.0], [4.0, 2.0]], dtype=torch.float64)
    torch.testing.assert_close(attend_by_formula(q, k, v, Scoring(scale=1.0))[0, 0], expected)


def test_scale_multiplies_the_scores() -> None:
    q = torch.tensor([[math.log(3), 0.0]], dtype=torch.float64)[None, None]
    k = v = torch.eye(2, dtype=torch.float64)[None, None]
    expected = torch.tensor([[0.9, 0.1]], dtype=torch.float64)  # 3² to 1
    torch.testing.assert_close(attend_by_formula(q, k, v, Scoring(scale=2.0))[0, 0], expected)


@pytest.mark.parametrize(("options", "factor"), [({}, 0.5), ({"scale": 1.0}, 1.0), ({"scale": 0.3}, 0.3)], ids=str)
def test_the_three_steps_are_attention(options: dict[str, float], factor: float) -> None:
    """Project, compare and weigh, mix: against `torch`'s own, scaled by 1/√d unless told otherwise."""
    x, w_q, w_k, w_v = draw((2, 5, 6), (6, 4), (6, 4), (6, 4))
    q, k, v = project(x, w_q, w_k, w_v)
    weights = weigh(compare(q, k, **options))
    assert weights.dtype == torch.float64
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 5, dtype=torch.float64))
    expected = nn.functional.scaled_dot_product_attention(x @ w_q, x @ w_k, x @ w_v, scale=factor)
    torch.testing.assert_close(mix(weights, v), expected)


def test_projections_may_be_shared() -> None:
    x, one, other = draw((5, 6), (6, 4), (6, 4))
    q, k, v = project(x, one, value=other)  # queries and keys share one: scores are symmetric
    torch.testing.assert_close(compare(q, k), compare(q, k).mT)
    torch.testing.assert_close(v, x @ other)
    q, k, v = project(x, one)
    assert torch.equal(q, k) and torch.equal(k, v)
    q, k, v = project(x, one, other)
    torch.testing.assert_close(k, x @ other)
    assert torch.equal(k, v) and not torch.equal(q, k)


def test_a_position_may_have_a_projection_of_its_own() -> None:
    x, own, shared = draw((2, 5, 6), (5, 6, 4), (6, 4))
    q, k, _ = project(x, own, shared)
    for position in range(5):
        torch.testing.assert_close(q[:, position], x[:, position] @ own[position])
    torch.testing.assert_close(k, x @ shared)


@pytest.mark.parametrize(
    ("shapes", "name"),
    [
        (((5, 4), None, None), "query"),
        (((6, 4), (4, 6), None), "key"),
        (((6, 4), (6, 4), (4, 6, 4)), "value"),
        (((6,), None, None), "query"),
    ],
)
def test_projections_that_do_not_fit_are_named(shapes: tuple[tuple[int, ...] | None, ...], name: str) -> None:
    weights = [None if shape is None else torch.zeros(shape) for shape in shapes]
    with pytest.raises(ShapeError, match=rf"The {name} projection must be `m d`, or `l m d`.*for x \(2, 5, 6\)"):
        project(torch.zeros(2, 5, 6), *weights)  # pyright: ignore[reportArgumentType]


def test_weights_sum_to_one_over_what_is_allowed() -> None:
    (scores,) = draw((2, 3, 4, 5))
    allowed = torch.tensor([[True, False, True, False, False], [False] * 5])[:, None, None]
    scores.requires_grad_()
    weights = weigh(scores, allowed)
    torch.testing.assert_close(weights[0].sum(-1), torch.ones(3, 4, dtype=torch.float64))
    assert not weights[0][..., ~allowed[0, 0, 0]].any()
    assert not weights[1].any()
    (gradient,) = torch.autograd.grad(weights.pow(2).sum(), scores)
    assert gradient.isfinite().all() and gradient[0].any() and not gradient[1].any()


def test_a_sink_takes_its_share_of_every_row() -> None:
    """A sink of ln 2 beside scores of 0: two shares of 2 + n; a row that sees nothing gives all to the sink."""
    sinks = torch.full((1, 1, 1), math.log(2), dtype=torch.float64)
    weights = weigh(torch.zeros(1, 2, 3, dtype=torch.float64), torch.tensor([[True] * 3, [False] * 3]), sinks)
    torch.testing.assert_close(weights[0, 0], torch.full((3,), 0.2, dtype=torch.float64))
    assert not weights[0, 1].any()
    torch.testing.assert_close(weigh(torch.zeros(1, 1, 2), sinks=sinks.float())[0, 0], torch.full((2,), 0.25))


def test_a_soft_cap_holds_scores_below_it() -> None:
    q, k = torch.tensor([[1000.0, 0.0]], dtype=torch.float64)[None, None], torch.eye(2, dtype=torch.float64)[None, None]
    out = attend_by_formula(q, k, k, Scoring(scale=1.0, soft_cap=math.log(3)))[0, 0, 0]
    torch.testing.assert_close(out, torch.tensor([0.75, 0.25], dtype=torch.float64))


def test_relative_terms_are_added_as_their_table_says() -> None:
    """Each term for itself, pair by pair in Python."""
    q, k, v, bias, keys, queries, values = draw(
        (1, 2, 3, 4), (1, 2, 5, 4), (1, 2, 5, 4), (2, 4), (1, 4, 4), (2, 4, 4), (2, 4, 4)
    )
    terms = RelativeTerms(lowest=-2, bias=bias, keys=keys, queries=queries, values=values)
    out = attend_by_formula(q, k, v, Scoring(scale=0.7, terms=terms))
    for head in (0, 1):
        for i in range(3):
            rows = [min(max(j - (i + 2) + 2, 0), 3) for j in range(5)]  # query i stands at position i + 2
            scores = torch.stack([
                0.7 * (q[0, head, i] @ (k[0, head, j] + keys[0, r]) + queries[head, r] @ k[0, head, j]) + bias[head, r]
                for j, r in enumerate(rows)
            ])  # fmt: skip
            expected = scores.softmax(0) @ (v[0, head] + values[head, rows])
            torch.testing.assert_close(out[0, head, i], expected)


def test_dropout_is_on_the_weights_and_keeps_their_mean() -> None:
    q, k, v = draw((2, 2, 3, 4), (2, 2, 5, 4), (2, 2, 5, 4))
    dropout = Dropout(0.5, 1)
    weights = weigh(compare(q, k))
    kept = weights * dropout.keeps(Span(0, 2), Span(0, 2), Span(0, 3), Span(0, 5), q.device) * 2
    torch.testing.assert_close(attend_by_formula(q, k, v, Scoring(scale=0.5, dropout=dropout)), mix(kept, v))


def test_neighbouring_query_heads_share_a_key_head() -> None:
    q, k, v = draw((1, 4, 3, 2), (1, 2, 3, 2), (1, 2, 3, 2))
    shared = attend_by_formula(q, k, v, Scoring(scale=1.0))
    for head, key_head in enumerate((0, 0, 1, 1)):
        own = Scoring(scale=1.0, mask=Keys(torch.ones(1, 3).bool()))
        alone = attend_by_formula(q[:, [head]], k[:, [key_head]], v[:, [key_head]], own)
        torch.testing.assert_close(shared[:, [head]], alone)


def test_packed_sequences_are_taken_one_by_one() -> None:
    q, k, v = draw(*[(5, 2, 4)] * 3)
    scoring = Scoring(scale=0.5, mask=Causal())
    out = attend_each_by_formula(q, k, v, scoring, lengths=torch.tensor([2, 3]), key_lengths=torch.tensor([1, 4]))
    heads_first = (x.transpose(0, 1)[None] for x in (q[2:], k[1:], v[1:]))
    alone = attend_by_formula(*heads_first, scoring)[0].transpose(0, 1)
    torch.testing.assert_close(out[2:], alone)


@pytest.mark.parametrize("variant", ["bias", "keys", "values", "sinks"])
def test_parameters_in_a_wider_dtype_widen_the_computation_alone(variant: str) -> None:
    """A float32 position beside bfloat16 queries, as under autocast: computed in float32, given in bfloat16."""
    q, k, v = (x.bfloat16() for x in draw(*[(1, 2, 3, 4)] * 3))
    wide: dict[str, Any] = {"bias": (2, 5), "keys": (1, 5, 4), "values": (2, 5, 4), "sinks": (2,)}
    (table,) = draw(wide[variant])
    tensors = {"sinks": table} if variant == "sinks" else {"terms": RelativeTerms(lowest=-2, **{variant: table})}
    out = attend_by_formula(q, k, v, Scoring(scale=1.0, **tensors))
    assert out.dtype == torch.bfloat16
    exact = attend_by_formula(q.double(), k.double(), v.double(), Scoring(scale=1.0, **tensors))
    assert torch.equal(out, exact.bfloat16())


def test_a_table_of_values_alone_widens_nothing() -> None:
    q, k, v, values = (x.bfloat16() for x in draw(*[(1, 2, 3, 4)] * 3, (1, 5, 4)))
    terms = RelativeTerms(lowest=-2, values=values)
    assert attend_by_formula(q, k, v, Scoring(scale=1.0, terms=terms)).dtype == torch.bfloat16
