"""What `attention.py` measures: every variant as Huiyan, torch, x-transformers and FlexAttention write it.

All engines of a variant get the same queries, keys, values and parameters, and compute the same numbers (dropout draws
aside): `disagreement` holds them against the formula in float64. Huiyan is imported where it is used, since the peers'
environment does not have it.

| variant | what it is |
|---|---|
| plain | every query sees every key |
| causal | a query sees what came before |
| alibi | a fixed bias, falling with distance (Press et al. 2022) |
| t5 | a learned bias in 32 buckets of distance (Raffel et al. 2020), in both directions |
| xl | Transformer-XL's relative terms (Dai et al. 2019), in both directions, as XLNet has them |
| dropout | plain, with attention dropout 0.1 |
| window | a query sees 128 keys on either side of itself |
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HEADS, HEAD_WIDTH = 8, 64
WIDTH = HEADS * HEAD_WIDTH
SCALE = HEAD_WIDTH**-0.5
DROPOUT = 0.1
SIDE = 128
BUCKETS, MAX_DISTANCE = 32, 128

VARIANTS = ("plain", "causal", "alibi", "t5", "xl", "dropout", "window")
MODULES = ("huiyan-module", "torch-module", "torch-module-weights")
# Where torch and x-transformers have a kernel that keeps no n² tensor and needs none handed in.
FLASH = ("plain", "causal")
Run = Callable[[], Tensor]


def takes(engine: str, variant: str) -> bool:
    """Whether the engine can be asked for the variant at all."""
    if engine in MODULES:
        return variant in ("plain", "causal", "dropout")
    lacking = {"x-transformers": ("xl",), "flex": ("dropout",)}
    return variant not in lacking.get(engine, ())


def is_quadratic(engine: str, variant: str) -> bool:
    """Whether the engine holds something of n² numbers: scores, a bias or a mask."""
    if engine in ("huiyan", "huiyan-module"):
        return False
    if engine == "flex":
        return variant == "xl"
    return engine in ("oracle", "torch-module-weights") or variant not in FLASH


@dataclass
class Problem:
    """Inputs and parameters of one cell, the same for every engine."""

    variant: str
    n: int
    dtype: torch.dtype = torch.float32
    device: str = "cpu"
    gradients: bool = True
    kernel: str = "blockwise"
    seed: int = 0
    leaves: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        generator = torch.Generator().manual_seed(self.seed)
        shapes: dict[str, tuple[int, ...]] = dict.fromkeys("qkv", (1, HEADS, self.n, HEAD_WIDTH))
        if self.variant == "t5":
            shapes["table"] = (BUCKETS, HEADS)
        if self.variant == "xl":
            shapes |= {"u": (HEADS, HEAD_WIDTH), "w": (HEADS, HEAD_WIDTH), "projection": (WIDTH, WIDTH)}
        for name, shape in shapes.items():
            values = torch.randn(shape, generator=generator) * (WIDTH**-0.5 if name == "projection" else 1.0)
            self.leaves[name] = values.to(self.device, self.dtype).requires_grad_(self.gradients)

    def __getattr__(self, name: str) -> Tensor:
        try:
            return self.__dict__["leaves"][name]
        except KeyError:
            raise AttributeError(name) from None


def build(engine: str, problem: Problem) -> tuple[Run, list[Tensor]]:
    """A function that runs the engine's forward, and the tensors that receive gradients."""
    if engine in MODULES:
        return _MODULE_BUILDERS[engine](problem)
    return {
        "huiyan": lambda: _huiyan(problem, problem.kernel),
        "oracle": lambda: _huiyan(problem, "oracle"),
        "sdpa": lambda: (_sdpa(problem), list(problem.leaves.values())),
        "x-transformers": lambda: _x_transformers(problem),
        "flex": lambda: (_flex(problem), list(problem.leaves.values())),
    }[engine]()


def _huiyan(problem: Problem, kernel: str) -> tuple[Run, list[Tensor]]:
    from huiyan.attention.functional import attend

    q, k, v = problem.q, problem.k, problem.v
    options: dict[str, Any] = {"kernel": kernel}
    leaves = [q, k, v]
    if problem.variant in ("causal", "window"):
        from huiyan.attention.masks import Causal, Window

        options["mask"] = Causal() if problem.variant == "causal" else Window(SIDE, SIDE)
    if problem.variant in ("alibi", "t5", "xl"):
        options["position"] = _huiyan_position(problem)
        leaves += list(options["position"].parameters())
    if problem.variant == "dropout":
        options |= {"dropout": DROPOUT, "seed": problem.seed}
    return (lambda: attend(q, k, v, **options)), leaves


def _huiyan_position(problem: Problem) -> nn.Module:
    """Our module with the problem's parameters in it."""
    from huiyan.attention import positions

    if problem.variant == "alibi":
        return positions.Alibi(HEADS).to(problem.device, problem.dtype)
    if problem.variant == "t5":
        module = positions.T5Bias(HEADS, n_buckets=BUCKETS, max_distance=MAX_DISTANCE, bidirectional=True)
        parts = {"table": problem.table}
    else:
        module = positions.XLRelative(WIDTH, HEADS)
        parts = {"biases.u": problem.u, "biases.w": problem.w, "key.weight": problem.projection}
    module.load_state_dict(parts)
    return module.to(problem.device, problem.dtype).requires_grad_(problem.gradients)


def _sdpa(problem: Problem) -> Run:
    """`F.scaled_dot_product_attention`, with the n × n bias or mask that it wants for the rest."""
    q, k, v, n, variant = problem.q, problem.k, problem.v, problem.n, problem.variant
    attend = F.scaled_dot_product_attention
    if variant in ("alibi", "window"):
        kept: list[Tensor] = []  # fixed, so it is built once, in the first run, as a model would keep it

        def with_fixed() -> Tensor:
            if not kept:
                kept.append(alibi_bias(n, q) if variant == "alibi" else window_mask(n, q))
            return attend(q, k, v, attn_mask=kept[0])

        return with_fixed
    return {
        "plain": lambda: attend(q, k, v),
        "causal": lambda: attend(q, k, v, is_causal=True),
        "dropout": lambda: attend(q, k, v, dropout_p=DROPOUT),
        "t5": lambda: attend(q, k, v, attn_mask=t5_bias(problem)),
        "xl": lambda: attend(q + problem.u[:, None], k, v, attn_mask=xl_bias(problem)),
    }[variant]


def alibi_slopes(like: Tensor) -> Tensor:
    return torch.tensor([2.0 ** (-8 * (head + 1) / HEADS) for head in range(HEADS)], device=like.device)


def alibi_bias(n: int, like: Tensor) -> Tensor:
    places = torch.arange(n, device=like.device)
    distance = (places - places[:, None]).abs()
    return (-alibi_slopes(like)[:, None, None] * distance)[None].to(like.dtype)


def window_mask(n: int, like: Tensor) -> Tensor:
    places = torch.arange(n, device=like.device)
    return ((places - places[:, None]).abs() <= SIDE)[None, None]


def t5_buckets(offsets: Tensor) -> Tensor:
    """The bucket of each offset, key − query, as `transformers` has it for an encoder."""
    half = BUCKETS // 2
    exact = half // 2
    distance = offsets.abs()
    share = torch.log(distance.clamp(min=1) / exact) / math.log(MAX_DISTANCE / exact)
    far = (exact + (share * (half - exact)).long()).clamp(max=half - 1)
    return (offsets > 0) * half + torch.where(distance < exact, distance, far)


def t5_bias(problem: Problem) -> Tensor:
    places = torch.arange(problem.n, device=problem.device)
    return problem.table[t5_buckets(places - places[:, None])].permute(2, 0, 1)[None]


def xl_terms(problem: Problem) -> Tensor:
    """scale · (q + w) · R for offsets −n … n − 1: `1 h n 2n`."""
    distances = torch.arange(problem.n, -problem.n, -1.0, device=problem.device)
    frequencies = 10000 ** (-torch.arange(0, WIDTH, 2.0, device=problem.device) / WIDTH)
    angles = distances[:, None] * frequencies
    encoding = torch.cat([angles.sin(), angles.cos()], dim=-1).to(problem.dtype)
    keys = F.linear(encoding, problem.projection).unflatten(-1, (HEADS, HEAD_WIDTH))
    return SCALE * torch.einsum("bhqd,rhd->bhqr", problem.q + problem.w[:, None], keys)


def xl_bias(problem: Problem) -> Tensor:
    """The terms shifted so that column j of row i has offset j − i: XLNet's `rel_shift`."""
    n, terms = problem.n, xl_terms(problem)
    shifted = terms.reshape(1, HEADS, 2 * n, n)[:, :, 1:].reshape(1, HEADS, n, 2 * n - 1)
    return shifted[..., :n]


def _x_transformers(problem: Problem) -> tuple[Run, list[Tensor]]:
    """Its `Attend` on its flash path, with its own bias modules; a window is a mask, as it has none of its own."""
    from x_transformers.attend import Attend
    from x_transformers.x_transformers import AlibiPositionalBias, RelativePositionBias

    q, k, v, n, variant = problem.q, problem.k, problem.v, problem.n, problem.variant
    attend = Attend(
        dropout=DROPOUT if variant == "dropout" else 0.0, causal=variant == "causal", heads=HEADS, flash=True
    )
    leaves, bias, kept = [q, k, v], None, []
    if variant == "t5":
        bias = RelativePositionBias(1.0, num_buckets=BUCKETS, max_distance=MAX_DISTANCE, heads=HEADS)
        with torch.no_grad():
            bias.relative_attention_bias.weight.copy_(problem.table)
    elif variant == "alibi":
        bias = AlibiPositionalBias(HEADS)
    if bias is not None:
        bias = bias.to(problem.device, problem.dtype).requires_grad_(problem.gradients)
        leaves += list(bias.parameters())

    def run() -> Tensor:
        if variant == "window" and not kept:
            kept.append(window_mask(n, q))
        return attend(q, k, v, mask=kept[0] if kept else None, attn_bias=None if bias is None else bias(n, n))[0]

    return run, leaves


def _flex(problem: Problem) -> Run:
    """FlexAttention by hand: what it adds to a score, read from small tables where the variant allows that."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    q, k, v, n, variant = problem.q, problem.k, problem.v, problem.n, problem.variant
    attend = flex_attention if problem.device == "cpu" else torch.compile(flex_attention, dynamic=False)
    if variant in ("causal", "window"):
        rules = {"causal": lambda _b, _h, i, j: i >= j, "window": lambda _b, _h, i, j: (i - j).abs() <= SIDE}
        blocks = create_block_mask(rules[variant], None, None, n, n, device=problem.device)
        return lambda: attend(q, k, v, block_mask=blocks)
    if variant == "plain":
        return lambda: attend(q, k, v)
    slopes = alibi_slopes(q)
    buckets = t5_buckets(torch.arange(-n, n, device=problem.device))

    def run() -> Tensor:
        if variant == "alibi":
            return attend(q, k, v, score_mod=lambda score, _b, h, i, j: score - slopes[h] * (i - j).abs())
        if variant == "t5":
            table = problem.table[buckets]
            return attend(q, k, v, score_mod=lambda score, _b, h, i, j: score + table[j - i + n, h])
        terms = xl_terms(problem)[0]
        shifted = q + problem.u[:, None]
        return attend(shifted, k, v, score_mod=lambda score, _b, h, i, j: score + terms[h, i, j - i + n])

    return run


def _module_input(problem: Problem) -> Tensor:
    """The queries as a model's states, `1 n m`."""
    return problem.q.detach().transpose(1, 2).flatten(-2).requires_grad_(problem.gradients)


def _their_module(problem: Problem) -> nn.MultiheadAttention:
    torch.manual_seed(problem.seed)
    dropout = DROPOUT if problem.variant == "dropout" else 0.0
    return nn.MultiheadAttention(WIDTH, HEADS, dropout=dropout, batch_first=True)


def _ready(module: nn.Module, problem: Problem) -> nn.Module:
    module = module.to(problem.device, problem.dtype).requires_grad_(problem.gradients)
    return module.train(problem.gradients or problem.variant == "dropout")


def _huiyan_module(problem: Problem) -> tuple[Run, list[Tensor]]:
    """Ours, projections included, with the weights of theirs."""
    from huiyan.attention.masks import Causal
    from huiyan.attention.multihead import MultiHeadAttention

    options: dict[str, Any] = {"dropout": DROPOUT} if problem.variant == "dropout" else {}
    module, theirs, weights = MultiHeadAttention(WIDTH, HEADS, **options), _their_module(problem), {}
    for kind in ("weight", "bias"):
        rows = getattr(theirs, f"in_proj_{kind}").chunk(3)
        weights |= {f"{name}.{kind}": part for name, part in zip(("query", "key", "value"), rows, strict=True)}
        weights[f"out.{kind}"] = getattr(theirs.out_proj, kind)
    module.load_state_dict(weights)
    module, x = _ready(module, problem), _module_input(problem)
    mask = Causal() if problem.variant == "causal" else None
    return (lambda: module(x, mask=mask)), [x, *module.parameters()]


def _torch_module(problem: Problem, *, weights: bool) -> tuple[Run, list[Tensor]]:
    """`nn.MultiheadAttention`, with the causal mask that it wants built even where a kernel needs none."""
    module, x = _ready(_their_module(problem), problem), _module_input(problem)
    causal = problem.variant == "causal"

    def run() -> Tensor:
        mask = torch.ones(problem.n, problem.n, dtype=torch.bool, device=x.device).triu(1) if causal else None
        return module(x, x, x, attn_mask=mask, is_causal=causal, need_weights=weights)[0]

    return run, [x, *module.parameters()]


_MODULE_BUILDERS: dict[str, Callable[[Problem], tuple[Run, list[Tensor]]]] = {
    "huiyan-module": _huiyan_module,
    "torch-module": lambda problem: _torch_module(problem, weights=False),
    "torch-module-weights": lambda problem: _torch_module(problem, weights=True),
}


def formula(problem: Problem) -> Tensor:
    """What every engine should give for a problem in float64, written out once more; dropout has no such answer."""
    q, k, v = problem.q, problem.k, problem.v
    if problem.variant == "xl":
        q = q + problem.u[:, None]
    scores = SCALE * q @ k.transpose(-2, -1)
    if problem.variant == "alibi":
        scores = scores + alibi_bias(problem.n, q)
    if problem.variant == "t5":
        scores = scores + t5_bias(problem)
    if problem.variant == "xl":
        scores = scores + xl_bias(problem)
    allowed = torch.ones(problem.n, problem.n, dtype=torch.bool, device=q.device)
    if problem.variant == "causal":
        allowed = allowed.tril()
    if problem.variant == "window":
        allowed = window_mask(problem.n, q)
    return scores.masked_fill(~allowed, -math.inf).softmax(-1) @ v


def disagreement(
    engine: str, variant: str, dtype: torch.dtype, *, n: int = 300, device: str = "cpu", kernel: str = "blockwise"
) -> float:
    """The largest difference, relative to the largest number, between an engine and the formula in float64."""
    problem = Problem(variant, n, dtype, device, gradients=False, kernel=kernel)
    exact = Problem(variant, n, torch.float64, device, gradients=False)
    exact.leaves = {name: leaf.double() for name, leaf in problem.leaves.items()}
    with torch.no_grad():
        expected = build("torch-module-weights", exact)[0]() if engine in MODULES else formula(exact)
        found = build(engine, problem)[0]().double()
    return float((found - expected).abs().max() / expected.abs().max())
