"""Dense attention through ``torch``'s fused kernel, with its corner cases put right."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from huiyan.attention.blocks import Block
from huiyan.attention.kernels.tiles import per_head
from huiyan.attention.masks import Causal
from huiyan.attention.oracle import attend_by_formula
from huiyan.attention.scoring import Scoring

# Keys up to which torch's backward pass on a CPU is faster in float32 than in half precision: there two to four times,
# while from some 256 on half precision leads.
SHORT = 128
# Queries up to which its forward pass is, keys and values made float32 included: with one, three times.
FEW = 4


def attend_dense(
    q: Float[Tensor, "b h q d"], k: Float[Tensor, "b g k d"], v: Float[Tensor, "b g k d"], scoring: Scoring
) -> Float[Tensor, "b h q d"]:
    """As ``attend_by_formula`` with a scale and a mask; the map is held only where `torch` has no kernel that need not.

    Source: ``torch.nn.functional.scaled_dot_product_attention``. Differs: causal is aligned at the bottom right when
    q ≠ k, and a row that may attend to nothing gives 0 with finite gradients whatever the backend does.
    """
    n_queries, n_keys = q.shape[2], k.shape[2]
    mask, scale = scoring.mask, scoring.scale
    if n_keys == 0:
        return attend_by_formula(q, k, v, Scoring(scale=scale))
    # A program that is exported must not depend on how many there are.
    counted = q.device.type == "cpu" and not torch.compiler.is_compiling()
    is_half = counted and q.dtype in (torch.bfloat16, torch.float16)
    if is_half and (n_queries <= FEW or (torch.is_grad_enabled() and n_keys <= SHORT)):
        return attend_dense(q.float(), k.float(), v.float(), scoring).to(q.dtype)
    grouped = q.shape[1] != k.shape[1]
    if mask is None or scoring.is_fused(n_queries, n_keys):
        return scaled_dot_product_attention(q, k, v, is_causal=mask is not None, scale=scale, enable_gqa=grouped)

    if grouped and q.device.type != "cpu":
        # Beside a mask the fused kernels of CUDA take no grouped heads, and what torch takes instead holds the map.
        k, v, grouped = per_head(k, q.shape[1]), per_head(v, q.shape[1]), False
    allowed = mask.allowed(Block.whole(n_queries, n_keys), q.device)
    if isinstance(mask, Causal) and n_queries < n_keys:  # every row sees something
        return scaled_dot_product_attention(q, k, v, attn_mask=allowed, scale=scale, enable_gqa=grouped)
    # Backends differ on rows that see nothing (0, NaN, NaN in the backward pass only). Such a row is let see
    # everything, and then made 0: its gradients are 0 too, in every backend.
    blind = ~allowed.any(dim=-1, keepdim=True)
    out = scaled_dot_product_attention(q, k, v, attn_mask=allowed | blind, scale=scale, enable_gqa=grouped)
    return torch.where(blind, 0.0, out)
