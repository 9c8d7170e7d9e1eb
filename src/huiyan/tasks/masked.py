"""Guessing words that are hidden: whole words, so that the rest of a word does not give it away.

Source: Devlin et al. 2019, section 3.1; whole words: its published code of May 2019, and for Chinese Cui et al. 2021.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from huiyan.core.config import require
from huiyan.core.errors import DataError
from huiyan.core.packed import Packed
from huiyan.core.seeds import derive_seed
from huiyan.data.token_file import TokenFile
from huiyan.models.masked import MaskedLanguageModel
from huiyan.tasks.objective import ShuffledRows

SHARE = 0.15
"""Of the tokens, those that are to be guessed."""
_HIDDEN, _REPLACED = 0.8, 0.1  # of those; the others stay as they are
_VALIDATION = 1 << 31  # an epoch that training does not reach


class Frame(NamedTuple):
    """The tokens that a row needs beside those of the text: around it, and in place of what is hidden."""

    before: tuple[int, ...]
    after: tuple[int, ...]
    mask: int


class Masked(NamedTuple):
    """A row to guess in: what is seen, the places of what is to be guessed, ascending, and what stands there."""

    ids: np.ndarray[Any, Any]
    places: np.ndarray[Any, Any]
    targets: np.ndarray[Any, Any]


def hide_words(
    ids: np.ndarray[Any, Any],
    begins_word: np.ndarray[Any, Any],
    *,
    mask_id: int,
    vocab_size: int,
    generator: np.random.Generator,
    share: float = SHARE,
) -> Masked:
    """Choose words at random until ``share`` of the tokens are chosen, and hide them.

    Of the tokens chosen 80 % become the mask, 10 % any token, and 10 % stay.

    Args:
        ids: `n` tokens.
        begins_word: `n`, which of them begin a word.
        mask_id: of the mask.
        vocab_size: ids are below it.
        generator: of all that is drawn.
        share: of the tokens; at least one is chosen.
    """
    starts = sorted({0, *np.flatnonzero(begins_word).tolist()})
    sizes = [end - start for start, end in zip(starts, [*starts[1:], len(ids)], strict=True)]
    left, chosen = max(1, round(share * len(ids))), list[int]()
    for word in generator.permutation(len(starts)).tolist():
        if sizes[word] > left and chosen:  # of a single word that is too long, some tokens
            continue
        own = min(sizes[word], left)
        chosen += range(starts[word], starts[word] + own)
        left -= own
        if not left:
            break
    places = np.array(sorted(chosen), dtype=np.int64)
    drawn, any_token = generator.random(len(places)), generator.integers(0, vocab_size, len(places))
    seen = ids.astype(np.int64)
    targets = seen[places]
    replaced = np.where(drawn < _HIDDEN + _REPLACED, any_token, targets)
    seen[places] = np.where(drawn < _HIDDEN, mask_id, replaced)
    return Masked(seen, places, targets)


class MaskedObjective(ShuffledRows):
    """A model that guesses hidden words, and the text it guesses in, cut into rows of one length.

    What is hidden is drawn anew in each epoch, from the seed, the epoch and the number of the row alone.

    Args:
        model: on the device that trains.
        text: its tokens, and which of them begin a word.
        frame: the tokens that a row needs beside them.
        row_length: tokens of a row, those of the frame included; the last row may be shorter.
        seed: of what is hidden.
        number: of this process; it has every ``count``-th row.
        count: processes.
    Raises:
        ConfigError: rows too short.
        DataError: a text without a row for each process, or one whose words nobody has marked.
    """

    def __init__(
        self,
        model: MaskedLanguageModel,
        text: TokenFile,
        frame: Frame,
        *,
        row_length: int,
        seed: int,
        number: int = 0,
        count: int = 1,
    ) -> None:
        around = len(frame.before) + len(frame.after)
        require(row_length > around, "segment_length", f"above {around}, the tokens around each row", row_length)
        if text.begins_word is None:
            raise DataError("The words of this text are not marked.", hint="Write its tokens again, with begins_word.")
        self.model, self._text, self._frame, self._seed = model, text, frame, seed
        self._begins: np.ndarray[Any, Any] = text.begins_word
        self._size = row_length - around
        self._starts = list(range(number * self._size, len(text), count * self._size))
        if not self._starts:
            raise DataError(f"A text of {len(text):,} tokens has no row for each of {count} processes.")
        # All processes have as many rows.
        self._starts = self._starts[: max(1, -(-len(text) // self._size) // count)]
        super().__init__([min(self._size, len(text) - start) + around for start in self._starts])
        self._epoch = 0
        self._device = next(model.parameters()).device

    def batches(self, epoch: int, *, batch_tokens: int, seed: int) -> list[list[int]]:
        """The batches of an epoch; its rows are asked for after it."""
        self._epoch = epoch
        return super().batches(epoch, batch_tokens=batch_tokens, seed=seed)

    def layer_groups(self) -> list[list[nn.Parameter]]:
        """The model's parameters by depth."""
        return self.model.by_depth()

    def loss_sum(self, rows: Sequence[int]) -> Tensor:
        """−log p of every hidden token of the rows, in nats, added up."""
        return self._losses(rows)[0].sum()

    def loss_weight(self, rows: Sequence[int]) -> float:
        """Their hidden tokens."""
        return float(sum(len(self._masked(row).places) for row in rows))

    def describe(self, rows: Sequence[int]) -> list[str]:
        """Where rows stand."""
        return [f"tokens {self._starts[row]:,} to {self._starts[row] + self.lengths[row]:,}" for row in rows]

    def judge(self, *, batch_tokens: int) -> tuple[float, int, int]:
        """−log p of all hidden tokens, in nats; how many are guessed right; how many there are.

        What is hidden is the same every time.
        """
        before, self._epoch = self._epoch, _VALIDATION
        nats, right, n = 0.0, 0, 0
        try:
            with torch.inference_mode():
                for first in range(0, len(self.lengths), max(1, batch_tokens // self.lengths[0])):
                    rows = range(first, min(len(self.lengths), first + max(1, batch_tokens // self.lengths[0])))
                    losses, guessed = self._losses(rows)
                    nats, right, n = nats + float(losses.double().sum()), right + int(guessed.sum()), n + len(losses)
        finally:
            self._epoch = before
        return nats, right, n

    def _masked(self, row: int) -> Masked:
        start = self._starts[row]
        own = slice(start, start + self._size)
        generator = np.random.default_rng(derive_seed(self._seed, "masks", self._epoch, start))
        return hide_words(
            np.asarray(self._text.ids[own]),
            np.asarray(self._begins[own]),
            mask_id=self._frame.mask,
            vocab_size=self.model.config.vocab_size,
            generator=generator,
        )

    def _losses(self, rows: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Of every hidden token, −log p, and whether it is guessed right."""
        before, after = list(self._frame.before), list(self._frame.after)
        sequences, places, targets, first = list[list[int]](), list[int](), list[int](), 0
        for row in rows:
            masked = self._masked(row)
            sequences.append([*before, *masked.ids.tolist(), *after])
            places += (masked.places + first + len(before)).tolist()
            targets += masked.targets.tolist()
            first += len(sequences[-1])
        packed = Packed.from_lists(sequences, self._device)
        wanted = torch.tensor(targets).to(self._device, non_blocking=True)
        logits = self.model(packed, torch.tensor(places).to(self._device, non_blocking=True)).float()
        return functional.cross_entropy(logits, wanted, reduction="none"), logits.argmax(-1) == wanted
