"""FlexAttention without its compiler, which the CPU can run too: that we tell it the right rules.

Warnings are errors here; the one of `torch` about the missing compiler is what these tests ask for.
"""

from typing import Any

import pytest
import torch
from torch import Tensor

from huiyan.attention.kernels.flex import attend_flex
from huiyan.attention.masks import Block, Causal, Global, Keys, Mask, Prefix, Segments, Where, Window
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
