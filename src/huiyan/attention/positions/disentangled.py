"""DeBERTa's disentangled attention: content looks for positions, and positions look for content."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from huiyan.attention.positions.offsets import bounded
from huiyan.attention.positions.relative import RelativeTerms, ScorePosition
from huiyan.attention.positions.sharing import own_or_borrow
from huiyan.core.config import require
from huiyan.core.errors import ShapeError


class RelativeEmbeddings(nn.Module):
    """P: a learnt row for each relative position (or bucket of them), which DeBERTa shares among its layers.

    Source: He et al. 2021, section 3.1; the norm: DeBERTa-v2's ``norm_rel_ebd``.

    Args:
        n_rows: 2k.
        width: `m`.
        norm: applied to the rows, such as ``nn.LayerNorm(width)``; None is none.
        dropout: probability, on the normed rows, anew for each layer that asks (as DeBERTa).
    """

    def __init__(self, n_rows: int, width: int, *, norm: nn.Module | None = None, dropout: float = 0.0) -> None:
        super().__init__()
        require(n_rows > 0, "n_rows", "at least 1", n_rows)
        require(width > 0, "width", "at least 1", width)
        self.weight = nn.Parameter(torch.empty(n_rows, width))
        self.norm = nn.Identity() if norm is None else norm
        self.dropout = nn.Dropout(dropout)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the rows from N(0, 0.02²), as DeBERTa."""
        nn.init.normal_(self.weight, std=0.02)

    def forward(self, rows: Int[Tensor, " r"]) -> Float[Tensor, "r m"]:
        """These rows, normed; what is dropped of a row is so wherever the row is used."""
        if self.training and self.dropout.p:
            return self.dropout(self.norm(self.weight))[rows]
        return self.norm(self.weight[rows])


class Disentangled(ScorePosition):
    """score(i, j) = scale · [qᵢ · kⱼ + qᵢ · (P W_k,r)[δ] + kⱼ · (P W_q,r)[δ]], with δ = clip(i − j + k, 0, 2k − 1).

    | here | paper | shape |
    |---|---|---|
    | ``embeddings`` | P | `2k m` |
    | ``key``, ``query`` | W_k,r, W_q,r | m → h·d |
    | ``max_relative_positions`` (or ``position_buckets``) | k | |
    | ``scale`` | 1/√(3d) | |

    ``attend`` takes ``position.scale`` where it is given no other.

    Source: He et al. 2021, eq. 2–4. Differs: the last term takes row δ(i, j), as the published code, `transformers` and
    so every checkpoint do; eq. 4 has δ(j, i). The projections have a bias, as DeBERTa-v2 (v1's key projection has none:
    leave it 0). Dropout on P is that of the embeddings.

    Args:
        width: `m`.
        n_heads: `h`.
        max_relative_positions: i − j runs from −k to k − 1. With buckets: where the last bucket begins.
        position_buckets: k counts buckets, which widen with distance beyond half of them (DeBERTa-v2 and -v3);
            None gives each distance a row.
        head_width: `d`; None is width / n_heads.
        content_to_position: whether the second term is there.
        position_to_content: whether the third term is there.
        embeddings: P of all layers. What is handed in stays registered with its owner; None is an own one.
        key: the attention's own key projection, to share it (``share_att_key``); None is an own one.
        query: the attention's own query projection, likewise.
    Raises:
        ConfigError: numbers below 1 or that do not fit together; neither term; a projection for a term that is not.
        ShapeError: embeddings with another number of rows.
    """

    rows: Int[Tensor, " r"]
    embeddings: RelativeEmbeddings
    key: nn.Module | None
    query: nn.Module | None

    def __init__(
        self,
        width: int,
        n_heads: int,
        *,
        max_relative_positions: int,
        position_buckets: int | None = None,
        head_width: int | None = None,
        content_to_position: bool = True,
        position_to_content: bool = True,
        embeddings: RelativeEmbeddings | None = None,
        key: nn.Module | None = None,
        query: nn.Module | None = None,
    ) -> None:
        super().__init__()
        require(n_heads > 0, "n_heads", "at least 1", n_heads)
        if head_width is None:
            require(width > 0 and width % n_heads == 0, "width", f"a multiple of n_heads, {n_heads}", width)
            head_width = width // n_heads
        require(head_width > 0, "head_width", "at least 1", head_width)
        span = _span(max_relative_positions, position_buckets)
        either = content_to_position or position_to_content
        require(either, "content_to_position", "True where position_to_content is False", content_to_position)
        self.n_heads, self.head_width = n_heads, head_width
        self.max_relative_positions, self.position_buckets = max_relative_positions, position_buckets
        rows = embedding_rows(max_relative_positions, position_buckets)
        self.register_buffer("rows", rows, persistent=False)
        if embeddings is not None and len(embeddings.weight) != 2 * span:
            raise ShapeError(f"Disentangled needs {2 * span} embeddings. Got {len(embeddings.weight)} instead.")
        own_or_borrow(self, "embeddings", embeddings, lambda: RelativeEmbeddings(2 * span, width))
        for name, wanted, given in (("key", content_to_position, key), ("query", position_to_content, query)):
            require(wanted or given is None, name, "None: the term that would use it is switched off", given)
            if wanted:
                own_or_borrow(self, name, given, lambda: _projection(width, n_heads * head_width))
            else:
                self.register_module(name, None)

    @property
    def scale(self) -> float:
        """What scores are multiplied by: 1/√(3d) with both terms, 1/√(2d) with one."""
        return (self.head_width * (1 + (self.key is not None) + (self.query is not None))) ** -0.5

    def terms(self, lowest: int, highest: int) -> RelativeTerms:
        """P W_k,r and P W_q,r at the row of each offset, up to ``max_relative_positions`` on either side."""
        far = self.max_relative_positions
        first, last = bounded(lowest, highest, below=-far, above=far)
        embeddings = self.embeddings(self.rows[first + far : last + far + 1])
        keys, queries = (self._heads(project, embeddings) for project in (self.key, self.query))
        return RelativeTerms(lowest=first, keys=keys, queries=queries)

    def _heads(self, project: nn.Module | None, embeddings: Tensor) -> Tensor | None:
        if project is None:
            return None
        projected: Tensor = project(embeddings)
        if projected.shape[-1] != self.n_heads * self.head_width:
            raise ShapeError(
                f"The projections of Disentangled must give {self.n_heads} · {self.head_width} numbers. "
                f"Got {projected.shape[-1]} instead.",
                hint="Key heads must be as many as query heads.",
            )
        return projected.unflatten(-1, (self.n_heads, self.head_width)).transpose(0, 1)

    def extra_repr(self) -> str:
        """What ``print(module)`` shows."""
        return (
            f"{self.n_heads}, head_width={self.head_width}, max_relative_positions={self.max_relative_positions}, "
            f"position_buckets={self.position_buckets}"
        )


def embedding_rows(max_relative_positions: int, position_buckets: int | None) -> Int[Tensor, " r"]:
    """δ, the row of P, for each offset j − i from −max_relative_positions to max_relative_positions.

    Source: He et al. 2021, eq. 3; the buckets: ``make_log_bucket_position`` of the published code.
    """
    span = _span(max_relative_positions, position_buckets)
    # On the CPU by name: not on the meta device, where a model is built whose parameters are assigned later, and not
    # on an accelerator, which may round the logarithm on the boundary of two buckets differently.
    distances = -torch.arange(-max_relative_positions, max_relative_positions + 1, device="cpu")
    if position_buckets is not None:
        half = position_buckets // 2
        far = distances.abs().clamp(min=half).float()
        widest = torch.log(torch.tensor((max_relative_positions - 1) / half, device="cpu"))
        logarithmic = (torch.ceil(torch.log(far / half) / widest * (half - 1)) + half).long()
        distances = torch.where(distances.abs() <= half, distances, logarithmic * distances.sign())
    return (distances + span).clamp(0, 2 * span - 1)


def _span(max_relative_positions: int, position_buckets: int | None) -> int:
    """Half the rows of P: the k of the class."""
    require(max_relative_positions > 0, "max_relative_positions", "at least 1", max_relative_positions)
    if position_buckets is None:
        return max_relative_positions
    even = position_buckets > 0 and position_buckets % 2 == 0
    require(even, "position_buckets", "even and at least 2, or None", position_buckets)
    farther = max_relative_positions - 1 > position_buckets // 2
    expected = f"above {position_buckets // 2 + 1}, half of position_buckets and one"
    require(farther, "max_relative_positions", expected, max_relative_positions)
    return position_buckets


def _projection(width: int, out: int) -> nn.Linear:
    projection = nn.Linear(width, out)
    nn.init.normal_(projection.weight, std=0.02)
    nn.init.zeros_(projection.bias)
    return projection
