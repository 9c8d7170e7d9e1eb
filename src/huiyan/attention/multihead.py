"""Multi-head attention as a module: project, attend, project back."""

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from huiyan.attention.cache import KeyValueCache
from huiyan.attention.choosing import Kernel
from huiyan.attention.functional import attend
from huiyan.attention.masks import Mask
from huiyan.attention.positions.relative import ScorePosition
from huiyan.attention.positions.rotary import Rotary
from huiyan.core.config import require
from huiyan.core.errors import ConfigError, ShapeError
from huiyan.core.packed import packed_positions

Position = Rotary | ScorePosition


class MultiHeadAttention(nn.Module):
    """Attention with `h` heads: MultiHead(X, C) = Concat(head₁ … head_h) Wᴼ, where C, the context, is X unless given.

    head_i = Attention(X W_iᵠ, C W_iᴷ, C W_iⱽ), with the W_i stacked in one matrix for all heads:

    | here | paper | shape |
    |---|---|---|
    | ``query`` | Wᵠ | m → h·d |
    | ``key``, ``value`` | Wᴷ, Wⱽ | m → g·d, or from the width of the context |
    | ``out`` | Wᴼ | h·d → m |
    | ``head_width`` | d_k = d_v | d |
    | ``context`` | the output of the encoder | `b k m` |

    Source: Vaswani et al. 2017, section 3.2.2. Differs: biases; key and value heads may be fewer than query heads: g =
    1 is multi-query (Shazeer 2019), 1 < g < h grouped (Ainslie et al. 2023).

    ``scale``, an attribute, is None: what ``position`` asks for, or 1/√d. Set it for another (T5: 1.0).

    Args:
        width: `m`, the width of what comes in and goes out.
        n_heads: `h`, query heads.
        n_kv_heads: `g`, key and value heads; None is as many as query heads.
        head_width: `d`; None is width / n_heads.
        context_width: of the context in cross-attention; None is ``width``.
        bias: whether the four projections have a bias; "qkv" is all but the last, ``out`` (Qwen2).
        position: ``Rotary`` or a position that acts on scores, with its parameters a part of this module. One that
            needs this module's own projections can be assigned afterwards.
        qk_norm: whether each head's queries and keys are normed, before they turn: True is RMSNorm over `d`, with one
            gain for all heads (Qwen3, Gemma 3); or what makes a norm from a width, such as ``nn.LayerNorm`` (Dehghani
            et al. 2023). Source: Henry et al. 2020. Differs: theirs is the norm to length 1 with one learnt scale.
        soft_cap: scores s become soft_cap · tanh(s / soft_cap) (Gemma 2).
        sinks: whether each head learns the score of no key at all, ``sinks``, `h`, from 0 on (gpt-oss).
        dropout: probability that a weight is made 0, in training mode alone.
        kernel: as in ``attend``.
    Raises:
        ConfigError: the heads do not divide the width, or the key heads the query heads, or a number is out of range.
    """

    position: Position | None
    query_norm: nn.Module | None
    key_norm: nn.Module | None
    sinks: nn.Parameter | None

    def __init__(  # noqa: PLR0913 - the variants of attention; each has a name
        self,
        width: int,
        n_heads: int,
        *,
        n_kv_heads: int | None = None,
        head_width: int | None = None,
        context_width: int | None = None,
        bias: bool | Literal["qkv"] = True,
        position: Position | None = None,
        qk_norm: bool | Callable[[int], nn.Module] = False,
        soft_cap: float | None = None,
        sinks: bool = False,
        dropout: float = 0.0,
        kernel: Kernel = "auto",
    ) -> None:
        super().__init__()
        require(n_heads > 0, "n_heads", "at least 1", n_heads)
        n_kv_heads = n_heads if n_kv_heads is None else n_kv_heads
        fits = n_kv_heads > 0 and n_heads % n_kv_heads == 0
        require(fits, "n_kv_heads", f"a divisor of n_heads, {n_heads}", n_kv_heads)
        if head_width is None:
            require(width % n_heads == 0, "width", f"a multiple of n_heads, {n_heads}", width)
            head_width = width // n_heads
        require(head_width > 0, "head_width", "at least 1", head_width)
        require(soft_cap is None or soft_cap > 0, "soft_cap", "above 0, or None", soft_cap)
        require(0 <= dropout < 1, "dropout", "at least 0 and below 1", dropout)
        right = position is None or isinstance(position, Position)
        require(right, "position", "Rotary, a position that acts on scores, or None", type(position).__name__)
        self.head_width, self.soft_cap, self.dropout = head_width, soft_cap, dropout
        self.scale: float | None = None
        self.kernel: Kernel = kernel
        context_width = width if context_width is None else context_width
        self.query = nn.Linear(width, n_heads * head_width, bias=bool(bias))
        self.key = nn.Linear(context_width, n_kv_heads * head_width, bias=bool(bias))
        self.value = nn.Linear(context_width, n_kv_heads * head_width, bias=bool(bias))
        self.out = nn.Linear(n_heads * head_width, width, bias=bias is True)
        self.position = position
        norm = partial(nn.RMSNorm, eps=1e-6) if qk_norm is True else qk_norm
        self.query_norm, self.key_norm = (norm(head_width) if norm else None for _ in range(2))
        self.sinks = nn.Parameter(torch.zeros(n_heads)) if sinks else None

    def forward(
        self,
        x: Float[Tensor, "b l m"] | Float[Tensor, "t m"],
        *,
        context: Float[Tensor, "b k _"] | Float[Tensor, "s _"] | None = None,
        lengths: Int[Tensor, " b"] | None = None,
        context_lengths: Int[Tensor, " b"] | None = None,
        mask: Mask | None = None,
        cache: KeyValueCache | None = None,
    ) -> Float[Tensor, "b l m"] | Float[Tensor, "t m"]:
        """Attend within each sequence of a dense batch `b l m`, or of a packed row `t m` with its lengths `b`.

        Args:
            x: what asks, and what is asked unless there is a context.
            context: what is asked in cross-attention: `b k m`, or packed `s m` with ``context_lengths``.
            lengths: of the sequences packed in ``x``, int64, on the CPU.
            context_lengths: of those packed in ``context``.
            mask: what may attend to what.
            cache: ``x`` is what follows on the tokens in it, and is appended. Packed sequences, of any lengths, may be
                the first that an empty cache takes; what follows on them is a dense batch. With a context, the cache
                takes the context's keys and values in the first call, and later ones read them there.
        Raises:
            ShapeError: inputs that do not fit together.
            ConfigError: a mask, a position or a kernel that does not take this input, or packed input for a cache that
                holds tokens. Whatever is raised, a cache holds what it held.
        """
        self._check(x, context, lengths, context_lengths, cache)
        if cache is not None and context is not None and cache.length:
            return self.out(self.meet_held(self.query(x), cache, context.shape[:2], mask))
        asked = x if context is None else context
        rows = self.meet(
            self.query(x),
            self.key(asked),
            self.value(asked),
            lengths=lengths,
            context_lengths=context_lengths,
            mask=mask,
            cache=cache,
            crosses=context is not None,
        )
        return self.out(rows)

    def meet(
        self,
        q: Float[Tensor, "*q hd"],
        k: Float[Tensor, "*k gd"],
        v: Float[Tensor, "*k gd"],
        *,
        lengths: Int[Tensor, " b"] | None,
        context_lengths: Int[Tensor, " b"] | None = None,
        mask: Mask | None = None,
        cache: KeyValueCache | None = None,
        crosses: bool = False,
    ) -> Float[Tensor, "*q hd"]:
        """All between the projections: norms, positions, the cache, and attention itself.

        Args:
            q: what ``query`` gives, `b l h·d` or packed `t h·d`, or another product of the same weights.
            k: what ``key`` gives.
            v: what ``value`` gives.
            lengths: as of ``forward``.
            context_lengths: as there.
            mask: as there.
            cache: as there; it must not hold a context.
            crosses: whether keys and values are those of a context.
        """
        q, k, v = self._heads(q, self.query_norm), self._heads(k, self.key_norm), self._heads(v)
        if lengths is not None:
            return self._packed(q, k, v, lengths, context_lengths, mask, cache).flatten(-2)
        q, k, v, position = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), self.position
        with nullcontext() if cache is None else cache.kept_on_error():
            if cache is not None and not crosses:
                mask = cache.mask(mask, q.shape[2])
                if isinstance(position, Rotary):
                    q, k, position = *cache.rotate(position, q, k), None
            if cache is not None:
                k, v = cache.append(k, v)
            heads = self.attend(q.to(k.dtype), k, v, mask, position).to(q.dtype)
        return heads.transpose(1, 2).flatten(-2)

    def meet_held(
        self,
        q: Float[Tensor, "b l hd"],
        cache: KeyValueCache,
        shape: tuple[int, ...] | None = None,
        mask: Mask | None = None,
    ) -> Float[Tensor, "b l hd"]:
        """The same, with the keys and values of a context that a cache holds.

        Args:
            q: what ``query`` gives.
            cache: of the context.
            shape: `b k` of the context; None is what is held.
            mask: what may attend to what; None is all that are tokens.
        Raises:
            ShapeError: the cache holds another batch.
        """
        k, v = cache.read((q.shape[0], cache.length) if shape is None else shape)
        heads = self._heads(q, self.query_norm).transpose(1, 2)
        seen = cache.visible() if mask is None else mask
        return self.attend(heads.to(k.dtype), k, v, seen, self.position).to(q.dtype).transpose(1, 2).flatten(-2)

    def attend_held(self, x: Float[Tensor, "b l m"], cache: KeyValueCache | None) -> Float[Tensor, "b l m"]:
        """Attend to a context whose keys and values a cache holds: its rows are not needed again.

        Raises:
            ShapeError: the cache holds nothing, or another batch.
        """
        if cache is None or not cache.length:
            raise ShapeError(
                "A context that no cache holds has to be given.", hint="Pass context= in the first call with a cache."
            )
        return self.out(self.meet_held(self.query(x), cache))

    def _packed(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        lengths: Tensor,
        key_lengths: Tensor | None,
        mask: Mask | None,
        cache: KeyValueCache | None,
    ) -> Float[Tensor, "t h d"]:
        """The heads of packed sequences; an empty cache takes their keys and values."""
        position = self.position
        if cache is None:
            return self.attend(q, k, v, mask, position, lengths=lengths, key_lengths=key_lengths)
        held = lengths if key_lengths is None else key_lengths
        if isinstance(position, Rotary):  # a cache holds keys that have been turned
            at = packed_positions(lengths, len(q)).to(q.device, non_blocking=True)
            q, k, position = position.rotate(q, at), position.rotate(k, at), None
        heads = self.attend(q, k, v, mask, position, lengths=lengths, key_lengths=key_lengths)
        cache.append_packed(k, v, held)
        return heads

    def _heads(self, rows: Tensor, norm: nn.Module | None = None) -> Tensor:
        """`… h·d` → `… h d`: l or t stays in front, so that this is a view of what the projection wrote."""
        heads: Tensor = rows.unflatten(-1, (-1, self.head_width))
        if norm is None:
            return heads
        # Under autocast the gain of a norm is float32 where what comes in is not.
        gain: Tensor | None = getattr(norm, "weight", None)
        return norm(heads if gain is None else heads.to(gain.dtype)).to(heads.dtype)

    def attend(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        mask: Mask | None,
        position: Position | None,
        *,
        lengths: Tensor | None = None,
        key_lengths: Tensor | None = None,
    ) -> Tensor:
        """``attend`` with what this module knows, for queries, keys and values that are projected already."""
        return attend(
            q,
            k,
            v,
            lengths=lengths,
            key_lengths=key_lengths,
            mask=mask,
            position=position,
            scale=self.scale,
            soft_cap=self.soft_cap,
            sinks=self.sinks,
            dropout=self.dropout if self.training else 0.0,
            kernel=self.kernel,
        )

    def _check(
        self,
        x: Tensor,
        context: Tensor | None,
        lengths: Tensor | None,
        context_lengths: Tensor | None,
        cache: KeyValueCache | None,
    ) -> None:
        n_dims, packed = (3, False) if lengths is None else (2, True)
        if x.dim() != n_dims:
            raise ShapeError(
                "MultiHeadAttention takes `b l m`, or `t m` with lengths. "
                f"Got {tuple(x.shape)} with{'' if packed else 'out'} lengths instead."
            )
        if context is not None and (context.dim() != n_dims or packed != (context_lengths is not None)):
            raise ShapeError(
                "The context must be as x: `b k m`, or `s m` with context_lengths where x is packed. "
                f"Got {tuple(context.shape)} with{'' if context_lengths is not None else 'out'} context_lengths "
                f"for x {tuple(x.shape)}."
            )
        if context is None and context_lengths is not None:
            raise ShapeError("context_lengths are those of a packed context. Got them without a context.")
        if cache is None:
            return
        if packed and cache.length:
            raise ConfigError(
                "A KeyValueCache that holds tokens grows with a dense batch `b l m`. Got packed input, with lengths.",
                hint="Every sequence goes on with as many tokens: pass them as `b l m`, without lengths.",
            )
        scored = isinstance(self.position, ScorePosition)
        if scored and cache.n_sinks:
            raise ConfigError(
                f"A cache that keeps the first tokens cannot tell {type(self.position).__name__} how far they are.",
                hint="Use Rotary, or a cache with n_sinks=0.",
            )
        if context is not None and cache.max_length is not None:
            raise ConfigError(
                "The cache of a context holds all of it. Got a cache with max_length.",
                hint="Use KeyValueCache() for cross-attention.",
            )
        if context is not None and self.position is not None:
            raise ConfigError(
                "In cross-attention a position is counted from the last query, which moves as a cache is used.",
                hint="Leave the cache out, or the position.",
            )
