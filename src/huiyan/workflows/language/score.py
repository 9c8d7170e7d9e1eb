"""What surprises a language model in a text."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from huiyan.core.devices import pick_device
from huiyan.core.errors import DataError
from huiyan.models.segment_checkpoint import load_segment_model
from huiyan.models.segments import SegmentedDecoder, SegmentModel
from huiyan.text.tokenise import Tokenizer

MOST_CHARACTERS = 1_000_000
_AT_ONCE = 512
_NO_LIMIT = 1 << 30


@dataclass(frozen=True)
class Scored:
    """A text and how much of a surprise each part of it was.

    Args:
        parts: the text, cut where tokens end; several tokens that spell one character are one part.
        nats: −log p of each part, given all before it.
        n_tokens: of the text.
        n_unknown: those that the model does not know: their surprise is that of any unknown token.
    """

    parts: list[str]
    nats: list[float]
    n_tokens: int
    n_unknown: int = 0

    @property
    def bits_per_character(self) -> float:
        """Of the whole text."""
        return sum(self.nats) / math.log(2) / max(1, sum(map(len, self.parts)))

    @property
    def perplexity(self) -> float:
        """A token."""
        return math.exp(sum(self.nats) / self.n_tokens)

    def to_dict(self) -> dict[str, Any]:
        """For JSON: bits, not nats."""
        bits = [nats / math.log(2) for nats in self.nats]
        return {
            "tokens": self.n_tokens,
            "unknown": self.n_unknown,
            "bits_per_character": self.bits_per_character,
            "perplexity": self.perplexity,
            "parts": [{"text": text, "bits": own} for text, own in zip(self.parts, bits, strict=True)],
        }


def score_text(folder: str | Path, text: str, *, device: str = "auto") -> Scored:
    """The surprise of each part of a text under the language model of a folder.

    Raises:
        DataError: a text that is empty or too long.
        SourceError: the folder has no language model of streams.
    """
    folder, on = Path(folder), pick_device(device)
    return scored(load_segment_model(folder).to(on), Tokenizer.from_folder(folder), text)


def scored(model: SegmentModel, tokenizer: Tokenizer, text: str) -> Scored:
    """The same for a model that is loaded.

    The text begins as a line does; a model that reads each segment by itself begins anew at each of its segments.

    Args:
        model: in evaluation mode.
        tokenizer: its tokenizer.
        text: at most a million characters.
    Raises:
        DataError: a text that is empty or too long.
    """
    if not text or len(text) > MOST_CHARACTERS:
        raise DataError(f"A text of 1 to {MOST_CHARACTERS:,} characters can be scored. Got {len(text):,}.")
    pieces = [piece for piece in tokenizer.pieces(text, max_length=_NO_LIMIT) if piece.span is not None]
    begin = tokenizer.begin_id
    before = [begin] if begin is not None else tokenizer.encode_plain(["\n"])[0][-1:]
    if not pieces or (not before and len(pieces) < 2):
        raise DataError("This text has too few tokens to be scored.", hint="Give it a longer one.")
    losses = _losses(model, [*before, *(piece.id for piece in pieces)])
    if not before:
        losses = [0.0, *losses]
    parts, nats = list[str](), list[float]()
    end = 0
    for piece, loss in zip(pieces, losses, strict=True):
        _, stop = piece.span or (end, end)
        if stop <= end and parts:  # a further token of the same character
            nats[-1] += loss
            continue
        parts.append(text[end:stop])
        nats.append(loss)
        end = max(end, stop)
    if end < len(text) and parts:
        parts[-1] += text[end:]
    return Scored(parts, nats, len(pieces), sum(piece.id == tokenizer.unknown_id for piece in pieces))


def _losses(model: SegmentModel, ids: list[int]) -> list[float]:
    """−log p of all but the first."""
    device = next(model.parameters()).device
    length = min(_AT_ONCE, model.max_length) if isinstance(model, SegmentedDecoder) else _AT_ONCE
    tokens, memory, found = torch.tensor(ids, device=device)[None], None, list[float]()
    with torch.inference_mode():
        for first in range(0, len(ids) - 1, length):
            segment = tokens[:, first : first + length + 1]
            losses, memory = model.loss(segment[:, :-1], segment[:, 1:], memory)
            found += losses[0].double().tolist()
    return found
