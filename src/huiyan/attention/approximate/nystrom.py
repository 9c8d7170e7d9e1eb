"""Nyström attention: the map rebuilt from what every token has to do with a few landmarks."""

import torch
from torch import Tensor, nn

from huiyan.attention.approximate.base import Approximation, check_heads, masked_softmax
from huiyan.core.config import require


class NystromAttention(Approximation):
    """softmax(q k̃ᵀ/√d) · softmax(q̃ k̃ᵀ/√d)⁺ · softmax(q̃ kᵀ/√d) · v, with q̃, k̃ the means of `m` segments.

    O(l · m) time and memory. With as many landmarks as tokens it is exact up to the pseudo-inverse, which six
    iterations reach only roughly where the map is nearly singular.

    Source: Xiong et al. 2021, eq. 13 (the map), eq. 14 (the pseudo-inverse), section 3.2 (the landmarks).
    Differs: a sequence whose length is no multiple of the landmarks gets segments that differ by one token instead of
    padding, and one with fewer tokens than landmarks has a landmark for each; the residual starts at 0.

    It cannot be causal: a landmark mixes what came before a query with what comes after.

    Args:
        n_landmarks: `m`, segments of a sequence.
        iterations: steps of the iterative pseudo-inverse. On trained layers more are not better: the map among the
            landmarks is nearly singular there, and its full inverse blows up what the landmarks got wrong.
        residual_kernel: width in tokens, odd, of the depthwise convolution over the values that is added to the
            output; None adds nothing.
        n_heads: `h`, needed for the convolution only, which has a kernel for each head.
    Raises:
        ConfigError: a number below 1, an even kernel, a kernel without ``n_heads``.
    """

    def __init__(
        self,
        n_landmarks: int,
        *,
        iterations: int = 6,
        residual_kernel: int | None = None,
        n_heads: int | None = None,
    ) -> None:
        super().__init__()
        require(n_landmarks >= 1, "n_landmarks", "at least 1", n_landmarks)
        require(iterations >= 1, "iterations", "at least 1", iterations)
        self.n_landmarks, self.iterations = n_landmarks, iterations
        self.residual: nn.Conv2d | None = None
        if residual_kernel is not None:
            odd = residual_kernel >= 1 and residual_kernel % 2 == 1
            require(odd, "residual_kernel", "an odd number of tokens, or None", residual_kernel)
            heads = n_heads or 0
            require(heads >= 1, "n_heads", "at least 1 where there is a residual_kernel", n_heads)
            shape, padding = (residual_kernel, 1), (residual_kernel // 2, 0)
            self.residual = nn.Conv2d(heads, heads, shape, padding=padding, groups=heads, bias=False)
            nn.init.zeros_(self.residual.weight)

    def meet(self, q: Tensor, k: Tensor, v: Tensor, keys: Tensor | None) -> Tensor:
        """Three small maps in place of the large one, multiplied from the right."""
        n_landmarks = min(self.n_landmarks, q.shape[2])
        scale = q.shape[-1] ** -0.5
        if keys is None:
            real, rows = None, None
            few_q, few_k = (segment_means(x, n_landmarks) for x in (q, k))
        else:
            # A query in the padding may be anything; it is no part of a landmark.
            only_real = q.masked_fill(~keys[:, None, :, None], 0.0)
            few_q, few_k = (segment_means(x, n_landmarks, keys) for x in (only_real, k))
            real = torch.arange(n_landmarks, device=q.device) < keys.sum(dim=1, keepdim=True)  # b m
            real, rows = real[:, None, None, :], keys[:, None, None, :]
        to_landmarks = masked_softmax(scale * q @ few_k.transpose(-2, -1), real)  # b h l m
        among_landmarks = masked_softmax(scale * few_q @ few_k.transpose(-2, -1), real)  # b h m m
        from_landmarks = masked_softmax(scale * few_q @ k.transpose(-2, -1), rows)  # b h m l
        if real is not None:
            # What a shorter sequence does not use is an identity of its own: the inverse of the rest stays what it is.
            identity = torch.eye(n_landmarks, dtype=q.dtype, device=q.device)
            among_landmarks = torch.where(real & real.transpose(-2, -1), among_landmarks, identity)
        inverse = pseudo_inverse(among_landmarks, iterations=self.iterations)
        out = to_landmarks @ (inverse @ (from_landmarks @ v))
        if self.residual is None:
            return out
        check_heads(q, self.residual.in_channels)
        return out + nn.functional.conv2d(
            v,
            self.residual.weight.to(v.dtype),
            padding=(self.residual.kernel_size[0] // 2, 0),
            groups=self.residual.groups,
        )


def segment_means(x: Tensor, n_segments: int, keys: Tensor | None = None) -> Tensor:
    """The means of ``n_segments`` segments of equal length, to one token, of each sequence: `b h l d` → `b h m d`.

    Args:
        x: 0 where ``keys`` is False.
        n_segments: `m`, at most `l`.
        keys: True for a real token, `b l`. A sequence with fewer real tokens than segments has one for each token,
            and then zeros.
    """
    b, h, length, d = x.shape
    if keys is None and length % n_segments == 0:
        return x.unflatten(2, (n_segments, -1)).mean(dim=3)
    keys = x.new_ones(b, length, dtype=torch.bool) if keys is None else keys
    n_real = keys.sum(dim=1, keepdim=True)  # b 1
    order = (keys.cumsum(dim=1) - 1).clamp_min(0)
    segments = order * n_real.clamp(max=n_segments) // n_real.clamp_min(1)  # b l
    sizes = x.new_zeros(b, n_segments).scatter_add(1, segments, keys.to(x.dtype)).clamp_min(1.0)
    sums = x.new_zeros(b, h, n_segments, d).scatter_add(2, segments[:, None, :, None].expand_as(x), x)
    return sums / sizes[:, None, :, None]


def pseudo_inverse(matrix: Tensor, *, iterations: int) -> Tensor:
    """The Moore-Penrose inverse of matrices `… m m`, by an iteration of third order that only multiplies.

    Source: Xiong et al. 2021, eq. 14 and lemma 1; Razavi et al. 2014. Differs: each matrix is scaled by its own
    norms, not by the largest of the batch, so that a sequence's result does not hang on its neighbours.
    """
    row_sums, column_sums = matrix.abs().sum(dim=-1), matrix.abs().sum(dim=-2)
    inverse = matrix.transpose(-2, -1) / (row_sums.amax(dim=-1) * column_sums.amax(dim=-1))[..., None, None]
    identity = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    for _ in range(iterations):
        product = matrix @ inverse
        inner = 7 * identity - product
        inverse = 0.25 * inverse @ (13 * identity - product @ (15 * identity - product @ inner))
    return inverse
