"""``attend``: every kernel against the formula in float64, and every misuse."""

from typing import Any

import pytest
import torch
from torch import Tensor

from huiyan.attention.functional import attend
from huiyan.attention.masks import Causal, Keys, Mask
from huiyan.core.errors import ConfigError, ShapeError

DTYPES = [
    torch.float32,
    torch.bfloat16,
]  # float16 is for accelerators: `torch` on the CPU does not hold the rule with it
# h, g, d
HEADS = {"one head": (1, 1, 64), "heads": (4, 4, 16), "grouped": (6, 2, 16), "one key head": (4, 1, 32)}
MASKS = {"no mask": None, "causal": Causal()}


def random(*shapes: tuple[int, ...], dtype: torch.dtype = torch.float32) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes)


def check_against_float64(inputs: tuple[Tensor, ...], **options: Any) -> None:
    """Error of the kernel ≤ 2 × error of the plain formula in the same dtype (3 × for gradients) + 1e-6.

    Source: Dao et al. 2022, the tests of the published code.
    """
    (direction,) = random(inputs[0].shape, dtype=torch.float64)

    def run(dtype: torch.dtype, kernel: Any) -> list[Tensor]:
        leaves = [x.detach().to(dtype, copy=True).requires_grad_() for x in inputs]
        out = attend(*leaves, kernel=kernel, **options)
        assert out.dtype == dtype
        assert out.shape == inputs[0].shape
        out.backward(direction.to(dtype))
        return [out.detach(), *(leaf.grad for leaf in leaves if leaf.grad is not None)]

    exact = run(torch.float64, "oracle")
    plain, fast = run(inputs[0].dtype, "oracle"), run(inputs[0].dtype, "auto")
    assert len(exact) == len(plain) == len(fast) == 4
    for i, (truth, formula, kernel) in enumerate(zip(exact, plain, fast, strict=True)):
        if truth.numel():
            allowed = (2 if i == 0 else 3) * (formula.double() - truth).abs().max() + 1e-6
            assert (kernel.double() - truth).abs().max() <= allowed, ("out", "dq", "dk", "dv")[i]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
@pytest.mark.parametrize("heads", HEADS.values(), ids=HEADS)
@pytest.mark.parametrize("sizes", [(7, 7), (3, 9), (1, 5), (64, 64)], ids=str)
def test_dense_is_the_formula(
    sizes: tuple[int, int], heads: tuple[int, int, int], mask: Mask | None, dtype: torch.dtype
) -> None:
    (n_queries, n_keys), (h, g, d) = sizes, heads
    shapes = (4, h, n_queries, d), (4, g, n_keys, d), (4, g, n_keys, d)
    check_against_float64(random(*shapes, dtype=dtype), mask=mask)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
@pytest.mark.parametrize("heads", HEADS.values(), ids=HEADS)
@pytest.mark.parametrize("lengths", [[5], [1, 1, 1], [4, 4, 2, 9, 9, 1], [3, 0, 3], [0], [33, 7, 33]], ids=str)
def test_packed_is_the_formula(
    lengths: list[int], heads: tuple[int, int, int], mask: Mask | None, dtype: torch.dtype
) -> None:
    h, g, d = heads
    t = sum(lengths)
    check_against_float64(
        random((t, h, d), (t, g, d), (t, g, d), dtype=dtype), lengths=torch.tensor(lengths), mask=mask
    )


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_packed_queries_and_keys_may_differ_in_number(mask: Mask | None) -> None:
    """More keys, fewer keys, no key, no query."""
    lengths, key_lengths = torch.tensor([2, 3, 3, 4, 0, 1]), torch.tensor([5, 1, 1, 0, 2, 1])
    inputs = random((13, 4, 8), (10, 2, 8), (10, 2, 8))
    check_against_float64(inputs, lengths=lengths, key_lengths=key_lengths, mask=mask)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("causal", [False, True])
def test_hidden_keys_and_blind_rows(causal: bool, dtype: torch.dtype) -> None:
    """The second sequence sees nothing at all; with causal, the first query of the third sees nothing."""
    keys = torch.tensor([[True, True, False, True], [False] * 4, [False, True, True, True]])
    mask = Causal() & Keys(keys) if causal else Keys(keys)
    q, k, v = random(*[(3, 4, 4, 16)] * 3, dtype=dtype)
    check_against_float64((q, k, v), mask=mask)
    out = attend(q, k, v, mask=mask)
    assert not out[1].any()
    assert bool(out[2, :, 0].any()) is not causal


def test_scale_is_free() -> None:
    q, k, v = random(*[(1, 2, 5, 16)] * 3)
    torch.testing.assert_close(attend(q, k, v), attend(q / 4, k, v, scale=1.0))
    check_against_float64((q, k, v), scale=1.0)
    check_against_float64(random(*[(5, 2, 16)] * 3), scale=0.3, lengths=torch.tensor([4, 1]))


def test_no_sequences_at_all() -> None:
    none = torch.zeros(0, dtype=torch.int64)
    empty = torch.zeros(0, 2, 4)
    assert attend(empty, empty, empty, lengths=none).shape == (0, 2, 4)
    assert attend(empty, empty, empty, lengths=none, kernel="oracle").shape == (0, 2, 4)


DENSE, PACKED = torch.zeros(2, 4, 5, 8), torch.zeros(10, 4, 8)
LENGTHS = torch.tensor([6, 4])
MISUSE: dict[str, tuple[type[Exception], str, tuple[Tensor, Tensor, Tensor], dict[str, Any]]] = {
    "dense with lengths": (ShapeError, "Leave lengths out", (DENSE, DENSE, DENSE), {"lengths": LENGTHS}),
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
        "'sdpa' does not take packed input.*Choose 'packed'",
        (PACKED, PACKED, PACKED),
        {"lengths": LENGTHS, "kernel": "sdpa"},
    ),
}


@pytest.mark.parametrize(("error", "message", "tensors", "options"), MISUSE.values(), ids=MISUSE)
def test_misuse_is_named(
    error: type[Exception], message: str, tensors: tuple[Tensor, Tensor, Tensor], options: dict[str, Any]
) -> None:
    with pytest.raises(error, match=message):
        attend(*tensors, **options)
