"""Which kernel is taken, and why."""

import re
from typing import Any

import pytest
import torch

from huiyan.attention import choosing
from huiyan.attention.choosing import LARGEST_MASK, choose_kernel, decide
from huiyan.attention.dropout import Dropout
from huiyan.attention.masks import Causal, Keys, Mask, Where, Window
from huiyan.attention.positions.relative import RelativeTerms
from huiyan.attention.scoring import Scoring
from huiyan.core.errors import ConfigError

BIAS = RelativeTerms(lowest=0, bias=torch.zeros(2, 1))
KEYS = RelativeTerms(lowest=0, keys=torch.zeros(1, 1, 4))
LONG = 4096
ASKS = Where(lambda row, column: column <= row)
assert LONG**2 > LARGEST_MASK


class Stricter(Causal):
    """A rule of somebody's own, which a kernel that knows Causal would take for that."""


@pytest.mark.parametrize(
    ("variant", "sizes", "device", "kernel", "reason"),
    [
        ({}, (LONG, LONG), "cpu", "sdpa", "nothing but a scale"),
        ({"mask": Causal()}, (LONG, LONG), "cuda", "sdpa", "at most a causal mask"),
        ({"mask": Causal()}, (2, LONG), "cpu", "sdpa", "small enough to be written out"),
        ({"mask": Window(1, 1)}, (2048, 2048), "cpu", "sdpa", "small enough to be written out"),
        ({"mask": Window(1, 1)}, (2049, 2048), "cpu", "blockwise", "a mask over a long sequence"),
        ({"mask": Causal()}, (LONG - 1, LONG), "cpu", "blockwise", "a mask over a long sequence"),
        ({"mask": Window(1, 1)}, (LONG, LONG), "cuda", "flex", "FlexAttention"),
        ({"terms": BIAS}, (5, 5), "cpu", "blockwise", "a relative position"),
        ({"terms": BIAS}, (5, 5), "cuda", "flex", "FlexAttention"),
        ({"terms": KEYS}, (5, 5), "cuda", "blockwise", "a relative position"),
        ({"soft_cap": 1.0, "mask": Causal()}, (5, 5), "cpu", "blockwise", "^a soft cap:"),
        ({"sinks": torch.zeros(2)}, (5, 5), "cpu", "blockwise", "^sinks:"),
        ({"dropout": Dropout(0.1, 0)}, (5, 5), "cuda", "blockwise", "^dropout:"),
        ({"soft_cap": 1.0, "sinks": torch.zeros(2)}, (5, 5), "cuda", "flex", "FlexAttention"),
        (
            {"mask": Keys(torch.ones(1, 5).bool()), "terms": BIAS},
            (5, 5),
            "cuda",
            "flex",
            "FlexAttention",
        ),
        ({"mask": Causal() & ASKS, "terms": BIAS}, (5, 5), "cuda", "blockwise", "a relative position"),
        ({"mask": ASKS}, (LONG, LONG), "cuda", "blockwise", "a mask over a long sequence"),
        ({"mask": ~Stricter(), "terms": BIAS}, (5, 5), "cuda", "blockwise", "a relative position"),
    ],
    ids=str,
)
def test_dense_input_goes_to(
    variant: dict[str, Any], sizes: tuple[int, int], device: str, kernel: str, reason: str
) -> None:
    chosen, why = decide(Scoring(scale=1.0, **variant), *sizes, device=device, packed=False)
    assert chosen == kernel
    assert re.search(reason, why)


@pytest.mark.parametrize("mask", [None, Causal(), Window(1, 1)], ids=str)
def test_packed_input_has_a_kernel_of_its_own(mask: Mask | None) -> None:
    scoring = Scoring(scale=1.0, mask=mask, dropout=Dropout(0.5, 1), terms=KEYS)
    assert decide(scoring, LONG, LONG, device="cpu", packed=True)[0] == "packed"


def chosen(kernel: str, scoring: Scoring, *, packed: bool = False) -> str:
    x = torch.zeros(2, 4, 8) if packed else torch.zeros(1, 2, 4, 8)
    return choose_kernel(kernel, x, x, scoring, packed=packed)


@pytest.mark.parametrize(
    ("kernel", "packed"),
    [("oracle", False), ("oracle", True), ("blockwise", False), ("blockwise", True), ("packed", True)],
)
def test_what_takes_everything(kernel: str, packed: bool) -> None:
    everything = Scoring(
        scale=1.0, mask=Causal(), terms=KEYS, soft_cap=1.0, sinks=torch.zeros(2), dropout=Dropout(0.1, 0)
    )
    assert chosen(kernel, everything, packed=packed) == kernel


@pytest.mark.parametrize(
    ("kernel", "variant", "packed", "objection"),
    [
        ("sdpa", {"terms": BIAS}, False, "'sdpa' does not take relative positions"),
        ("sdpa", {"soft_cap": 1.0}, False, "'sdpa' does not take a soft cap"),
        ("sdpa", {"sinks": torch.zeros(2)}, False, "'sdpa' does not take sinks"),
        ("sdpa", {"dropout": Dropout(0.1, 0)}, False, "'sdpa' does not take dropout"),
        ("sdpa", {}, True, "'sdpa' does not take packed input"),
        ("flex", {}, True, "'flex' does not take packed input"),
        ("flex", {}, False, "'flex' does not take tensors on 'cpu', only on 'cuda'"),
        ("packed", {}, False, "'packed' does not take dense input"),
    ],
)
def test_what_a_kernel_does_not_take(kernel: str, variant: dict[str, Any], packed: bool, objection: str) -> None:
    with pytest.raises(ConfigError, match=f"{objection}.*Choose 'auto'"):
        chosen(kernel, Scoring(scale=1.0, **variant), packed=packed)


@pytest.mark.parametrize(
    ("variant", "objection"),
    [
        ({"terms": KEYS}, "positions that are multiplied"),
        ({"dropout": Dropout(0.1, 0)}, "dropout"),
        ({"mask": Window(1, 1) & Stricter()}, "a mask of somebody's own"),
    ],
    ids=["keys", "dropout", "somebody's mask"],
)
def test_what_flex_does_not_take_where_there_is_cuda(variant: dict[str, Any], objection: str) -> None:
    for mask in (None, ASKS, Causal()):
        assert choosing._objection("flex", Scoring(scale=1.0, mask=mask), device="cuda", packed=False) == ""
    assert objection in choosing._objection("flex", Scoring(scale=1.0, **variant), device="cuda", packed=False)


def test_an_unknown_kernel_is_named_with_the_closest() -> None:
    with pytest.raises(ConfigError, match="no attention kernel 'blockwize'. Did you mean 'blockwise'"):
        chosen("blockwize", Scoring(scale=1.0))
