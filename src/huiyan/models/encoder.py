"""The encoder of every family: embeddings and a stack, put together from numbers."""

from jaxtyping import Float
from torch import Tensor, nn

from huiyan.core.packed import Packed
from huiyan.models.assembly import relative_for, stack_for
from huiyan.models.config import TransformerConfig
from huiyan.models.embeddings import Embeddings
from huiyan.models.low_rank import lower_ranks


class Encoder(nn.Module):
    """A bidirectional Transformer encoder: every token sees its whole sequence.

    Source: Devlin et al. 2019, section 3. Differs: no padding (a batch is one row of tokens), and no dropout on the
    attention weights.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.relative = relative_for(config)
        self.stack = stack_for(config, self.relative)
        self.output_dropout = nn.Dropout(config.output_dropout)
        lower_ranks(self, config.ranks)

    def forward(self, packed: Packed) -> Float[Tensor, "t m"]:
        """The last hidden state of every token.

        Raises:
            ShapeError: a sequence is longer than the positions the model has.
        """
        return self.output_dropout(self.stack(self.embeddings(packed), packed.lengths))

    def first_rows(self, packed: Packed) -> Float[Tensor, "b m"]:
        """The last hidden state of the first token of every sequence, without computing that of the others.

        Raises:
            ShapeError: a sequence is empty, or longer than the positions the model has.
        """
        return self.output_dropout(self.stack.first_rows(self.embeddings(packed), packed.lengths))
