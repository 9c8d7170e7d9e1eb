"""The corner cases that the fused kernels of `torch` leave open."""

import pytest
import torch

from huiyan.attention.blocks import Block
from huiyan.attention.kernels import sdpa
from huiyan.attention.masks import Causal, Keys, Mask, Window
from huiyan.attention.scoring import Scoring


def test_decoding_sees_the_whole_cache() -> None:
    """`torch` aligns causal at the top left, where the one new query would see the first key only."""
    q, k, v = torch.randn(1, 2, 1, 8), *torch.randn(2, 1, 2, 6, 8)
    torch.testing.assert_close(
        sdpa.attend_dense(q, k, v, Scoring(scale=1.0, mask=Causal())),
        sdpa.attend_dense(q, k, v, Scoring(scale=1.0, mask=None)),
    )


@pytest.mark.parametrize(
    "mask",
    [Causal(), Keys(torch.zeros(2, 3).bool()), Keys(torch.tensor([[True, False, True], [False, False, False]]))],
    ids=["causal", "no key", "one blind sequence"],
)
def test_blind_rows_give_zero_and_finite_gradients(mask: Mask) -> None:
    leaves = [torch.randn(2, 2, n, 8, requires_grad=True) for n in (5, 3, 3)]
    out = sdpa.attend_dense(*leaves, Scoring(scale=1e3, mask=mask))
    blind = ~mask.allowed(Block.whole(5, 3), torch.device("cpu")).any(-1, keepdim=True).expand(2, 2, 5, 1)
    assert blind.any()
    assert not out.masked_select(blind).any()
    for gradient in torch.autograd.grad((out * torch.randn_like(out)).sum(), leaves):
        assert gradient.isfinite().all()


def test_backends_are_never_asked_about_blind_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some of them answer NaN, forwards or backwards, as the softmax of -inf alone does here."""

    def naive(
        q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, attn_mask: torch.Tensor, **_: object
    ) -> torch.Tensor:
        return (q @ k.mT).masked_fill(~attn_mask, -torch.inf).softmax(-1) @ v

    monkeypatch.setattr(sdpa, "scaled_dot_product_attention", naive)
    leaves = [torch.randn(1, 2, n, 8, requires_grad=True) for n in (5, 3, 3)]
    out = sdpa.attend_dense(*leaves, Scoring(scale=1.0, mask=Causal()))
    assert not out[:, :, :2].any()
    assert all(gradient.isfinite().all() for gradient in torch.autograd.grad(out.sum(), leaves))


def test_no_tensor_is_made_for_the_plain_causal_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Causal, "allowed", lambda *_: pytest.fail("a mask of q × k was made"))
    x = torch.randn(1, 1, 4, 8)
    assert sdpa.attend_dense(x, x, x, Scoring(scale=1.0, mask=Causal())).shape == x.shape


@pytest.mark.parametrize(
    ("device", "mask", "heads", "grouped"),
    [
        ("meta", Window(1, 1), 4, False),
        ("meta", Causal(), 2, True),
        ("meta", None, 2, True),
        ("cpu", Window(1, 1), 2, True),
    ],
    ids=str,
)
def test_grouped_heads_are_repeated_beside_a_mask_off_the_cpu(
    device: str, mask: Mask | None, heads: int, grouped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The meta device stands in for a GPU: what is shown is what the fused kernel is asked for."""
    asked: list[tuple[int, int, bool]] = []

    def spy(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, enable_gqa: bool, **_: object) -> torch.Tensor:
        asked.append((k.shape[1], v.shape[1], enable_gqa))
        return q

    monkeypatch.setattr(sdpa, "scaled_dot_product_attention", spy)
    q, k = (torch.zeros(2, n, 5, 8, device=device) for n in (4, 2))
    sdpa.attend_dense(q, k, k, Scoring(scale=1.0, mask=mask))
    assert asked == [(heads, heads, grouped)]
