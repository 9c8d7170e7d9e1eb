"""The corner cases that the fused kernels of `torch` leave open."""

import pytest
import torch

from huiyan.attention.kernels import sdpa
from huiyan.attention.masks import Block, Causal, Keys, Mask
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
