"""Layers of low rank: what factorising keeps, what it costs, and how the moments are gathered."""

import pytest
import torch
from torch import nn

from huiyan.core.errors import ConfigError, ShapeError
from huiyan.core.packed import Packed
from huiyan.models.config import ClassifierConfig, HeadConfig, TransformerConfig
from huiyan.models.fresh import fresh_classifier
from huiyan.models.low_rank import (
    InputMoments,
    LowRankLinear,
    factorise,
    input_moments,
    largest_saving_rank,
    lower_ranks,
    projections,
)

SHAPES = [(12, 20), (20, 12), (16, 16)]
QUERY = "stack.layers.0.attention.query"


def skewed(n_rows: int, width: int, *, mean: float = 0.0) -> torch.Tensor:
    """Rows that vary a thousand times more in some directions than in others, and in none along the axes."""
    generator = torch.Generator().manual_seed(1)
    turn, _ = torch.linalg.qr(torch.randn(width, width, generator=generator))
    return (torch.randn(n_rows, width, generator=generator) * torch.logspace(1, -2, width)) @ turn + mean


def moments_of(rows: torch.Tensor) -> InputMoments:
    moments = InputMoments(rows.shape[1])
    for part in rows.split(100):
        moments.add(part)
    return moments


def linear(in_width: int, out_width: int, *, bias: bool = True) -> nn.Linear:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Linear(in_width, out_width, bias=bias)


@torch.no_grad()
def error(layer: nn.Module, stand_in: nn.Module, rows: torch.Tensor) -> float:
    return float((layer(rows) - stand_in(rows)).square().sum(-1).mean())


@pytest.mark.parametrize(("in_width", "out_width"), SHAPES)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("n_rows", [0, 5, 500])
def test_the_full_rank_is_the_layer(in_width: int, out_width: int, bias: bool, n_rows: int) -> None:
    """Also where the rows are too few to say anything of most directions."""
    layer = linear(in_width, out_width, bias=bias)
    moments = moments_of(skewed(n_rows, in_width, mean=3.0)) if n_rows else None
    stand_in = factorise(layer, moments).layer(min(in_width, out_width))
    rows = torch.randn(50, in_width, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(stand_in(rows), layer(rows), atol=1e-5, rtol=1e-5)
    assert (stand_in.up.bias is not None) == bias


@pytest.mark.parametrize(("in_width", "out_width"), SHAPES)
def test_knowing_the_rows_beats_the_plain_svd_on_them(in_width: int, out_width: int) -> None:
    layer, rows = linear(in_width, out_width), skewed(2000, in_width)
    aware, plain = factorise(layer, moments_of(rows)), factorise(layer)
    for rank in (1, 3, 6):
        assert error(layer, aware.layer(rank), rows) < 0.7 * error(layer, plain.layer(rank), rows)


@pytest.mark.parametrize("bias", [True, False])
def test_the_energies_left_out_are_the_error(bias: bool) -> None:
    layer, rows = linear(12, 20, bias=bias), skewed(2000, 12, mean=0.5)
    factors = factorise(layer, moments_of(rows))
    for rank in (1, 4, 9):
        lost = error(layer, factors.layer(rank), rows)
        assert lost == pytest.approx(float(factors.energies[rank:].sum()), rel=1e-3, abs=1e-4)  # the ridge


def test_nothing_of_that_rank_is_better() -> None:
    """Against many others, near and far; Eckart–Young says so for all."""
    layer, rows = linear(8, 10, bias=False), skewed(1000, 8)
    stand_in = factorise(layer, moments_of(rows)).layer(3)
    best, generator = error(layer, stand_in, rows), torch.Generator().manual_seed(3)
    with torch.no_grad():
        for size in (1e-3, 1e-2, 1e-1):
            for _ in range(20):
                other = factorise(layer, moments_of(rows)).layer(3)
                for part in other.parameters():
                    part += size * torch.randn(part.shape, generator=generator)
                assert error(layer, other, rows) > best


def test_a_mean_shift_costs_nothing_with_a_bias() -> None:
    layer, rows = linear(12, 12), skewed(2000, 12)
    centred = factorise(layer, moments_of(rows)).layer(4)
    shifted = factorise(layer, moments_of(rows + 100)).layer(4)
    assert error(layer, shifted, rows + 100) == pytest.approx(error(layer, centred, rows), rel=1e-2)


def test_the_moments_are_those_of_all_rows_at_once() -> None:
    rows = skewed(1050, 6, mean=20.0).double()
    moments = moments_of(rows.float())
    assert moments.n_rows == 1050
    torch.testing.assert_close(moments.mean, rows.mean(0), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(moments.covariance, rows.T.cov(correction=0), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(moments.second_moment, rows.T @ rows / len(rows), rtol=1e-5, atol=1e-4)


def test_parameters_are_counted_and_gradients_flow() -> None:
    layer = LowRankLinear(12, 20, 5)
    assert sum(parameter.numel() for parameter in layer.parameters()) == 5 * (12 + 20) + 20
    layer(torch.randn(3, 12)).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in layer.parameters())
    stand_in = factorise(linear(12, 20)).layer(5)
    stand_in(torch.randn(3, 12)).square().sum().backward()
    assert stand_in.down.weight.grad is not None and stand_in.down.weight.grad.any()


@pytest.mark.parametrize(("in_width", "out_width"), [*SHAPES, (384, 1536), (1, 1)])
def test_the_largest_rank_that_saves(in_width: int, out_width: int) -> None:
    rank = largest_saving_rank(in_width, out_width)
    assert rank * (in_width + out_width) < in_width * out_width <= (rank + 1) * (in_width + out_width)


def test_the_rank_is_the_smallest_that_loses_no_more() -> None:
    factors = factorise(linear(12, 20), moments_of(skewed(500, 12)))
    shares = factors.energies / factors.energies.sum()
    for share in (1e-6, 1e-3, 0.05, 0.5):
        rank = factors.rank_losing(share)
        assert shares[rank:].sum() <= share < shares[rank - 1 :].sum()
    assert factors.rank_losing(1.0) == 1
    assert factors.rank_losing(0.0) == 12


@pytest.mark.parametrize("rank", [0, 13, -1])
def test_a_rank_out_of_range(rank: int) -> None:
    with pytest.raises(ConfigError, match=rf"rank option must be from 1 to the smaller width, 12. Got {rank}"):
        LowRankLinear(12, 20, rank)


def test_moments_of_another_width_or_of_nothing() -> None:
    with pytest.raises(ShapeError, match="must be of rows of width 12. Got 500 rows of width 20 instead"):
        factorise(linear(12, 20), moments_of(skewed(500, 20)))
    with pytest.raises(ShapeError, match="Got 0 rows of width 12"):
        factorise(linear(12, 20), InputMoments(12))


def encoder_config(**changes: object) -> ClassifierConfig:
    values = {
        "family": "bert", "vocab_size": 20, "width": 8, "embedding_width": 8, "n_layers": 2, "n_layer_groups": 2,
        "n_heads": 2, "feed_forward_width": 16, "n_positions": 12, "n_types": 2,
    }  # fmt: skip
    return ClassifierConfig(encoder=TransformerConfig(**(values | changes)), head=HeadConfig(), n_classes=2)


def test_every_projection_of_every_layer_and_nothing_else() -> None:
    encoder = fresh_classifier(encoder_config(), seed=0).encoder
    names = projections(encoder)
    assert len(names) == 2 * 6
    assert {name.split(".", 3)[3] for name in names} == {
        "attention.query", "attention.key", "attention.value", "attention.out", "feed_forward.inner",
        "feed_forward.outer",
    }  # fmt: skip


def test_moments_are_of_what_enters_each_projection() -> None:
    model = fresh_classifier(encoder_config(embedding_dropout=0.0), seed=0).eval()
    packed = Packed.from_lists([[2, 5, 6, 3], [2, 3], [7, 8, 9]])
    with torch.no_grad(), input_moments(model.encoder) as moments:
        model.encoder(packed)
        entering = model.encoder.embeddings(packed)
    assert moments.keys() == projections(model.encoder).keys()
    assert {found.n_rows for found in moments.values()} == {9}
    torch.testing.assert_close(moments[QUERY].mean.float(), entering.mean(0))
    assert moments["stack.layers.0.attention.key"] is moments[QUERY]
    assert moments["stack.layers.1.attention.query"] is not moments[QUERY]
    model(packed)
    assert moments[QUERY].n_rows == 9, "the hooks outlived the block"


def test_shared_layers_see_the_rows_of_every_depth() -> None:
    model = fresh_classifier(encoder_config(n_layers=3, n_layer_groups=1), seed=0).eval()
    with torch.no_grad(), input_moments(model.encoder) as moments:
        model.encoder(Packed.from_lists([[2, 5, 6, 3]]))
    assert moments[QUERY].n_rows == 3 * 4


def test_a_config_with_ranks_builds_a_model_with_them() -> None:
    model = fresh_classifier(encoder_config(ranks={QUERY: 3}), seed=0)
    query = model.encoder.get_submodule(QUERY)
    assert isinstance(query, LowRankLinear) and query.down.weight.shape == (3, 8)
    assert len(projections(model.encoder)) == 11
    with pytest.raises(ConfigError, match=r"no full projection 'stack.layers.0.attention.qury'. Did you mean"):
        fresh_classifier(encoder_config(ranks={"stack.layers.0.attention.qury": 3}), seed=0)
    with pytest.raises(ConfigError, match="no full projection"):
        lower_ranks(model.encoder, {QUERY: 2})
    for ranks in ({QUERY: 0}, {QUERY: "3"}, [3]):
        with pytest.raises(ConfigError, match="ranks option must be a rank of at least 1 for each projection"):
            encoder_config(ranks=ranks)
