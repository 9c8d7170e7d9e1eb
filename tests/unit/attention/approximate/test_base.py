"""What holds for every approximation: padding, misuse, dtypes, gradients, and that nobody gets one unasked."""

from collections.abc import Callable
from typing import get_args

import pytest
import torch
from beartype import beartype
from jaxtyping import TypeCheckError, jaxtyped
from torch import Tensor, nn

from huiyan.attention import functional
from huiyan.attention.approximate.base import Approximation
from huiyan.attention.approximate.linear import LinearAttention
from huiyan.attention.approximate.linformer import LinformerAttention
from huiyan.attention.approximate.nystrom import NystromAttention
from huiyan.attention.approximate.span import AdaptiveSpan
from huiyan.core.errors import ConfigError, ShapeError

H, D = 2, 8


def with_residual() -> NystromAttention:
    core = NystromAttention(3, residual_kernel=3, n_heads=H)
    nn.init.normal_(core.residual.weight)
    return core


CORES: dict[str, Callable[[], Approximation]] = {
    "linformer": lambda: LinformerAttention(H, max_length=150, rank=4, sharing="none"),
    "linformer of means": lambda: LinformerAttention(H, max_length=20, rank=4, sharing="key-value", initial="mean"),
    "nystrom": lambda: NystromAttention(4),
    "nystrom with residual": with_residual,
    "elu": lambda: LinearAttention("elu"),
    "relu": lambda: LinearAttention("relu"),
    "favor": lambda: LinearAttention("favor", head_width=D, n_features=16),
    "causal elu": lambda: LinearAttention("elu", causal=True, chunk=4),
    "causal favor": lambda: LinearAttention("favor", head_width=D, n_features=16, causal=True, chunk=4),
    "span": lambda: AdaptiveSpan(H, max_span=9, ramp=3, initial=2.5),
    "causal span": lambda: AdaptiveSpan(H, max_span=9, ramp=3, initial=2.5, causal=True),
}
every_core = pytest.mark.parametrize("make", CORES.values(), ids=CORES)


def random(b: int, length: int, *, seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(b, H, length, D, generator=generator, dtype=torch.float64).to(dtype) for _ in range(3))


@pytest.fixture(autouse=True)
def same_parameters() -> None:
    torch.manual_seed(0)


@every_core
def test_padding_is_as_if_it_were_not_there(make: Callable[[], Approximation]) -> None:
    """Each sequence of a padded batch gives what it gives alone, whatever stands in the padding; an empty one, 0."""
    core, lengths = make(), [13, 7, 3, 1, 0]
    q, k, v = random(5, 13)
    keys = torch.arange(13) < torch.tensor(lengths)[:, None]
    hidden = ~keys[:, None, :, None]
    padded = core(*(x.masked_fill(hidden, float("nan")) for x in (q, k, v)), keys)
    for i, length in enumerate(lengths):
        alone = core(*(x[i : i + 1, :, :length] for x in (q, k, v)))
        torch.testing.assert_close(padded[i : i + 1, :, :length], alone, rtol=1e-9, atol=1e-9)
    blind = core(q, k, v, torch.zeros_like(keys))
    assert torch.equal(blind, torch.zeros_like(q))


@every_core
def test_gradients_are_finite_and_hidden_keys_have_none(make: Callable[[], Approximation]) -> None:
    core = make()
    leaves = [x.requires_grad_() for x in random(3, 10)]
    keys = torch.arange(10) < torch.tensor([10, 6, 0])[:, None]
    core(*leaves, keys).square().sum().backward()
    for leaf in leaves:
        assert leaf.grad is not None and leaf.grad.isfinite().all()
    for leaf in leaves[1:]:
        assert torch.equal(leaf.grad[2], torch.zeros_like(leaf.grad[2]))
        assert torch.equal(leaf.grad[1, :, 6:], torch.zeros_like(leaf.grad[1, :, 6:]))
        assert leaf.grad[0].abs().amax(dim=(0, 2)).min() > 0
    for name, parameter in core.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.any(), name


@every_core
def test_gradients_are_the_derivatives(make: Callable[[], Approximation]) -> None:
    core = make().double()
    inputs = tuple(x.requires_grad_() for x in random(1, 5))
    keys = torch.tensor([[True] * 4 + [False]])
    names, parameters = zip(*core.named_parameters(), strict=True) if list(core.parameters()) else ((), ())

    def run(*values: Tensor) -> Tensor:
        state = dict(zip(names, values[3:], strict=True))
        return torch.func.functional_call(core.eval(), state, (*values[:3], keys))

    torch.autograd.gradcheck(run, (*inputs, *(p.detach().requires_grad_() for p in parameters)), fast_mode=True)


@every_core
def test_half_precision_comes_back_with_the_accuracy_of_its_input(make: Callable[[], Approximation]) -> None:
    """Sums and inverses are in float32, under autocast too: what is lost is the rounding of input and output."""
    core = make()
    half = random(2, 12, dtype=torch.bfloat16)
    exact = core(*(x.double() for x in half))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = core(*half)
    assert out.dtype == torch.bfloat16
    assert (out.double() - exact).abs().max() <= 2.0**-8 * exact.abs().max() + 1e-4


@every_core
def test_no_tokens_give_no_tokens(make: Callable[[], Approximation]) -> None:
    assert make()(*random(2, 0)).shape == (2, H, 0, D)
    assert make()(*random(0, 3)).shape == (0, H, 3, D)


@pytest.mark.parametrize("name", [name for name in CORES if name.startswith("causal")])
def test_nothing_later_reaches_a_causal_query(name: str) -> None:
    """Bit for bit, at the edges of chunks and inside them, also where a later key is overwhelming."""
    core = CORES[name]()
    for at in (1, 3, 4, 5, 12):
        q, k, v = random(1, 13)
        before = core(q, k, v)
        k[:, :, at:] *= 30
        v[:, :, at:] += 1e6
        after = core(q, k, v)
        assert torch.equal(after[:, :, :at], before[:, :, :at])
        assert (after[:, :, at:] - before[:, :, at:]).abs().amax() > 1e-3
        assert core.causal


@every_core
def test_an_approximation_is_saved_and_loaded(make: Callable[[], Approximation]) -> None:
    core, other = make(), make()
    other.load_state_dict(core.state_dict())
    inputs = random(1, 9)
    assert torch.equal(core(*inputs), other(*inputs))
    tensors = [tensor.data_ptr() for tensor in core.state_dict().values()]
    assert len(set(tensors)) == len(tensors), "safetensors writes no tensor twice"


def test_no_approximation_is_among_the_kernels() -> None:
    exact = set(get_args(functional.Kernel))
    for name in ("linformer", "nystrom", "linear", "favor", "span", "approximate"):
        assert not any(name in kernel for kernel in exact)
        with pytest.raises(ConfigError, match="no attention kernel"):
            functional.attend(*random(1, 3), kernel=name)


def test_tensors_that_do_not_fit_are_named() -> None:
    core = LinearAttention()
    q, k, v = random(2, 5)
    for bad in [(q, k[:, :1], v[:, :1]), (q, k[:, :, :3], v[:, :, :3]), (q[0], k[0], v[0]), (q, k, v[..., :4])]:
        with pytest.raises(ShapeError, match=r"of one shape, `b h l d`.*Got q \("):
            core(*bad)
    with pytest.raises(ShapeError, match=r"one floating dtype.*torch.float64, torch.float32"):
        core(q, k.float(), v)
    with pytest.raises(ShapeError, match=r"one floating dtype.*torch.int64"):
        core(q.long(), k.long(), v.long())
    for keys in (torch.ones(2, 5), torch.ones(2, 4, dtype=torch.bool), torch.ones(2, 1, 1, 5, dtype=torch.bool)):
        with pytest.raises(ShapeError, match=r"keys must be boolean, `b l`, here \(2, 5\)"):
            core(q, k, v, keys)


@pytest.mark.parametrize("name", ["linformer", "nystrom with residual", "span"])
def test_the_heads_must_be_those_of_the_parameters(name: str) -> None:
    with pytest.raises(ShapeError, match=r"parameters for 2 heads. Got q \(1, 5, 6, 8\)"):
        CORES[name]()(*(torch.randn(1, 5, 6, D) for _ in range(3)))


def test_the_shapes_in_the_signature_are_true() -> None:
    forward = jaxtyped(typechecker=beartype)(Approximation.forward)
    core, (q, k, v) = LinearAttention(), random(2, 5)
    assert forward(core, q, k, v, torch.ones(2, 5, dtype=torch.bool)).shape == q.shape
    with pytest.raises(TypeCheckError):
        forward(core, q, k, v[..., :4])
    with pytest.raises(TypeCheckError):
        forward(core, q, k, v, torch.ones(2, 4, dtype=torch.bool))
