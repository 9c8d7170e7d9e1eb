"""From token ids to the first rows of the residual stream."""

from jaxtyping import Float, Int
from torch import Tensor, nn

from huiyan.core.errors import ShapeError
from huiyan.core.packed import Packed
from huiyan.models.config import EncoderConfig


class Embeddings(nn.Module):
    """Word + position + token type, normed; then projected to the width of the stack where the two differ.

    Without a table of positions, or of types, the sum is without them.

    Source: Devlin et al. 2019, section 3; the projection: Lan et al. 2020, section 3.1.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        width = config.embedding_width
        self.words = nn.Embedding(config.vocab_size, width, padding_idx=config.pad_id)
        self.positions = nn.Embedding(config.n_positions, width) if config.learned_positions else None
        self.types = nn.Embedding(config.n_types, width) if config.n_types else None
        self.norm = nn.LayerNorm(width, eps=config.norm_epsilon, bias=config.distinct_layers[0].norm_bias)
        self.dropout = nn.Dropout(config.embedding_dropout)
        self.projection = nn.Linear(width, config.width) if config.project_embeddings else nn.Identity()
        self.position_offset = config.position_offset
        self.max_length = config.max_length

    def forward(self, packed: Packed) -> Float[Tensor, "t m"]:
        """The rows of every token.

        Raises:
            ShapeError: a sequence is longer than the positions the model has.
        """
        longest = int(packed.lengths.max()) if len(packed) else 0
        if longest > self.max_length:
            raise ShapeError(
                f"A sequence of {longest} tokens is longer than the {self.max_length} positions of this model.",
                hint=f"Cut the texts with max_length={self.max_length} or less.",
            )
        return self.at(packed.tokens, packed.positions(), packed.types)

    def at(
        self, tokens: Int[Tensor, "*t"], positions: Int[Tensor, "*t"], types: Int[Tensor, "*t"] | None = None
    ) -> Float[Tensor, "*t m"]:
        """The rows of tokens that stand at these positions of their sequences, counted from 0, in any layout.

        Types are 0 where none are given; a model that has no table of types reads pairs without them.
        """
        rows = self.words(tokens)
        if self.positions is not None:
            rows = rows + self.positions(positions + self.position_offset)
        if self.types is not None:
            rows = rows + (self.types.weight[0] if types is None else self.types(types))
        return self.projection(self.dropout(self.norm(rows)))
