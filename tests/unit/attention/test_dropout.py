"""Dropout that can be had again: a function of the seed and the place, and otherwise random."""

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from huiyan.attention.blocks import Span
from huiyan.attention.dropout import Dropout, _places
from huiyan.attention.functional import attend
from huiyan.core.errors import ConfigError

CPU = torch.device("cpu")


def keeps(dropout: Dropout, b: int = 1, h: int = 1, q: int = 64, k: int = 64) -> Tensor:
    return dropout.keeps(Span(0, b), Span(0, h), Span(0, q), Span(0, k), CPU)


@pytest.mark.parametrize("size", [1, 7, 63, 64, 65, 128, 200])
def test_blocks_of_any_size_drop_the_same_weights(size: int) -> None:
    dropout = Dropout(0.4, 5)
    whole = keeps(dropout, 2, 2, 150, 131)
    rows = []
    for span in Span(0, 150).blocks(size):
        if size == 1 and span.start % 37:
            rows.append(whole[:, :, span.start : span.stop])
            continue
        parts = [dropout.keeps(Span(0, 2), Span(0, 2), span, own, CPU) for own in Span(0, 131).blocks(max(size, 20))]
        rows.append(torch.cat(parts, dim=3))
    assert torch.equal(torch.cat(rows, dim=2), whole)


def test_sequences_and_heads_have_numbers_of_their_own() -> None:
    dropout = Dropout(0.4, 5)
    whole = keeps(dropout, 4, 6)
    part = dropout.keeps(Span(1, 3), Span(2, 5), Span(0, 64), Span(0, 64), CPU)
    assert torch.equal(part, whole[1:3, 2:5])


def test_an_empty_block_is_empty() -> None:
    assert keeps(Dropout(0.5, 1), 1, 1, 0, 3).shape == (1, 1, 0, 3)
    assert keeps(Dropout(0.5, 1), 0, 2, 3, 0).shape == (0, 2, 3, 0)


@pytest.mark.parametrize("p", [0.01, 0.1, 0.5, 0.9])
def test_mean_and_variance_are_those_of_the_probability(p: float) -> None:
    """Over a million weights, and row by row and column by column: within five deviations of a fair draw."""
    dropout = Dropout(p, 3)
    kept = keeps(dropout, 4, 4, 256, 256).double()
    share, n = dropout.keep_share, kept.numel()
    assert abs(share - (1 - p)) <= 0.5 / 65536
    deviation = math.sqrt(share * (1 - share))
    assert abs(float(kept.mean()) - share) < 5 * deviation / math.sqrt(n)
    # A dropped weight leaves mean 1 and variance p / (1 − p) when the others grow.
    grown = kept / share
    assert float(grown.var()) == pytest.approx((1 - share) / share, rel=0.05)
    for dims in ((0, 1, 2), (0, 1, 3), (2, 3)):
        means = kept.mean(dims).flatten()
        assert float((means - share).abs().max()) < 5.5 * deviation / math.sqrt(n / means.numel())


@pytest.mark.parametrize(
    ("name", "shifts"),
    [
        ("neighbours in a row", (0, 0, 0, 1)),
        ("two apart in a row", (0, 0, 0, 2)),
        ("neighbours in a column", (0, 0, 1, 0)),
        ("the same place of the next tile in a row", (0, 0, 0, 64)),
        ("the same place of the next tile in a column", (0, 0, 64, 0)),
        ("the same place of the next tile on the diagonal", (0, 0, 64, 64)),
        ("heads", (0, 1, 0, 0)),
        ("sequences", (1, 0, 0, 0)),
        ("sequence and head", (1, 1, 0, 0)),
    ],
)
def test_places_are_independent(name: str, shifts: tuple[int, ...]) -> None:
    """No correlation beyond five deviations of a fair draw."""
    kept = keeps(Dropout(0.5, 17), 4, 4, 256, 256).double() - 0.5
    one = kept[tuple(slice(shift, None) for shift in shifts)]
    other = kept[tuple(slice(None, size - shift) for size, shift in zip(kept.shape, shifts, strict=True))]
    assert abs(float((one * other).mean())) / 0.25 < 5 / math.sqrt(one.numel()), name


def test_seeds_are_independent() -> None:
    """Neighbouring seeds, and those that differ in their upper half alone."""
    seeds = [0, 1, 2, -1, 1 << 32, (1 << 32) + 1, 1 << 63]
    drawn = [keeps(Dropout(0.5, seed), 2, 2, 256, 256).double() - 0.5 for seed in seeds]
    for one, other in [*pairwise(drawn), (drawn[0], drawn[4])]:
        assert abs(float((one * other).mean())) / 0.25 < 5 / math.sqrt(one.numel())


def test_tiles_are_not_copies_of_each_other() -> None:
    """Among 1024 tiles no two are alike, nor alike turned around."""
    kept = keeps(Dropout(0.5, 1), 4, 4, 512, 512)
    tiles = kept.unfold(2, 64, 64).unfold(3, 64, 64).reshape(-1, 64 * 64).float() * 2 - 1
    alike = (tiles @ tiles.T / 4096).fill_diagonal_(0)
    assert float(alike.abs().max()) < 6.5 / 64


def test_a_seed_may_be_a_tensor_and_any_64_bits() -> None:
    assert torch.equal(keeps(Dropout(0.5, torch.tensor(-7))), keeps(Dropout(0.5, -7)))
    assert torch.equal(keeps(Dropout(0.5, -1)), keeps(Dropout(0.5, (1 << 64) - 1)))


@pytest.mark.parametrize("seed", [-(1 << 63), (1 << 63) - 1, 1 << 63, (1 << 64) - 1])
def test_every_kernel_takes_every_seed(seed: int) -> None:
    x = torch.randn(9, 2, 4, dtype=torch.float64)
    options = {"lengths": torch.tensor([4, 5]), "dropout": 0.5, "seed": seed}
    expected = attend(x, x, x, kernel="oracle", **options)
    for kernel in ("packed", "blockwise"):
        torch.testing.assert_close(attend(x, x, x, kernel=kernel, **options), expected)


def test_a_small_probability_keeps_all_and_a_large_one_not_quite_none() -> None:
    assert keeps(Dropout(1e-6, 1)).all() and Dropout(1e-6, 1).keep_share == 1.0
    assert Dropout(1 - 1e-9, 1).keep_share == 1 / 65536
    assert int(keeps(Dropout(1 - 1e-9, 1), 1, 1, 512, 512).sum()) < 30


@pytest.mark.parametrize("p", [-0.1, 1.0, math.nan])
def test_what_is_no_probability(p: float) -> None:
    with pytest.raises(ConfigError, match="dropout option must be at least 0 and below 1. Got"):
        Dropout(p, 0)


def test_numbers_of_places_are_drawn_on_the_cpu_whatever_the_default_device() -> None:
    expected = _places(CPU)
    _places.cache_clear()
    with torch.device("meta"):
        assert torch.equal(_places(CPU), expected)


def test_over_many_seeds_the_output_is_the_one_without() -> None:
    """The mean of 400 draws is within five of its own deviations of the undropped output, everywhere."""
    q, k, v = torch.randn(3, 1, 2, 12, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    draws = torch.stack([attend(q, k, v, dropout=0.3, seed=seed, kernel="blockwise") for seed in range(400)])
    error = (draws.mean(0) - attend(q, k, v)).abs()
    assert bool((error < 5 * draws.std(0) / math.sqrt(400)).all())
    assert float(draws.std(0).min()) > 0.01
