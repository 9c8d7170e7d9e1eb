"""Linear attention: keys and values are added up once, and every query reads the sums."""

from typing import Literal, cast, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from huiyan.attention.approximate.base import Approximation, normalised
from huiyan.attention.approximate.features import FavorFeatures, FeatureMap, elu_features, relu_features
from huiyan.core.config import require

Features = Literal["elu", "relu", "favor"]


class LinearAttention(Approximation):
    """φ(q) Σ φ(k)ᵀ v / φ(q) Σ φ(k), over all keys or, causal, over those up to the query: O(l) time and memory.

    Source: Katharopoulos et al. 2020, eq. 4–6, and 8–12 for the causal form. Differs: causal sums run over chunks of
    tokens instead of single ones; a query whose keys are all hidden gives 0.

    "elu" and "relu" are other kernels than exp(q·k/√d): a model has to be trained with them. "favor" estimates that
    kernel itself (Choromanski et al. 2021), the better the more features.

    Args:
        feature_map: φ.
        causal: whether a query sees only what came before, and itself.
        head_width: `d`, needed by "favor" only.
        n_features: `r`, for "favor" only; None is d · ln d.
        seed: of the random directions of "favor".
        chunk: tokens that meet one another directly in the causal form; changes cost, not the result.
    Raises:
        ConfigError: an unknown feature map, "favor" without a head width, a number below 1.
    """

    def __init__(
        self,
        feature_map: Features = "elu",
        *,
        causal: bool = False,
        head_width: int | None = None,
        n_features: int | None = None,
        seed: int = 0,
        chunk: int = 64,
    ) -> None:
        super().__init__()
        require(
            feature_map in get_args(Features), "feature_map", "one of " + ", ".join(get_args(Features)), feature_map
        )
        require(chunk >= 1, "chunk", "at least 1", chunk)
        self.causal, self.chunk = causal, chunk
        if feature_map == "favor":
            require(head_width is not None, "head_width", 'given for "favor"', head_width)
            self.features = FavorFeatures(cast("int", head_width), n_features, seed=seed)
        else:
            require(n_features is None, "n_features", f'None for "{feature_map}", which has d of them', n_features)
            self.features = elu_features if feature_map == "elu" else relu_features

    def meet(self, q: Tensor, k: Tensor, v: Tensor, keys: Tensor | None) -> Tensor:
        """Sums over the keys, read by each query and divided by the sum of its weights."""
        features: FeatureMap = self.features
        (q_features, _), (k_features, log_scale) = features(q), features(k)
        # A column of ones beside the values adds up the weights themselves.
        values = torch.cat([v, torch.ones_like(v[..., :1])], dim=-1)  # b h l d+1
        if keys is not None:  # beside any real key, nothing; among themselves, a mean of hidden values, which are 0
            log_scale = log_scale.masked_fill(~keys[:, None, :], torch.finfo(q.dtype).min)
        read = self._read_causal if self.causal else _read_all
        sums = read(q_features, k_features, values, log_scale)
        return normalised(sums[..., :-1], sums[..., -1:])

    def _read_causal(self, q: Tensor, k: Tensor, values: Tensor, log_scale: Tensor) -> Tensor:
        """Within a chunk each query meets each key; all earlier chunks are one matrix of sums.

        A query's weights are relative to the largest key so far: never to a later one, which could otherwise push
        earlier weights below what the dtype holds.
        """
        length, size = q.shape[2], min(self.chunk, q.shape[2])
        over = -length % size
        q, k, values = (F.pad(x, (0, 0, 0, over)).unflatten(2, (-1, size)) for x in (q, k, values))  # b h n c …
        log_scale = F.pad(log_scale, (0, over), value=torch.finfo(log_scale.dtype).min)
        largest = log_scale.cummax(dim=-1).values.unflatten(2, (-1, size))  # b h n c
        log_scale = log_scale.unflatten(2, (-1, size))
        ends = largest[..., -1]  # b h n

        later = torch.ones(size, size, dtype=torch.bool, device=q.device).triu(1)
        relative = (log_scale[..., None, :] - largest[..., :, None]).masked_fill(later, float("-inf"))
        within = (q @ k.transpose(-2, -1) * relative.exp()) @ values

        own = k.transpose(-2, -1) @ (values * (log_scale - ends[..., None]).exp()[..., None])  # b h n r d+1
        before = _running_sums(own, ends)
        # The first chunk has nothing before it; its end stands in for one, and the sums are 0.
        ends_before = torch.cat([ends[..., :1], ends[..., :-1]], dim=-1)
        shrink = (ends_before[..., None] - largest).clamp_max(0.0).exp()[..., None]
        return (within + (q @ before) * shrink).flatten(2, 3)[:, :, :length]


def _read_all(q: Tensor, k: Tensor, values: Tensor, log_scale: Tensor) -> Tensor:
    relative = (log_scale - log_scale.amax(dim=-1, keepdim=True)).exp()
    return q @ (k.transpose(-2, -1) @ (values * relative[..., None]))


def _running_sums(own: Tensor, ends: Tensor) -> Tensor:
    """What lies before each chunk, `b h n r d+1`, each relative to the largest key at the end of the chunk before."""
    before = torch.zeros_like(own[:, :, 0])
    sums = [before]
    for n in range(own.shape[2] - 1):
        # The measure grows with the largest key so far, and the sums shrink with it.
        shrink = (ends[:, :, n - 1] - ends[:, :, n]).exp()[..., None, None] if n else 1.0
        before = before * shrink + own[:, :, n]
        sums.append(before)
    return torch.stack(sums, dim=2)
