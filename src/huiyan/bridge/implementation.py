"""Our attention under the names of `transformers`' interface."""

from typing import Any

from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel
from transformers.masking_utils import AttentionMaskInterface

from huiyan.attention.functional import attend
from huiyan.attention.masks import Causal, Mask
from huiyan.bridge.foreign_masks import Seen, mask_for_models, mask_of_tensor
from huiyan.bridge.refusal import NAME, watch
from huiyan.core.errors import ConfigError


def attach(model: PreTrainedModel) -> PreTrainedModel:
    """Let a model of `transformers` attend with Huiyan: in place, with the weights it has.

    Afterwards ``observe`` from ``huiyan.attention`` watches it, and long inputs take O(n) memory.

    Returns:
        The same model.
    Raises:
        ConfigError: its attention, or that of a part of it, does not go through the interface: nothing would change.
    """
    if not isinstance(model, PreTrainedModel):
        raise ConfigError(f"The bridge is for models of transformers. Got {type(model).__name__}.")
    model.set_attn_implementation(NAME)
    return model


def attention_for_models(  # noqa: PLR0913, PLR0917 - their interface
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Seen | Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    position_bias: Tensor | None = None,
    **_options: Any,
) -> tuple[Tensor, None]:
    """What `transformers` calls in place of its own attention functions; the arguments are theirs.

    Args:
        module: the attention layer.
        query: `b h q d`.
        key: `b g k d`.
        value: `b g k d`.
        attention_mask: what our mask function gave; or a mask that the model has written out, `b 1 q k`.
        dropout: probability that a weight is made 0.
        scaling: what scores are multiplied by.
        is_causal: whether a missing mask means a causal one; None is what the layer says.
        softcap: of the scores.
        s_aux: sinks, `h`.
        position_bias: a bias of the scores.
    Returns:
        `b q h d`, and no weights: ``observe`` shows them.
    Raises:
        ConfigError: what we do not compute: values of another width than the keys, or a bias of every pair.
    """
    if position_bias is not None:
        raise ConfigError(
            f"{type(module).__name__} adds a bias to every pair of tokens, which Huiyan does not take from outside.",
            hint="Use attn_implementation='eager', or a family that Huiyan has itself (T5).",
        )
    if key.shape[-1] != value.shape[-1]:
        raise ConfigError(
            f"Keys and values must be of one width. Those of {type(module).__name__} have {key.shape[-1]} and "
            f"{value.shape[-1]}.",
            hint="Use attn_implementation='sdpa'.",
        )
    heads = attend(
        query,
        key,
        value,
        mask=_mask_for(module, query, attention_mask, is_causal),
        scale=scaling,
        soft_cap=softcap,
        sinks=None if s_aux is None else s_aux.to(query.dtype),
        dropout=dropout,
    )
    return heads.transpose(1, 2).contiguous(), None


def _mask_for(module: nn.Module, query: Tensor, given: Seen | Tensor | None, is_causal: bool | None) -> Mask | None:
    if isinstance(given, Seen):
        return given.mask
    if isinstance(given, Tensor):
        written = mask_of_tensor(given)
        if written is None:
            raise ConfigError(
                f"{type(module).__name__} adds numbers to every score, which Huiyan does not take from outside.",
                hint="Use attn_implementation='eager'.",
            )
        return written
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    return Causal() if causal and query.shape[2] > 1 else None


AttentionInterface.register(NAME, attention_for_models)
AttentionMaskInterface.register(NAME, mask_for_models)
watch()
