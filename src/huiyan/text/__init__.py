"""Text: from strings to token ids, and what script they are written in."""

from typing import TYPE_CHECKING

from huiyan.core.lazy import lazy_exports

if TYPE_CHECKING:
    from huiyan.text.scripts import han_share
    from huiyan.text.tokenise import Tokenizer

__all__ = ["Tokenizer", "han_share"]

__getattr__, __dir__ = lazy_exports(__name__, {"Tokenizer": "huiyan.text.tokenise", "han_share": "huiyan.text.scripts"})
