"""Masks as the text that an operator takes."""

import pytest
import torch

from huiyan.attention.mask_text import mask_as_text, mask_from_text
from huiyan.attention.masks import Causal, Global, Keys, Mask, Prefix, Segments, Where, Window
from huiyan.core.errors import ConfigError


@pytest.mark.parametrize(
    "mask",
    [None, Causal(), Window(3, 0), Prefix(2), Global([4, 1]), ~Causal(), Causal() & ~(Prefix(2) | Global([0, 9]))],
    ids=str,
)
def test_what_is_written_is_read(mask: Mask | None) -> None:
    assert mask_from_text(mask_as_text(mask)) == mask


def test_texts_are_short_and_read_once() -> None:
    text = mask_as_text(Causal() & Global([1, 2]))
    assert text == '["Both",["Causal"],["Global",[1,2]]]'
    assert mask_from_text(text) is mask_from_text(text)


class Stricter(Causal):
    """A rule of somebody's own."""


@pytest.mark.parametrize(
    ("mask", "kind"),
    [
        (Keys(torch.ones(1, 2).bool()), "Keys"),
        (Causal() & Segments(torch.zeros(2).long()), "Segments"),
        (~Where(lambda row, column: row > column), "Where"),
        (Stricter(), "Stricter"),
    ],
    ids=["keys", "segments", "where", "another class"],
)
def test_what_is_not_numbers_is_refused(mask: Mask, kind: str) -> None:
    with pytest.raises(ConfigError, match=f"A {kind} mask is not for packed sequences. Choose among Causal, Window"):
        mask_as_text(mask)
