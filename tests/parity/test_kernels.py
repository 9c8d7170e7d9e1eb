"""Every kernel against the formula in float64: kernel × mask × position × {eval, train} × dtype.

The bound is that of Dao et al. 2022's published tests: error of the kernel ≤ 2 × error of the plain formula in the same
dtype (3 × for gradients) + 1e-6. Sizes are small, but hold several blocks and several 64 × 64 tiles of dropout.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from huiyan.attention import functional, oracle
from huiyan.attention.functional import attend
from huiyan.attention.kernels import packed
from huiyan.attention.kernels.blockwise import attend_blockwise
from huiyan.attention.masks import Causal, Global, Keys, Mask, Prefix, Segments, Where, Window
from huiyan.attention.observing import observe
from huiyan.attention.oracle import attend_by_formula
from huiyan.attention.positions.alibi import Alibi
from huiyan.attention.positions.disentangled import Disentangled
from huiyan.attention.positions.relative import RelativeTerms, ScorePosition
from huiyan.attention.positions.rotary import Rotary
from huiyan.attention.positions.shaw import ShawRelative
from huiyan.attention.positions.t5 import T5Bias
from huiyan.attention.positions.xl import XLRelative
from huiyan.attention.scoring import Scoring

B, H, G, D, N = 2, 2, 1, 8, 130
LENGTHS = [66, 66, 0, 1, 20]  # a run, an empty sequence, one token; two of two tiles a side

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
MODES = {"eval": {}, "train": {"dropout": 0.3, "seed": 11}}
KEYS = torch.arange(N) % 7 != torch.tensor([[3], [5]])
KEYS[1, 64:] = False
SEGMENTS = torch.tensor([0] * 30 + [1] * 60 + [2] * 40)
MASKS: dict[str, Mask | None] = {
    "none": None,
    "causal": Causal(),
    "window": Window(20, 3),
    "prefix": Causal() | Prefix(9),
    "global": Window(16, 16) | Global([0, 100]),
    "not": ~Causal() & ~Window(5, 5),  # the last rows see nothing
    "where": Where(lambda row, column: (row + 2 * column) % 3 != 0),
}
DENSE_MASKS = MASKS | {
    "keys": Keys(KEYS),
    "keys causal": Keys(~KEYS) & Causal(),  # the first rows see nothing
    "segments": Segments(torch.stack([SEGMENTS, SEGMENTS.flip(0)])),
}
POSITIONS: dict[str, Callable[[], nn.Module] | None] = {
    "none": None,
    "rotary": lambda: Rotary(D),
    "alibi": lambda: Alibi(H),
    "t5": lambda: T5Bias(H, n_buckets=8, max_distance=40),
    "shaw": lambda: ShawRelative(D, 20),
    "xl": lambda: XLRelative(H * D, H),
    "disentangled": lambda: Disentangled(H * D, H, max_relative_positions=30),
}


class Rounded(ScorePosition):
    """A scheme whose tables hold numbers of one dtype, in whatever dtype they are wanted: an input like any other."""

    def __init__(self, scheme: ScorePosition, held: torch.dtype, wanted: torch.dtype) -> None:
        super().__init__()
        self.scheme, self.held, self.wanted = scheme, held, wanted

    def terms(self, lowest: int, highest: int) -> RelativeTerms:
        def rounded(x: Tensor) -> Tensor:  # in a detached sum, so that the gradient is not rounded too
            return (x + (x.to(self.held).to(x.dtype) - x).detach()).to(self.wanted)

        return self.scheme.terms(lowest, highest).map(rounded)


@dataclass(frozen=True)
class Case:
    """What is computed, whichever kernel does it. ``sizes`` are those of a dense map; None is packed."""

    mask: str
    position: str
    mode: str
    dtype: str
    sizes: tuple[int, int] | None = (N, N)
    variants: bool = False

    def inputs(self) -> tuple[Tensor, ...]:
        """q, k, v, sinks and the gradient of the output: float64 numbers that the dtype holds exactly."""
        generator = torch.Generator().manual_seed(1)
        if self.sizes is None:
            shapes = [(sum(LENGTHS), H, D), *[(sum(LENGTHS), G, D)] * 2]
        else:
            shapes = [(B, H, self.sizes[0], D), *[(B, G, self.sizes[1], D)] * 2]
        drawn = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in (*shapes, (H,), shapes[0])]
        return tuple(x.to(DTYPES[self.dtype]).double() for x in drawn)

    def scheme(self) -> nn.Module | None:
        make = POSITIONS[self.position]
        if make is None:
            return None
        with torch.random.fork_rng():
            torch.manual_seed(2)
            module = make().double()
            for parameter in module.parameters():
                nn.init.normal_(parameter, std=0.3)
        return module

    def run(self, dtype: torch.dtype, kernel: str) -> dict[str, Tensor]:
        """The output and every gradient, of queries, keys, values, sinks and parameters."""
        *leaves, d_out = (x.to(dtype) for x in self.inputs())
        q, k, v, sinks = (x.requires_grad_() for x in leaves)
        scheme = deepcopy(self.scheme())
        out = self.attend(dtype, kernel, q, k, v, sinks, scheme)
        assert out.dtype == dtype and out.shape == q.shape
        out.backward(d_out)
        results = {"out": out.detach(), "dq": q.grad, "dk": k.grad, "dv": v.grad, "dsinks": sinks.grad}
        results |= {name: x.grad for name, x in (scheme.named_parameters() if scheme else ())}
        return {name: x.double() for name, x in results.items() if x is not None}

    def attend(
        self, dtype: torch.dtype, kernel: str, q: Tensor, k: Tensor, v: Tensor, sinks: Tensor, scheme: nn.Module | None
    ) -> Tensor:
        """The output."""
        position = Rounded(scheme, DTYPES[self.dtype], dtype) if isinstance(scheme, ScorePosition) else scheme
        options: dict[str, Any] = dict(MODES[self.mode])
        if isinstance(scheme, Disentangled):
            options["scale"] = scheme.scale
        if self.sizes is None:
            options["lengths"] = torch.tensor(LENGTHS)
        if self.variants:
            options |= {"sinks": sinks, "soft_cap": 2.0}
        return attend(q, k, v, mask=DENSE_MASKS[self.mask], position=position, kernel=kernel, **options)


@cache
def by_formula(case: Case) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """In float64, and in the dtype of the case."""
    return case.run(torch.float64, "oracle"), case.run(DTYPES[case.dtype], "oracle")


def check(case: Case, kernel: str) -> None:
    exact, plain = by_formula(case)
    fast = case.run(DTYPES[case.dtype], kernel)
    assert exact.keys() == plain.keys() == fast.keys()
    assert len(exact) >= 4
    for name, truth in exact.items():
        error, formula = ((x[name] - truth).abs().max() for x in (fast, plain))
        # A table's gradient is a sum over all pairs: 1e-6 is of its size. And two sinks are so few that the formula may
        # hit upon their last bit by luck; `test_sinks_on_average` is the strict test for them.
        size = float(truth.abs().max()) if truth.numel() else 0.0
        floor = 1e-6 * max(1.0, size) + (torch.finfo(DTYPES[case.dtype]).eps * size if name == "dsinks" else 0.0)
        assert error <= (2 if name == "out" else 3) * formula + floor, (name, float(error), float(formula))


@pytest.fixture(params=["packed", "padded"])
def packed_kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The operator as on the CPU, and as on an accelerator (run here on the CPU)."""
    if request.param == "padded":
        monkeypatch.setattr(packed, "_is_padded", lambda *_: True)
    return "packed"


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The blockwise kernel in blocks of 64, of which the map holds several."""
    monkeypatch.setitem(functional._DENSE, "blockwise", partial(attend_blockwise, block_size=64))


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("mask", DENSE_MASKS)
def test_blockwise_is_the_formula(mask: str, position: str, mode: str, dtype: str) -> None:
    check(Case(mask, position, mode, dtype), "blockwise")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("position", ["none", "rotary"])
@pytest.mark.parametrize("mask", DENSE_MASKS)
def test_sdpa_is_the_formula(mask: str, position: str, dtype: str) -> None:
    check(Case(mask, position, "eval", dtype), "sdpa")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("mask", MASKS)
def test_packed_is_the_formula(mask: str, position: str, mode: str, dtype: str, packed_kernel: str) -> None:
    check(Case(mask, position, mode, dtype, sizes=None), packed_kernel)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("mask", ["none", "not", "where"])
def test_packed_by_runs_is_the_formula(mask: str, position: str, mode: str) -> None:
    check(Case(mask, position, mode, "fp32", sizes=None), "blockwise")


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("mask", ["not", "global"])
def test_cap_and_sinks_are_the_formulas(mask: str, position: str, mode: str, dtype: str) -> None:
    check(Case(mask, position, mode, dtype, variants=True), "blockwise")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("position", ["none", "t5", "xl"])
def test_cap_and_sinks_are_the_formulas_packed(position: str, mode: str, dtype: str, packed_kernel: str) -> None:
    check(Case("not", position, mode, dtype, sizes=None, variants=True), packed_kernel)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("mask", ["causal", "global", "not", "where"])
@pytest.mark.parametrize("sizes", [(70, 130), (130, 70), (1, 130)], ids=str)
def test_queries_and_keys_differ_in_number(sizes: tuple[int, int], mask: str, position: str) -> None:
    check(Case(mask, position, "train", "fp32", sizes=sizes), "blockwise")


@pytest.mark.parametrize("kernel", ["blockwise", "auto"])
@pytest.mark.parametrize("position", ["none", "xl"])
def test_a_map_of_several_of_the_largest_blocks(position: str, kernel: str) -> None:
    check(Case("window" if position == "none" else "causal", position, "train", "fp32", sizes=(1100, 1100)), kernel)


class Called(nn.Module):
    """A case as a model, whose attention can be observed."""

    def __init__(self, case: Case, dtype: torch.dtype, kernel: str) -> None:
        super().__init__()
        *leaves, self.d_out = (x.to(dtype) for x in case.inputs())
        self.leaves, self.case, self.dtype, self.kernel = leaves, case, dtype, kernel

    def forward(self) -> Tensor:
        q, k, v, sinks = (x.clone().requires_grad_() for x in self.leaves)
        return self.case.attend(self.dtype, self.kernel, q, k, v, sinks, deepcopy(self.case.scheme()))


def maps_by_formula(case: Case) -> list[Tensor]:
    """The map of each sequence, `h q k`, in float64, with its gradient."""
    seen: list[Tensor] = []
    mix = oracle.mix

    def kept(weights: Tensor, v: Tensor) -> Tensor:
        weights.retain_grad()
        seen.append(weights)
        return mix(weights, v)

    model = Called(case, torch.float64, "oracle")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(oracle, "mix", kept)
        model().backward(model.d_out)
    return [
        torch.stack([weights[i].detach(), torch.zeros_like(weights[i]) if weights.grad is None else weights.grad[i]])
        for weights in seen
        for i in range(len(weights))
    ]


def check_maps(case: Case, kernel: str, tolerance: float = 2e-6) -> None:
    truth = maps_by_formula(case)
    model = Called(case, DTYPES[case.dtype], kernel)
    with observe(model, gradients=True) as maps:
        model().backward(model.d_out)
    assert len(maps) == 1 and maps.n_sequences == len(truth)
    for number, (weights, gradients) in enumerate(truth):
        (layer,) = maps.sequence(number)
        for head in range(H):
            one = layer[head]
            assert one.shape == weights.shape[1:]
            torch.testing.assert_close(one.to_dense().double(), weights[head], atol=tolerance, rtol=tolerance)
            for found, wanted in (
                (one.gradients, gradients[head]),
                (one.relevance, (gradients * weights)[head].clamp(min=0)),
            ):
                # Where nothing is seen no weight changes anything, and tiles that see nothing are not computed.
                seen = weights[head] > 0
                assert not found.to_dense()[~seen & (wanted == 0)].isnan().any()
                torch.testing.assert_close(
                    found.to_dense().double()[seen], wanted[seen], atol=20 * tolerance, rtol=20 * tolerance
                )


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("mask", DENSE_MASKS)
def test_maps_are_the_formulas(mask: str, position: str) -> None:
    check_maps(Case(mask, position, "eval", "fp32"), "auto")


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("mask", MASKS)
def test_maps_of_packed_sequences_are_the_formulas(mask: str, position: str) -> None:
    check_maps(Case(mask, position, "eval", "fp32", sizes=None), "auto")


@pytest.mark.parametrize("sizes", [(N, N), None], ids=str)
@pytest.mark.parametrize("position", ["none", "t5", "xl"])
def test_maps_with_cap_and_sinks_are_the_formulas(position: str, sizes: tuple[int, int] | None) -> None:
    check_maps(Case("not", position, "eval", "fp32", sizes=sizes, variants=True), "auto")


@pytest.mark.parametrize("position", ["none", "t5"])
@pytest.mark.parametrize("sizes", [(70, 130), (130, 70), (1, 130), (600, 1100)], ids=str)
def test_maps_of_other_sizes(sizes: tuple[int, int], position: str) -> None:
    check_maps(Case("causal", position, "eval", "fp32", sizes=sizes), "auto")


@pytest.mark.parametrize("kernel", ["oracle", "sdpa", "blockwise"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_maps_do_not_depend_on_the_kernel(dtype: str, kernel: str) -> None:
    check_maps(Case("keys", "none", "eval", dtype), kernel)


def test_maps_are_those_before_dropout() -> None:
    maps_of = {}
    for mode in MODES:
        model = Called(Case("causal", "none", mode, "fp32"), torch.float32, "blockwise")
        with observe(model) as maps_of[mode]:
            model()
    one, other = (maps.sequence(0)[0][1].to_dense() for maps in maps_of.values())
    assert torch.equal(one, other)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_sinks_on_average(dtype: torch.dtype) -> None:
    """The error of a sink's gradient, over many draws, is not above the formula's."""
    errors = torch.zeros(2, dtype=torch.float64)
    for seed in range(24):
        generator = torch.Generator().manual_seed(seed)
        shapes = [(1, 2, 70, 8)] * 4 + [(2,)]
        q, k, v, d_out, sinks = (torch.randn(shape, generator=generator).to(dtype).double() for shape in shapes)

        def gradient(kernel: Callable[..., Tensor], dtype: torch.dtype) -> Tensor:
            own = sinks.to(dtype).requires_grad_()  # noqa: B023 - called in this turn of the loop
            scoring = Scoring(scale=0.35, sinks=own, soft_cap=2.0)
            out = kernel(q.to(dtype), k.to(dtype), v.to(dtype), scoring)  # noqa: B023
            return torch.autograd.grad(out, own, d_out.to(dtype))[0].double()  # noqa: B023

        truth = gradient(attend_by_formula, torch.float64)
        kernels = (attend_by_formula, attend_blockwise)
        errors += torch.stack([(gradient(kernel, dtype) - truth).abs().mean() for kernel in kernels])
    assert errors[1] <= 1.5 * errors[0]
