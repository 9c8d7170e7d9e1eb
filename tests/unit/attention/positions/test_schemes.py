"""What must hold of every scheme that acts on scores, and of every scheme as a module."""

import copy
from collections.abc import Callable

import pytest
import torch
from beartype import beartype
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import Float, jaxtyped
from torch import Tensor, nn

from huiyan.attention.positions.alibi import Alibi
from huiyan.attention.positions.disentangled import Disentangled, RelativeEmbeddings
from huiyan.attention.positions.offsets import bounded
from huiyan.attention.positions.relative import TENSORS, ScorePosition
from huiyan.attention.positions.shaw import ShawRelative
from huiyan.attention.positions.t5 import T5Bias
from huiyan.attention.positions.xl import XLBiases, XLRelative
from huiyan.core.errors import ShapeError

checked = jaxtyped(typechecker=beartype)
H, D, M = 3, 4, 12
LENGTH = 12
SCHEMES: dict[str, Callable[[], ScorePosition]] = {
    "alibi": lambda: Alibi(H),
    "t5": lambda: T5Bias(H, 8, 5),
    "t5 causal": lambda: T5Bias(H, 8, 6, bidirectional=False),
    "shaw": lambda: ShawRelative(D, 3),
    "shaw by head": lambda: ShawRelative(D, 4, values=False, n_heads=H),
    "xl": lambda: XLRelative(M, H),
    "xl clamped": lambda: XLRelative(M, H, head_width=D, clamp_length=4),
    "deberta": lambda: Disentangled(M, H, max_relative_positions=4),
    "deberta buckets": lambda: Disentangled(M, H, max_relative_positions=9, position_buckets=4),
    "deberta one way": lambda: Disentangled(M, H, max_relative_positions=20, content_to_position=False),
}
every = pytest.mark.parametrize("make", SCHEMES.values(), ids=SCHEMES)
parts = st.tuples(st.integers(0, LENGTH), st.integers(0, LENGTH)).map(lambda ends: range(min(ends), max(ends)))


def queries_and_keys(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(2, H, LENGTH, D, generator=generator, dtype=dtype) for _ in "qk")  # pyright: ignore[reportReturnType]


@checked
def same_shapes(
    bias: Float[Tensor, "h r"] | None,
    keys: Float[Tensor, "#h r d"] | None,
    queries: Float[Tensor, "#h r d"] | None,
    values: Float[Tensor, "#h r d"] | None,
    content_bias: Float[Tensor, "h d"] | None,
    position_bias: Float[Tensor, "h d"] | None,
) -> int:
    """The rows of tables that are annotated as those of ``RelativeTerms`` are."""
    return next(table.shape[1] for table in (bias, keys, queries, values) if table is not None)


def drawn(make: Callable[[], ScorePosition]) -> ScorePosition:
    """A scheme in float64 with large numbers in it, so that a wrong row is seen."""
    torch.manual_seed(0)
    scheme = make().double()
    with torch.no_grad():
        for parameter in scheme.parameters():
            parameter.normal_()
    return scheme


@every
@given(rows=parts, columns=parts)
def test_a_tile_is_a_part_of_the_whole(make: Callable[[], ScorePosition], rows: range, columns: range) -> None:
    scheme = drawn(make)
    q, k = queries_and_keys()
    every_position = range(LENGTH)
    whole = scheme.tile(every_position, every_position, q=q, k=k, scale=0.3)
    part = scheme.tile(
        rows, columns, q=q[:, :, rows.start : rows.stop], k=k[:, :, columns.start : columns.stop], scale=0.3
    )
    expected = whole[..., rows.start : rows.stop, columns.start : columns.stop]
    torch.testing.assert_close(part, expected, atol=1e-12, rtol=1e-12)


@every
def test_only_the_distance_counts(make: Callable[[], ScorePosition]) -> None:
    scheme = drawn(make)
    q, k = queries_and_keys()
    here = scheme.tile(range(LENGTH), range(LENGTH), q=q, k=k)
    there = scheme.tile(range(70, 70 + LENGTH), range(70, 70 + LENGTH), q=q, k=k)
    torch.testing.assert_close(here, there, atol=1e-12, rtol=1e-12)
    moved = scheme.tile(range(70, 70 + LENGTH), range(72, 72 + LENGTH), q=q, k=k)
    assert not torch.allclose(here, moved)


@pytest.mark.parametrize("make", [make for name, make in SCHEMES.items() if name != "alibi"])
def test_every_parameter_learns_from_scores_and_values(make: Callable[[], ScorePosition]) -> None:
    scheme = drawn(make)
    q, k = queries_and_keys()
    total = scheme.tile(range(LENGTH), range(LENGTH), q=q, k=k).square().sum()
    values = scheme.terms(-3, 3).values
    (total if values is None else total + values.square().sum()).backward()
    for name, parameter in scheme.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@every
def test_offsets_of_one_side_alone(make: Callable[[], ScorePosition]) -> None:
    """A table for far offsets only says of each of them what the large table says."""
    scheme = drawn(make)
    large = scheme.terms(-60, 60)
    for lowest, highest in ((-60, -40), (30, 55), (-7, -7), (2, 1)):
        small = scheme.terms(lowest, highest)
        assert small.n_rows >= 1
        offsets = torch.arange(lowest, highest + 1)
        for name in TENSORS:
            table, of_large = getattr(small, name), getattr(large, name)
            assert (table is None) == (of_large is None)
            if table is not None and not name.endswith("_bias"):
                torch.testing.assert_close(
                    table[:, small.rows(offsets)], of_large[:, large.rows(offsets)], atol=1e-12, rtol=1e-12
                )


@every
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_every_dtype(make: Callable[[], ScorePosition], dtype: torch.dtype) -> None:
    """The tables have the module's dtype; only a bias that has no parameter stays in float32."""
    torch.manual_seed(0)
    scheme = make()
    exact = copy.deepcopy(scheme).double().terms(-9, 9)
    cast = scheme.to(dtype).terms(-9, 9)
    expected = torch.promote_types(dtype, torch.float32) if isinstance(scheme, Alibi) else dtype
    for name in TENSORS:
        tensor = getattr(cast, name)
        if tensor is not None:
            assert tensor.dtype == expected
            torch.testing.assert_close(tensor.double(), getattr(exact, name).double(), atol=0.02, rtol=0.02)


@every
def test_a_model_built_on_the_meta_device_needs_its_parameters_only(make: Callable[[], ScorePosition]) -> None:
    scheme = drawn(make)
    with torch.device("meta"):
        shell = make()
    shell.load_state_dict(dict(scheme.named_parameters()), assign=True)
    q, k = queries_and_keys()
    whole = range(LENGTH)
    # ALiBi has nothing to assign, and keeps float32.
    torch.testing.assert_close(
        shell.tile(whole, whole, q=q, k=k).double(), scheme.tile(whole, whole, q=q, k=k), atol=1e-6, rtol=1e-6
    )


@every
def test_terms_compile_without_a_break_and_not_for_every_length(make: Callable[[], ScorePosition]) -> None:
    scheme = drawn(make)

    def tables(x: Tensor) -> list[Tensor]:
        n = x.shape[0]
        terms = scheme.terms(1 - n, n - 1)
        return [table for table in [getattr(terms, name) for name in TENSORS] if table is not None]

    torch._dynamo.reset()
    graphs: list[torch.fx.GraphModule] = []

    def count(graph: torch.fx.GraphModule, _: list[Tensor]) -> torch.fx.GraphModule:
        graphs.append(graph)
        return graph

    compiled = torch.compile(tables, backend=count, fullgraph=True)
    for n in (3, 4, 5, 10, 11, 12, 30, 31, 32):
        x = torch.zeros(n)
        for got, expected in zip(compiled(x), tables(x), strict=True):
            torch.testing.assert_close(got, expected)
    # The first length, any other length, and lengths from which on far offsets are alike.
    assert len(graphs) <= 4


@every
def test_the_annotations_hold(make: Callable[[], ScorePosition]) -> None:
    """The tables have the shapes that ``RelativeTerms`` declares, with one `h`, one `r` and one `d` for all of them."""
    terms = drawn(make).terms(-6, 6)
    tables = {name: getattr(terms, name) for name in TENSORS}
    assert same_shapes(**tables) == terms.n_rows


NAMES = {
    "alibi": set[str](),
    "t5": {"table"},
    "t5 causal": {"table"},
    "shaw": {"keys", "values"},
    "shaw by head": {"keys"},
    "xl": {"biases.u", "biases.w", "key.weight"},
    "xl clamped": {"biases.u", "biases.w", "key.weight"},
    "deberta": {"embeddings.weight", "key.weight", "key.bias", "query.weight", "query.bias"},
    "deberta buckets": {"embeddings.weight", "key.weight", "key.bias", "query.weight", "query.bias"},
    "deberta one way": {"embeddings.weight", "query.weight", "query.bias"},
}


@pytest.mark.parametrize("name", SCHEMES)
def test_the_state_is_the_parameters(name: str) -> None:
    scheme = SCHEMES[name]()
    assert set(scheme.state_dict()) == NAMES[name] == {name for name, _ in scheme.named_parameters()}
    assert str(scheme).startswith(type(scheme).__name__)


@pytest.mark.parametrize("name", ["shaw", "xl", "deberta"])
def test_content_must_be_there(name: str) -> None:
    with pytest.raises(ShapeError, match="Pass q= and k="):
        SCHEMES[name]().tile(range(3), range(3))


class Layer(nn.Module):
    """A layer whose scheme borrows what it can."""

    def __init__(self, biases: XLBiases, embeddings: RelativeEmbeddings) -> None:
        super().__init__()
        self.query, self.key = nn.Linear(M, M), nn.Linear(M, M)
        self.xl = XLRelative(M, H, biases=biases)
        self.deberta = Disentangled(
            M, H, max_relative_positions=4, embeddings=embeddings, key=self.key, query=self.query
        )


class Model(nn.Module):
    """The owner of what its layers share."""

    def __init__(self) -> None:
        super().__init__()
        self.biases = XLBiases(H, D)
        self.embeddings = RelativeEmbeddings(8, M, norm=nn.LayerNorm(M))
        self.layers = nn.ModuleList(Layer(self.biases, self.embeddings) for _ in range(2))


def test_what_is_borrowed_belongs_to_its_owner_alone() -> None:
    """One name in the state, one gradient, and no stale copy after copying, casting or assigning."""
    names = {"biases.u", "biases.w", "embeddings.weight", "embeddings.norm.weight", "embeddings.norm.bias"}
    for i in range(2):
        names |= {f"layers.{i}.{part}.{kind}" for part in ("query", "key") for kind in ("weight", "bias")}
        names.add(f"layers.{i}.xl.key.weight")
    model = Model()
    assert set(model.state_dict()) == names

    with torch.device("meta"):
        shell = Model()
    shell.load_state_dict(model.state_dict(), assign=True)
    for other in (copy.deepcopy(model).double(), shell):
        for layer in other.layers:
            assert isinstance(layer, Layer)
            assert layer.xl.biases is other.biases
            assert layer.deberta.embeddings is other.embeddings
            assert layer.deberta.key is layer.key
            keys = layer.deberta.terms(-2, 2).keys
            u = layer.xl.terms(-2, 2).content_bias
            assert keys is not None
            assert u is other.biases.u
            assert keys.dtype == layer.key.weight.dtype
            keys.sum().backward()
            assert layer.key.weight.grad is not None
        assert other.embeddings.weight.grad is not None


def test_bounds() -> None:
    assert bounded(-9, 9) == (-9, 9)
    assert bounded(-9, 9, below=-3, above=4) == (-3, 4)
    assert bounded(5, 9, below=-3, above=4) == (4, 4)
    assert bounded(-9, -5, below=-3, above=4) == (-3, -3)
    assert bounded(2, -4) == (2, 2)
