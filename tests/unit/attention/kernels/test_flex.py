"""FlexAttention without its compiler, which the CPU can run too: that we tell it the right rules.

Warnings are errors here; the one of `torch` about the missing compiler is what these tests ask for.
"""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask
from torch.utils._python_dispatch import TorchDispatchMode

from huiyan.attention.blocks import Block, Span
from huiyan.attention.kernels.flex import attend_flex, block_mask_of
from huiyan.attention.masks import Causal, Global, Keys, Mask, Prefix, Segments, Where, Window
from huiyan.attention.oracle import attend_by_formula
from huiyan.attention.positions.relative import RelativeTerms
from huiyan.attention.scoring import Scoring
from huiyan.core.errors import ConfigError

pytestmark = pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile:UserWarning")

B, H, G, D = 2, 4, 2, 8
KEYS = torch.arange(7) % 3 != torch.tensor([[0], [1]])
MASKS: dict[str, Mask | None] = {
    "none": None,
    "causal": Causal(),
    "window": Window(2, 1),
    "prefix": Causal() | Prefix(3),
    "global": Window(1, 1) | Global([0, 4]),
    "keys": Keys(KEYS),
    "a hidden sequence": Keys(KEYS & torch.tensor([[True], [False]])),
    "segments": Segments(torch.tensor([[0, 0, 1, 1, 2], [0, 1, 1, 1, 1]]), torch.tensor([0, 0, 0, 1, 1, 2, 2])),
    "where": Where(lambda row, column: (row + column) % 2 == 0),
    "not": ~(Causal() & Window(3, 0)),
}


def draw(n_queries: int, n_keys: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = (B, H, n_queries, D), (B, G, n_keys, D), (B, G, n_keys, D)
    return [torch.randn(shape, generator=generator) for shape in shapes]


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
@pytest.mark.parametrize("variants", [{}, {"soft_cap": 1.5}, {"sinks": torch.tensor([-1.0, 0.0, 1.0, 2.0])}], ids=str)
@pytest.mark.parametrize("bias", [False, True], ids=["no bias", "bias"])
def test_it_is_the_formula(mask: Mask | None, variants: dict[str, Any], bias: bool) -> None:
    """Fewer queries than keys: the corner at the bottom right is ours to tell."""
    q, k, v = draw(5, 7)
    table = torch.randn(H, 9, generator=torch.Generator().manual_seed(1))
    terms = RelativeTerms(lowest=-4, bias=table) if bias else None
    scoring = Scoring(scale=0.4, mask=mask, terms=terms, **variants)
    out = attend_flex(q, k, v, scoring, compiled=False)
    torch.testing.assert_close(out, attend_by_formula(q, k, v, scoring), atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("sinks", [None, torch.zeros(H)], ids=["no sinks", "sinks"])
def test_rows_that_see_nothing_give_0(sinks: Tensor | None) -> None:
    q, k, v = draw(5, 3)
    out = attend_flex(q, k, v, Scoring(scale=1.0, mask=Causal(), sinks=sinks), compiled=False)
    blind = ~Causal().allowed(Block.whole(5, 3), q.device).any(-1)[0, 0]
    assert blind.tolist() == [True, True, False, False, False]
    assert not out[:, :, blind].any() and out[:, :, ~blind].abs().amin() > 0


def test_a_mask_of_somebodys_own_is_named() -> None:
    class Stricter(Mask):
        def allowed(self, block: Block, device: torch.device) -> Any: ...
        def sees(self, block: Block) -> Any: ...

    q, k, v = draw(2, 2)
    with pytest.raises(ConfigError, match=r"'flex' does not know the mask Stricter. Write it with Where\(rule\)"):
        attend_flex(q, k, v, Scoring(scale=1.0, mask=~Stricter()), compiled=False)


N, N_KEYS = 300, 520  # neither is a number of whole blocks
LONG_MASKS: dict[str, Mask] = {
    "causal": Causal(),
    "window": Window(130, 3),
    "prefix": Causal() | Prefix(256),
    "global": Window(1, 1) | Global([0, 400]),
    "keys": Keys(torch.arange(N_KEYS) < torch.tensor([[130], [512]])),
    "segments": Segments(torch.arange(N)[None] // torch.tensor([[128], [100]]), torch.arange(N_KEYS) // 128),
    "not": ~(Causal() & Window(140, 0)),
    "both": Causal() & Keys(torch.arange(N_KEYS) >= torch.tensor([[256], [0]])),
}


def tables(mask: BlockMask) -> tuple[Tensor, Tensor]:
    """Blocks `2 r c` whose rule is asked, and those that are seen whole, as the kernel will read them."""
    found = []
    for counts, numbers in ((mask.kv_num_blocks, mask.kv_indices), (mask.full_kv_num_blocks, mask.full_kv_indices)):
        assert counts is not None and numbers is not None and counts.dtype == numbers.dtype == torch.int32
        table = torch.zeros(numbers.shape, dtype=torch.bool)
        ahead = torch.arange(numbers.shape[-1]) < counts[..., None]
        found.append(table.scatter_(-1, numbers.long(), ahead)[:, 0].expand(2, -1, -1))
    return found[0], found[1]


@pytest.mark.parametrize("mask", LONG_MASKS.values(), ids=LONG_MASKS)
def test_blocks_are_those_that_torch_finds_in_the_whole_map(mask: Mask) -> None:
    found = block_mask_of(mask, N, N_KEYS, torch.device("cpu"))
    theirs = create_block_mask(found.mask_mod, 2, None, N, N_KEYS, device="cpu")
    for own, expected in zip(tables(found), tables(theirs), strict=True):
        assert torch.equal(own, expected)
    assert found.seq_lengths == (N, N_KEYS) and found.BLOCK_SIZE == (128, 128)


def test_a_rule_in_python_is_asked_in_every_block() -> None:
    asked, whole = tables(block_mask_of(Where(lambda row, column: column <= row), N, N_KEYS, torch.device("cpu")))
    assert asked.all() and not whole.any()


@pytest.mark.parametrize("mask", LONG_MASKS.values(), ids=LONG_MASKS)
def test_the_map_is_never_written_out(mask: Mask, monkeypatch: pytest.MonkeyPatch) -> None:
    largest: list[int] = []

    class Sized(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            largest.extend(x.numel() for x in torch.utils._pytree.tree_leaves(out) if isinstance(x, Tensor))
            return out

    monkeypatch.setattr(type(mask), "allowed", lambda *_: pytest.fail("a mask was written out"))
    with Sized():
        block_mask_of(mask, N, N_KEYS, torch.device("cpu"))
    assert 0 < max(largest) <= 2 * 5 * 128  # the keys of two sequences, in whole blocks


def test_questions_grow_with_the_rows_of_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A causal map of 16 and of 64 rows of blocks: n log n, where all blocks are 16 times as many."""
    counts = []
    for n in (2048, 8192):
        asked: list[Span] = []
        sees = Causal.sees

        def noted(self: Causal, block: Block, asked: list[Span] = asked, sees: Any = sees) -> Any:
            asked.append(block.columns)
            return sees(self, block)

        with monkeypatch.context() as patched:
            patched.setattr(Causal, "sees", noted)
            block_mask_of(Causal(), n, n, torch.device("cpu"))
        counts.append(len(asked))
    assert counts[1] < 8 * counts[0]
