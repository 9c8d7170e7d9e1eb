"""From token ids to the first rows of the residual stream."""

from jaxtyping import Float, Int
from torch import Tensor, nn

from huiyan.attention.positions.sinusoidal import Sinusoidal
from huiyan.core.errors import ShapeError
from huiyan.core.packed import Packed
from huiyan.models.assembly import norm_for
from huiyan.models.config import TransformerConfig


class Embeddings(nn.Module):
    """Word + position + token type, normed; then projected to the width of the stack where the two differ.

    Without positions, or a table of types, the sum is without them; and there are models without the norm.

    Source: Devlin et al. 2019, section 3; the projection: Lan et al. 2020, section 3.1.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        width = config.embedding_width
        self.words = nn.Embedding(config.vocab_size, width, padding_idx=config.pad_id)
        self.scale = config.embedding_scale
        self.positions: nn.Embedding | None = None
        self.waves: Sinusoidal | None = None
        if config.positions == "learned":
            self.positions = nn.Embedding(config.n_positions, width)
        elif config.positions != "none":
            self.waves = Sinusoidal(width, interleaved=config.positions == "sinusoidal")
        self.types = nn.Embedding(config.n_types, width) if config.n_types else None
        self.norm = norm_for(config, config.distinct_layers[0], width) if config.embedding_norm else nn.Identity()
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
        if self.scale != 1.0:
            rows = rows * self.scale
        if self.positions is not None:
            rows = rows + self.positions(positions + self.position_offset)
        if self.waves is not None:
            rows = self.waves(rows, positions)
        if self.types is not None:
            rows = rows + (self.types.weight[0] if types is None else self.types(types))
        return self.projection(self.dropout(self.norm(rows)))
