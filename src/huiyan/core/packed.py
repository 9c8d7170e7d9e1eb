"""A batch without padding: one flat row of tokens and the lengths of the sequences in it."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from huiyan.core.errors import ShapeError
from huiyan.core.texts import PairTokens


@dataclass(frozen=True)
class Packed:
    """Sequences laid end to end.

    Args:
        tokens: token ids, `t`, int64, on the device of the model.
        lengths: tokens in each sequence, `b`, int64, always on the CPU: kernels read them to decide what to launch.
        types: token types, `t`, int64, where the tokens lie: 0 for a first text, 1 for a second; None where all are 0.
    Raises:
        ShapeError: the lengths do not add up to the number of tokens, or there is not one type for each.
    """

    tokens: Tensor
    lengths: Tensor
    types: Tensor | None = None

    def __post_init__(self) -> None:
        if self.tokens.dim() != 1 or self.lengths.dim() != 1:
            raise ShapeError(
                "Packed takes flat tokens `t` and lengths `b`. "
                f"Got shapes {tuple(self.tokens.shape)} and {tuple(self.lengths.shape)} instead."
            )
        if int(self.lengths.sum()) != len(self.tokens):
            raise ShapeError(
                f"The lengths of a packed batch must add up to its {len(self.tokens)} tokens. "
                f"Got lengths that add up to {int(self.lengths.sum())}."
            )
        if self.types is not None and self.types.shape != self.tokens.shape:
            raise ShapeError(
                f"A packed batch of {len(self.tokens)} tokens needs as many types. Got {tuple(self.types.shape)}."
            )

    def __len__(self) -> int:
        """Sequences in the batch."""
        return len(self.lengths)

    @classmethod
    def from_lists(cls, sequences: list[list[int]], device: torch.device | str = "cpu") -> Self:
        """Pack lists of token ids in the order given; ``PairTokens`` among them have types."""

        def laid_out(values: list[int]) -> Tensor:
            return torch.tensor(values, dtype=torch.int64).to(device, non_blocking=True)

        typed = any(isinstance(sequence, PairTokens) for sequence in sequences)
        return cls(
            laid_out([token for sequence in sequences for token in sequence]),
            torch.tensor([len(sequence) for sequence in sequences], dtype=torch.int64),
            laid_out([kind for sequence in sequences for kind in _types_of(sequence)]) if typed else None,
        )

    def positions(self) -> Tensor:
        """The index of every token in its own sequence, `t`: 0 … n−1 for each."""
        return packed_positions(self.lengths, len(self.tokens)).to(self.tokens.device, non_blocking=True)

    def first_tokens(self) -> Tensor:
        """The row of the first token of every sequence, `b`, on the device of the tokens."""
        return first_tokens(self.lengths, self.tokens.device)

    def last_tokens(self) -> Tensor:
        """The row of the last token of every sequence, `b`, on the device of the tokens.

        Raises:
            ShapeError: a sequence is empty.
        """
        check_none_is_empty(self.lengths)
        return (self.lengths.cumsum(0) - 1).to(self.tokens.device, non_blocking=True)

    def sequence_ids(self) -> Tensor:
        """The sequence every token belongs to, `t`, on the device of the tokens."""
        ids = torch.arange(len(self.lengths)).repeat_interleave(self.lengths)
        return ids.to(self.tokens.device, non_blocking=True)


def _types_of(sequence: list[int]) -> list[int]:
    first = sequence.second if isinstance(sequence, PairTokens) else len(sequence)
    return [0] * first + [1] * (len(sequence) - first)


def packed_positions(lengths: Tensor, n_tokens: int) -> Tensor:
    """The index of every one of `t` packed tokens in its own sequence, int64, on the CPU."""
    starts = lengths.cumsum(0) - lengths
    return torch.arange(n_tokens) - starts.repeat_interleave(lengths, output_size=n_tokens)


def first_tokens(lengths: Tensor, device: torch.device) -> Tensor:
    """The row at which each sequence begins, `b`, on ``device``."""
    return (lengths.cumsum(0) - lengths).to(device, non_blocking=True)


def check_none_is_empty(lengths: Tensor) -> None:
    """Check that every sequence has a token.

    Raises:
        ShapeError: one has none.
    """
    if bool((lengths == 0).any()):
        where = int((lengths == 0).nonzero()[0])
        raise ShapeError(f"A sequence needs at least one token. Number {where} has none.")
