"""An encoder with a head that tells classes apart."""

from jaxtyping import Float
from torch import Tensor, nn

from huiyan.core.packed import Packed, check_none_is_empty
from huiyan.models.activations import activation_named
from huiyan.models.config import ClassifierConfig, HeadConfig
from huiyan.models.encoder import Encoder
from huiyan.models.pooling import POOLINGS, FirstPooling


class ClassificationHead(nn.Module):
    """Pooling, then an optional dense layer with an optional norm, then the output layer; dropout before both layers.

    Args:
        config: which of these, and how much dropout.
        width: `m`, of the encoder's rows.
        n_heads: `h`, used by attention pooling.
        n_classes: `c`.
    """

    def __init__(self, config: HeadConfig, *, width: int, n_heads: int, n_classes: int) -> None:
        super().__init__()
        self.pooling = POOLINGS[config.pooling](width, n_heads)
        self.dropout_before_dense = nn.Dropout(config.dropout_before_dense)
        self.dense = nn.Linear(width, width, bias=config.dense_bias) if config.dense else None
        self.activation = activation_named(config.activation)
        self.norm = nn.Identity()
        if config.norm != "none":
            self.norm = nn.LayerNorm(width, eps=config.norm_epsilon, bias=config.norm == "layer")
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(width, n_classes)

    def forward(self, rows: Float[Tensor, "t m"], packed: Packed) -> Float[Tensor, "b c"]:
        """The logits of each sequence.

        Raises:
            ShapeError: a sequence has no token at all.
        """
        check_none_is_empty(packed.lengths)
        return self.of_pooled(self.pooling(rows, packed))

    @property
    def reads_first_rows(self) -> bool:
        """Whether the first row of each sequence is all it reads: nobody need compute the others for it."""
        return isinstance(self.pooling, FirstPooling)

    def of_pooled(self, pooled: Float[Tensor, "b m"]) -> Float[Tensor, "b c"]:
        """The logits of sequences of which one row each is left."""
        pooled = self.dropout_before_dense(pooled)
        if self.dense is not None:
            pooled = self.activation(self.dense(pooled))
        return self.output(self.dropout(self.norm(pooled)))


class SequenceClassifier(nn.Module):
    """Packed token ids in, one row of raw logits a sequence out."""

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config.encoder)
        self.head = ClassificationHead(
            config.head, width=config.encoder.width, n_heads=config.encoder.n_heads, n_classes=config.n_classes
        )

    def forward(self, packed: Packed) -> Float[Tensor, "b c"]:
        """Raw logits.

        Raises:
            ShapeError: a sequence is empty, or longer than the positions the model has.
        """
        if self.head.reads_first_rows:
            return self.head.of_pooled(self.encoder.first_rows(packed))
        return self.head(self.encoder(packed), packed)

    def layer_groups(self) -> list[list[nn.Parameter]]:
        """Every parameter once, in groups from the embeddings (0) through each layer to the head (last).

        Layers that share weights are one group, at their place among the distinct layers.
        """
        stack = self.encoder.stack
        modules = [self.encoder.embeddings, *stack.layers, nn.ModuleList([stack.final_norm, self.head])]
        return [list(module.parameters()) for module in modules]
