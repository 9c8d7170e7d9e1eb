"""Multi-head attention as a module: project, attend, project back."""

from jaxtyping import Float, Int
from torch import Tensor, nn

from huiyan.attention.functional import attend
from huiyan.attention.masks import Mask
from huiyan.core.config import require
from huiyan.core.errors import ShapeError


class MultiHeadAttention(nn.Module):
    """Self-attention with `h` heads: MultiHead(X) = Concat(head₁ … head_h) Wᴼ.

    head_i = Attention(X W_iᵠ, X W_iᴷ, X W_iⱽ), with the W_i stacked in one matrix for all heads:

    | here | paper | shape |
    |---|---|---|
    | ``query`` | Wᵠ | m → h·d |
    | ``key``, ``value`` | Wᴷ, Wⱽ | m → g·d |
    | ``out`` | Wᴼ | h·d → m |

    Source: Vaswani et al. 2017, section 3.2.2. Differs: biases; key and value heads may be fewer than query heads.

    Args:
        width: `m`, the width of what comes in and goes out.
        n_heads: `h`, query heads.
        n_kv_heads: `g`, key and value heads; None is as many as query heads.
        head_width: `d`; None is width / n_heads.
        bias: whether the four projections have a bias.
    Raises:
        ConfigError: the heads do not divide the width, or the key heads the query heads.
    """

    def __init__(
        self,
        width: int,
        n_heads: int,
        *,
        n_kv_heads: int | None = None,
        head_width: int | None = None,
        bias: bool = True,
    ) -> None:
        super().__init__()
        require(n_heads > 0, "n_heads", "at least 1", n_heads)
        n_kv_heads = n_heads if n_kv_heads is None else n_kv_heads
        fits = n_kv_heads > 0 and n_heads % n_kv_heads == 0
        require(fits, "n_kv_heads", f"a divisor of n_heads, {n_heads}", n_kv_heads)
        if head_width is None:
            require(width % n_heads == 0, "width", f"a multiple of n_heads, {n_heads}", width)
            head_width = width // n_heads
        self.head_width = head_width
        self.query = nn.Linear(width, n_heads * head_width, bias=bias)
        self.key = nn.Linear(width, n_kv_heads * head_width, bias=bias)
        self.value = nn.Linear(width, n_kv_heads * head_width, bias=bias)
        self.out = nn.Linear(n_heads * head_width, width, bias=bias)

    def forward(
        self,
        x: Float[Tensor, "b l m"] | Float[Tensor, "t m"],
        *,
        lengths: Int[Tensor, " b"] | None = None,
        mask: Mask | None = None,
    ) -> Float[Tensor, "b l m"] | Float[Tensor, "t m"]:
        """Attend within each sequence of a dense batch `b l m`, or of a packed row `t m` with its lengths `b`."""
        if x.dim() != (3 if lengths is None else 2):
            raise ShapeError(
                "MultiHeadAttention takes `b l m`, or `t m` with lengths. "
                f"Got {tuple(x.shape)} with{'out' if lengths is None else ''} lengths instead."
            )
        # l or t stays in front: `… (h·d)` → `… h d` is a view of what the projection wrote.
        q, k, v = (project(x).unflatten(-1, (-1, self.head_width)) for project in (self.query, self.key, self.value))
        if lengths is not None:
            heads = attend(q, k, v, lengths=lengths, mask=mask)
        else:
            heads = attend(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), mask=mask).transpose(1, 2)
        return self.out(heads.flatten(-2))
