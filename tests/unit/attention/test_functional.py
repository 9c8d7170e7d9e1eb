"""``attend``: laws that hold on every kernel, derivatives in float64, and every misuse.

That every kernel is the formula, with every mask and position, is shown in `tests/parity/test_kernels.py`.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from huiyan.attention.functional import attend
from huiyan.attention.kernels import packed
from huiyan.attention.masks import Causal, Global, Keys, Mask, Segments, Where, Window
from huiyan.attention.positions.alibi import Alibi
from huiyan.attention.positions.disentangled import Disentangled
from huiyan.attention.positions.relative import ScorePosition
from huiyan.attention.positions.rotary import Rotary
from huiyan.attention.positions.shaw import ShawRelative
from huiyan.attention.positions.sinusoidal import Sinusoidal
from huiyan.attention.positions.t5 import T5Bias
from huiyan.attention.positions.xl import XLRelative
from huiyan.core.errors import ConfigError, ShapeError

H, G, D = 4, 2, 4
KERNELS = ["oracle", "sdpa", "blockwise", "packed", "padded", "by runs"]
SCHEMES: dict[str, Callable[[], nn.Module]] = {
    "rotary": lambda: Rotary(D),
    "alibi": lambda: Alibi(H),
    "t5": lambda: T5Bias(H, n_buckets=8, max_distance=16),
    "shaw": lambda: ShawRelative(D, 2),
    "xl": lambda: XLRelative(H * D, H),
    "disentangled": lambda: Disentangled(H * D, H, max_relative_positions=3),
}
Attend = Callable[..., Tensor]


def draw(*shapes: tuple[int, ...], dtype: torch.dtype = torch.float64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes]


def scheme(name: str, dtype: torch.dtype = torch.float64) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        module = SCHEMES[name]().to(dtype)
        for parameter in module.parameters():
            nn.init.normal_(parameter, std=0.3)
    return module


@pytest.fixture(params=KERNELS)
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Attend:
    """Each kernel as a function of dense q, k and v; those for packed input get the batch laid end to end."""
    name = request.param
    if name == "padded":
        monkeypatch.setattr(packed, "_is_padded", lambda *_: True)

    def dense(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Tensor:
        if name in ("oracle", "sdpa", "blockwise"):
            return attend(q, k, v, kernel=name, **options)
        flat = (x.transpose(1, 2).flatten(0, 1) for x in (q, k, v))
        sizes = {"lengths": torch.tensor([q.shape[2]] * len(q)), "key_lengths": torch.tensor([k.shape[2]] * len(k))}
        out = attend(*flat, **sizes, kernel="blockwise" if name == "by runs" else "packed", **options)
        return out.unflatten(0, (len(q), q.shape[2])).transpose(1, 2)

    return dense


def gradients_are_those_of_differences(function: Callable[..., Tensor], inputs: list[Tensor]) -> bool:
    return torch.autograd.gradcheck(function, [x.requires_grad_() for x in inputs], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("mask", [None, Causal(), Window(1, 0)], ids=["no mask", "causal", "window"])
def test_gradcheck(kernel: Attend, mask: Mask | None) -> None:
    """The first rows of causal and window see nothing: more queries than keys."""
    assert gradients_are_those_of_differences(
        lambda q, k, v: kernel(q, k, v, mask=mask), draw((2, 2, 4, 3), (2, 1, 3, 3), (2, 1, 3, 3))
    )


@pytest.mark.parametrize("name", SCHEMES)
@pytest.mark.parametrize("way", ["oracle", "blockwise", "packed", "padded"])
def test_gradcheck_through_positions(way: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With cap, sinks and dropout at once; the gradients of the scheme's own parameters too."""
    if way == "padded":
        monkeypatch.setattr(packed, "_is_padded", lambda *_: True)
    position = scheme(name)
    names, parameters = zip(*position.named_parameters(), strict=True) if list(position.parameters()) else ((), ())
    options: dict[str, Any] = {"mask": ~Global([1]), "soft_cap": 3.0, "dropout": 0.3, "seed": 1}
    packs = way in ("packed", "padded")
    if packs:
        options["lengths"] = torch.tensor([3, 0, 1])
    shapes = [(4, n, D) for n in (H, G, G)] if packs else [(1, n, 3, D) for n in (H, G, G)]

    def function(q: Tensor, k: Tensor, v: Tensor, sinks: Tensor, *own: Tensor) -> Tensor:
        with torch.nn.utils.stateless._reparametrize_module(position, dict(zip(names, own, strict=True))):
            return attend(q, k, v, sinks=sinks, position=position, kernel="packed" if packs else way, **options)

    own = [x.detach().clone() for x in parameters]
    inputs = [x.requires_grad_() for x in (*draw(*shapes, (H,)), *own)]
    assert torch.autograd.gradcheck(function, inputs, atol=1e-6, rtol=1e-5, fast_mode=True)


@pytest.mark.parametrize("name", SCHEMES)
def test_gradgradcheck_of_the_formula(name: str) -> None:
    """Second derivatives are the oracle's: kernels that compute a map again do not define them."""
    position = scheme(name)
    inputs = [x.requires_grad_() for x in draw((1, H, 2, D), (1, G, 3, D), (1, G, 3, D), (H,))]

    def function(q: Tensor, k: Tensor, v: Tensor, sinks: Tensor) -> Tensor:
        return attend(q, k, v, sinks=sinks, position=position, mask=Window(1, 1), soft_cap=3.0, kernel="oracle")

    assert torch.autograd.gradgradcheck(function, inputs, atol=1e-6, rtol=1e-5, fast_mode=True)


def test_gradgradcheck_where_torch_defines_it() -> None:
    """The fused kernel of `torch` has second derivatives where it falls back to the formula, as with a mask."""
    inputs = [x.requires_grad_() for x in draw((1, 2, 2, 3), (1, 2, 3, 3), (1, 2, 3, 3))]
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        assert torch.autograd.gradgradcheck(lambda q, k, v: attend(q, k, v, mask=Causal(), kernel="sdpa"), inputs)


@pytest.mark.parametrize("way", ["blockwise", "packed"])
def test_second_derivatives_are_refused_and_not_wrong(way: str) -> None:
    shape, options = ((1, 2, 3, 4), {}) if way == "blockwise" else ((3, 2, 4), {"lengths": torch.tensor([3])})
    q, k, v = (x.requires_grad_() for x in draw(shape, shape, shape))
    out = attend(q, k, v, kernel=way, **options)
    (first,) = torch.autograd.grad(out.sin().sum(), q, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable|does not have a grad_fn|no autograd"):
        first.sum().backward()


@pytest.mark.parametrize("n", [1, 5, 70])
def test_nothing_later_reaches_a_causal_row(kernel: Attend, n: int) -> None:
    q, k, v = draw(*[(2, 2, n, D)] * 3)
    before = kernel(q, k, v, mask=Causal())
    for cut in {0, n // 2, n - 1}:
        shaken = [torch.cat([x[:, :, :cut], x[:, :, cut:] * -3 + 50], dim=2) for x in (k, v)]
        after = kernel(q, *shaken, mask=Causal())
        torch.testing.assert_close(after[:, :, :cut], before[:, :, :cut], atol=1e-12, rtol=1e-12)
        assert not torch.isclose(after[:, :, cut:], before[:, :, cut:]).all(-1).any()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", ["none", "all", "one by one"])
def test_blind_rows_give_zero_and_finite_gradients(kernel: Attend, name: str, dtype: torch.dtype) -> None:
    """Queries that see no key, at scores so large that a softmax of -inf alone would overflow."""
    mask = {"none": ~Window(9, 9), "all": ~Global([0, 1, 2]), "one by one": Causal()}[name]
    leaves = [x.requires_grad_() for x in draw((2, 2, 5, 8), (2, 2, 3, 8), (2, 2, 3, 8), dtype=dtype)]
    out = kernel(*leaves, mask=mask, scale=1e3)
    blind = 2 if name == "one by one" else 5
    assert not out[:, :, :blind].any()
    assert name != "one by one" or out[:, :, 2:].abs().amin(-1).gt(0).all()
    gradients = torch.autograd.grad((out * torch.randn_like(out)).sum(), leaves)
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert not gradients[0][:, :, :blind].any()


@pytest.mark.parametrize(("n_queries", "n_keys"), [(1, 1), (1, 4), (4, 1), (0, 3), (3, 0), (0, 0)])
@pytest.mark.parametrize(("h", "d"), [(1, 1), (3, 5), (2, 33)], ids=["one head of width 1", "odd", "odd and wider"])
def test_small_empty_and_odd(kernel: Attend, n_queries: int, n_keys: int, h: int, d: int) -> None:
    leaves = [x.requires_grad_() for x in draw((2, h, n_queries, d), (2, 1, n_keys, d), (2, 1, n_keys, d))]
    out = kernel(*leaves)
    expected = torch.softmax(leaves[0] @ leaves[1].mT * d**-0.5, dim=-1) @ leaves[2]
    torch.testing.assert_close(out, expected)
    assert all(x.isfinite().all() for x in torch.autograd.grad(out.sum(), leaves))


def test_memory_may_lie_as_it_likes(kernel: Attend) -> None:
    """Transposed, with gaps, expanded: values and gradients are those of contiguous tensors."""
    q, k, v = draw((2, 5, 4, 6), (2, 4, 5, 6), (2, 4, 5, 12))
    strange = [q.transpose(1, 2), k[:, :1].expand(2, 2, 5, 6), v[:, ::2, :, ::2]]
    plain = [x.contiguous() for x in strange]
    results = []
    for tensors in (strange, plain):
        leaves = [x.detach().requires_grad_() for x in tensors]
        out = kernel(*leaves, mask=Causal())
        results.append([out, *torch.autograd.grad((out * out.flip(-1)).sum(), leaves)])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)


def test_a_gradient_may_lie_as_it_likes(kernel: Attend) -> None:
    q, k, v = (x.requires_grad_() for x in draw(*[(2, 2, 5, 6)] * 3))
    out = kernel(q, k, v)
    for d_out in (torch.ones(()).double().expand(out.shape), torch.randn(2, 5, 6, 2).double().permute(0, 3, 1, 2)):
        given = torch.autograd.grad(out, (q, k, v), d_out, retain_graph=True)
        expected = torch.autograd.grad(out, (q, k, v), d_out.contiguous(), retain_graph=True)
        torch.testing.assert_close(given, expected)


@pytest.mark.parametrize("mask", [None, Causal(), Window(2, 2)], ids=["no mask", "causal", "window"])
def test_float16_holds_scores_of_ten_thousand(kernel: Attend, mask: Mask | None) -> None:
    """Scores of ±1e4: the row goes to its largest key, and nothing overflows, in the gradients neither."""
    q, k, v = draw((1, 2, 6, 4), (1, 2, 6, 4), (1, 2, 6, 4), dtype=torch.float16)
    signs = torch.tensor([1.0, -1.0, 1.0, -1.0, 1.0, -1.0], dtype=torch.float16)[:, None]
    q, k = torch.full_like(q, 50) * signs, torch.full_like(k, 50) * signs.flip(0)
    k[..., 0] += torch.arange(6, dtype=torch.float16)  # one key of each sign is largest
    leaves = [x.requires_grad_() for x in (q, k, v)]
    out = kernel(*leaves, mask=mask, scale=1.0)
    scores = q.detach().double() @ k.detach().double().mT
    assert scores.max() > 1e4 - 100 and scores.min() < -1e4 + 100
    expected = attend(q.detach().double(), k.detach().double(), v.detach().double(), mask=mask, scale=1.0)
    torch.testing.assert_close(out.double(), expected, atol=2e-3, rtol=2e-3)
    assert all(x.isfinite().all() for x in torch.autograd.grad(out.sum(), leaves))


@pytest.mark.parametrize("name", ["none", *SCHEMES])
@pytest.mark.parametrize("way", ["packed", "padded", "blockwise", "oracle"])
def test_packed_is_one_by_one(way: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty sequence, one token, a run of two, and one beyond a tile; the padded way has no padding to show."""
    if way == "padded":
        monkeypatch.setattr(packed, "_is_padded", lambda *_: True)
    kernel, lengths = "packed" if way == "padded" else way, [3, 3, 0, 1, 70]
    q, k, v = draw((77, H, D), (77, G, D), (77, G, D))
    options: dict[str, Any] = {"mask": Causal() & Window(40, 0), "position": None if name == "none" else scheme(name)}
    out = attend(q, k, v, lengths=torch.tensor(lengths), kernel=kernel, **options)
    parts = zip(*(x.split(lengths) for x in (q, k, v)), strict=True)
    alone = [attend(*(x.transpose(0, 1)[None] for x in qkv), **options)[0].transpose(0, 1) for qkv in parts]
    torch.testing.assert_close(out, torch.cat(alone), atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("name", [name for name in SCHEMES if name != "rotary"])
def test_a_position_adds_what_its_tile_says(name: str) -> None:
    """Two ways through one scheme: the map of `tile`, added to scores by hand, and the kernel."""
    position: ScorePosition = scheme(name)
    if isinstance(position, ShawRelative):
        position.values = None
    q, k, v = draw((2, H, 5, D), (2, H, 7, D), (2, H, 7, D))
    bias = position.tile(range(2, 7), range(7), q=q, k=k, scale=0.3)
    expected = (0.3 * q @ k.mT + bias).softmax(-1) @ v
    for kernel in ("oracle", "blockwise"):
        torch.testing.assert_close(attend(q, k, v, position=position, scale=0.3, kernel=kernel), expected)


@pytest.mark.parametrize("name", SCHEMES)
@pytest.mark.parametrize("way", ["oracle", "blockwise", "packed"])
def test_half_queries_beside_a_float32_position(way: str, name: str) -> None:
    """What autocast brings about: the result has the dtype of the queries, parameters have gradients in theirs."""
    position = scheme(name, torch.float32)
    (sinks,) = draw((H,), dtype=torch.float32)
    shapes, options = [(1, n, 5, D) for n in (H, G, G)], {}
    if way == "packed":
        shapes, options = [(5, n, D) for n in (H, G, G)], {"lengths": torch.tensor([5])}
    q, k, v = draw(*shapes, dtype=torch.bfloat16)
    out = attend(q, k, v, position=position, sinks=sinks.requires_grad_(), kernel=way, **options)
    assert out.dtype == torch.bfloat16
    wide = (x.float() for x in (q, k, v))
    exact = attend(*wide, position=position, sinks=sinks, kernel="oracle", **options)
    torch.testing.assert_close(out.float(), exact, atol=3e-2, rtol=3e-2)
    out.sum().backward()
    assert all(x.grad is not None and x.grad.dtype == torch.float32 for x in (sinks, *position.parameters()))


@pytest.mark.parametrize("name", ["shaw", "xl", "disentangled"])
@pytest.mark.parametrize("way", ["blockwise", "packed"])
def test_autocast_does_not_round_inside_a_kernel(way: str, name: str) -> None:
    """What goes in as float32 is computed in it, forwards as backwards: both must see the same scores."""
    terms = scheme(name, torch.float32).terms(-4, 4)

    class Fixed(ScorePosition):
        def terms(self, lowest: int, highest: int) -> Any:
            return terms

    shapes, options = [(1, n, 5, D) for n in (H, G, G)], {}
    if way == "packed":
        shapes, options = [(5, n, D) for n in (H, G, G)], {"lengths": torch.tensor([5])}
    q, k, v = draw(*shapes, dtype=torch.float32)
    # The scheme's own projections may be rounded; without its biases nothing else is computed outside the kernel.
    object.__setattr__(terms, "content_bias", None)
    object.__setattr__(terms, "position_bias", None)
    plain = attend(q, k, v, position=Fixed(), kernel=way, **options)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = attend(q, k, v, position=Fixed(), kernel=way, **options)
    torch.testing.assert_close(cast, plain, atol=1e-6, rtol=1e-6)


def test_scale_is_free() -> None:
    q, k, v = draw(*[(1, 2, 5, 16)] * 3)
    torch.testing.assert_close(attend(q, k, v), attend(q / 4, k, v, scale=1.0))
    torch.testing.assert_close(attend(q, k, v, scale=0.0), v.mean(2, keepdim=True).expand_as(v))
    # A scheme may ask for one: DeBERTa's is 1/√(3d), and what the caller says goes before it.
    position = scheme("disentangled")
    q, k, v = draw((1, H, 5, D), (1, G, 5, D), (1, G, 5, D))
    asked = attend(q, k, v, position=position)
    torch.testing.assert_close(asked, attend(q, k, v, position=position, scale=(3 * D) ** -0.5))
    assert not torch.allclose(asked, attend(q, k, v, position=position, scale=D**-0.5))


def test_the_same_seed_drops_the_same_weights_on_every_kernel(kernel: Attend) -> None:
    q, k, v = draw((2, 2, 70, D), (2, 2, 130, D), (2, 2, 130, D))
    if kernel.__closure__ and "sdpa" in [cell.cell_contents for cell in kernel.__closure__]:
        with pytest.raises(ConfigError, match="'sdpa' does not take dropout"):
            kernel(q, k, v, dropout=0.4, seed=7)
        return
    first = kernel(q, k, v, dropout=0.4, seed=7)
    torch.testing.assert_close(first, attend(q, k, v, dropout=0.4, seed=7, kernel="oracle"))
    torch.testing.assert_close(first, kernel(q, k, v, dropout=0.4, seed=7), atol=0, rtol=0)
    assert not torch.allclose(first, kernel(q, k, v, dropout=0.4, seed=8))
    torch.testing.assert_close(kernel(q, k, v, dropout=0.0, seed=7), attend(q, k, v))


@pytest.mark.parametrize("packs", [False, True], ids=["dense", "packed"])
def test_without_a_seed_torch_draws_one(packs: bool) -> None:
    (q,) = draw((9, 2, 4) if packs else (1, 2, 9, 4))
    options: dict[str, Any] = {"dropout": 0.5, "lengths": torch.tensor([4, 5]) if packs else None}
    with torch.random.fork_rng():
        torch.manual_seed(5)
        first, second = (attend(q, q, q, **options) for _ in range(2))
        torch.manual_seed(5)
        assert torch.equal(attend(q, q, q, **options), first)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("seed", [None, 3])
def test_a_seed_is_on_the_cpu_whatever_the_default_device(seed: int | None) -> None:
    (q,) = draw((9, 2, 4))
    options: dict[str, Any] = {"dropout": 0.5, "seed": seed, "lengths": torch.tensor([4, 5])}
    with torch.random.fork_rng():
        torch.manual_seed(5)
        expected = attend(q, q, q, **options)
        torch.manual_seed(5)
        with torch.device("meta"):
            out = attend(q, q, q, **options)
    torch.testing.assert_close(out, expected)


def test_no_sequences_at_all() -> None:
    none = torch.zeros(0, dtype=torch.int64)
    empty = torch.zeros(0, 2, 4)
    for kernel in ("auto", "oracle", "blockwise"):
        assert attend(empty, empty, empty, lengths=none, kernel=kernel).shape == (0, 2, 4)
    dense = torch.zeros(0, 2, 3, 4)
    for kernel in ("auto", "oracle", "blockwise", "sdpa"):
        assert attend(dense, dense, dense, kernel=kernel, mask=Causal()).shape == (0, 2, 3, 4)


class Stricter(Causal):
    """A rule of somebody's own."""


DENSE, PACKED = torch.zeros(2, 4, 5, 8), torch.zeros(10, 4, 8)
LENGTHS = torch.tensor([6, 4])
MISUSE: dict[str, tuple[type[Exception], str, tuple[Tensor, Tensor, Tensor], dict[str, Any]]] = {
    "dense with lengths": (ShapeError, "Leave lengths out", (DENSE, DENSE, DENSE), {"lengths": LENGTHS}),
    "lengths in a list": (
        ShapeError,
        r"Got list. Write torch.tensor\(lengths\)",
        (PACKED, PACKED, PACKED),
        {"lengths": [10]},
    ),
    "packed without": (ShapeError, "needs lengths", (PACKED, PACKED, PACKED), {}),
    "two dimensions": (ShapeError, r"as `b h q d`. Got q \(4, 8\)", (PACKED[0], PACKED[0], PACKED[0]), {}),
    "mixed layouts": (ShapeError, r"k \(10, 4, 8\)", (DENSE, PACKED, PACKED), {}),
    "k without v": (ShapeError, "k and v must have one shape", (DENSE, DENSE, DENSE[:, :, :3]), {}),
    "head widths": (ShapeError, "one head width", (DENSE, DENSE[..., :4], DENSE[..., :4]), {}),
    "no head width": (ShapeError, "at least 1", (DENSE[..., :0], DENSE[..., :0], DENSE[..., :0]), {}),
    "heads": (ShapeError, "multiple of the key heads", (DENSE, DENSE[:, :3], DENSE[:, :3]), {}),
    "more key heads": (ShapeError, "multiple of the key heads", (DENSE[:, :2], DENSE, DENSE), {}),
    "no key heads": (ShapeError, "multiple of the key heads", (DENSE, DENSE[:, :0], DENSE[:, :0]), {}),
    "batches": (ShapeError, "one batch", (DENSE, DENSE[:1], DENSE[:1]), {}),
    "dtypes": (ShapeError, "float32, torch.float32 and torch.float64", (DENSE, DENSE, DENSE.double()), {}),
    "integers": (ShapeError, "floating dtype", (DENSE.long(), DENSE.long(), DENSE.long()), {}),
    "devices": (ShapeError, "one device. Got cpu, meta", (DENSE, DENSE.to("meta"), DENSE.to("meta")), {}),
    "sum": (ShapeError, "add up to the 10 tokens of q", (PACKED, PACKED, PACKED), {"lengths": LENGTHS + 1}),
    "negative": (ShapeError, "at least 0", (PACKED, PACKED, PACKED), {"lengths": torch.tensor([-1, 11])}),
    "int32": (ShapeError, "Got torch.int32", (PACKED, PACKED, PACKED), {"lengths": LENGTHS.int()}),
    "lengths on a device": (ShapeError, "on meta", (PACKED, PACKED, PACKED), {"lengths": LENGTHS.to("meta")}),
    "a table of lengths": (ShapeError, r"shape \(1, 2\)", (PACKED, PACKED, PACKED), {"lengths": LENGTHS[None]}),
    "key sum": (
        ShapeError,
        "key_lengths must be at least 0 and add up to the 10 tokens of k",
        (PACKED, PACKED, PACKED),
        {"lengths": LENGTHS, "key_lengths": LENGTHS - 1},
    ),
    "default key sum": (
        ShapeError,
        "key_lengths .* the 3 tokens",
        (PACKED, PACKED[:3], PACKED[:3]),
        {"lengths": LENGTHS},
    ),
    "unpaired": (
        ShapeError,
        "2 lengths and 3 key_lengths",
        (PACKED, PACKED, PACKED),
        {"lengths": LENGTHS, "key_lengths": torch.tensor([5, 4, 1])},
    ),
    "key_lengths alone": (ShapeError, "Got key_lengths alone", (DENSE, DENSE, DENSE), {"key_lengths": LENGTHS}),
    "keys of another size": (
        ShapeError,
        r"here \(2, 5\). Got \(2, 4\)",
        (DENSE, DENSE, DENSE),
        {"mask": Causal() & Keys(torch.ones(2, 4).bool())},
    ),
    "keys on packed": (
        ConfigError,
        "Keys mask belongs to a dense batch",
        (PACKED, PACKED, PACKED),
        {"lengths": LENGTHS, "mask": Causal() & Keys(torch.ones(2, 10).bool())},
    ),
    "unknown kernel": (ConfigError, "'sdpa2'. Did you mean 'sdpa'", (DENSE, DENSE, DENSE), {"kernel": "sdpa2"}),
    "packed kernel, dense": (ConfigError, "'packed' does not take dense", (DENSE, DENSE, DENSE), {"kernel": "packed"}),
    "dense kernel, packed": (
        ConfigError,
        "'sdpa' does not take packed input.*Choose 'auto'",
        (PACKED, PACKED, PACKED),
        {"lengths": LENGTHS, "kernel": "sdpa"},
    ),
    "segments on packed": (
        ConfigError,
        "Segments mask belongs to a dense batch.*Give the length of every segment in lengths",
        (PACKED, PACKED, PACKED),
        {"lengths": LENGTHS, "mask": ~Segments(torch.zeros(10).long())},
    ),
    "segments of another size": (
        ShapeError,
        r"queries of Segments must be .*here \(5,\) or \(2, 5\). Got \(4,\)",
        (DENSE, DENSE, DENSE),
        {"mask": Segments(torch.zeros(4).long())},
    ),
    "somebody's mask on packed": (
        ConfigError,
        "A Stricter mask is not for packed sequences. Choose among Causal",
        (PACKED, PACKED, PACKED),
        {"lengths": LENGTHS, "mask": Stricter()},
    ),
    "input position": (
        ConfigError,
        "position that acts on scores, or Rotary. Got Sinusoidal. Sinusoidal and Learned positions are added",
        (DENSE, DENSE, DENSE),
        {"position": Sinusoidal(8)},
    ),
    "position of other heads": (
        ShapeError,
        r"position's bias must be for 4 heads of width 8, as q \(2, 4, 5, 8\) has. Got \(3, \d+\)",
        (DENSE, DENSE, DENSE),
        {"position": Alibi(3)},
    ),
    "position of another head width": (
        ShapeError,
        r"position's keys must be for 4 heads of width 8",
        (PACKED, PACKED, PACKED),
        {"position": ShawRelative(6, 2), "lengths": LENGTHS},
    ),
    "rotary of another head width": (ShapeError, "Rotary", (DENSE, DENSE, DENSE), {"position": Rotary(4)}),
    "position on sdpa": (
        ConfigError,
        "'sdpa' does not take relative positions. Choose 'auto'",
        (DENSE, DENSE, DENSE),
        {"position": Alibi(4), "kernel": "sdpa"},
    ),
    "flex without cuda": (ConfigError, "only on 'cuda'", (DENSE, DENSE, DENSE), {"kernel": "flex"}),
    "soft cap": (ConfigError, "soft_cap option must be above 0. Got 0", (DENSE, DENSE, DENSE), {"soft_cap": 0.0}),
    "dropout of all": (ConfigError, "at least 0 and below 1. Got 1.0", (DENSE, DENSE, DENSE), {"dropout": 1.0}),
    "negative dropout": (ConfigError, "Got -0.5", (DENSE, DENSE, DENSE), {"dropout": -0.5}),
    "sinks": (
        ShapeError,
        r"here \(4,\), on cpu. Got torch.float32 of shape \(2,\)",
        (DENSE, DENSE, DENSE),
        {"sinks": torch.zeros(2)},
    ),
    "half and whole": (ShapeError, "one floating dtype. Got torch.float16", (DENSE.half(), DENSE, DENSE), {}),
    "a mask in a tensor": (
        ConfigError,
        r"mask option must be a mask, or None. Got a tensor, torch.bool \(5, 5\). Give Keys\(x\) .* or Where\(",
        (DENSE, DENSE, DENSE),
        {"mask": torch.ones(5, 5).bool()},
    ),
    "the class of a mask": (
        ConfigError,
        "Got the class Causal. Call it: Causal",
        (PACKED, PACKED, PACKED),
        {"mask": Causal, "lengths": LENGTHS},
    ),
    "the name of a mask": (ConfigError, "Got str. Give Causal", (DENSE, DENSE, DENSE), {"mask": "causal"}),
    "a rule of numbers": (
        ShapeError,
        "rule of Where must give a boolean tensor",
        (DENSE, DENSE, DENSE),
        {"mask": Where(lambda row, column: row - column)},
    ),
}


@pytest.mark.parametrize(("error", "message", "tensors", "options"), MISUSE.values(), ids=MISUSE)
def test_misuse_is_named(
    error: type[Exception], message: str, tensors: tuple[Tensor, Tensor, Tensor], options: dict[str, Any]
) -> None:
    with pytest.raises(error, match=message):
        attend(*tensors, **options)
