"""Transformer-XL's checkpoints: the published code's names, and config.json as `transformers` had it before 5.0.

Source: Dai et al. 2019 and its published code; `transformers` 4, ``modeling_transfo_xl.py``.
"""

import re
from collections.abc import Iterable
from typing import Any

from huiyan.core.errors import SourceError
from huiyan.models.families.family import CheckpointConfig, KeyTable, read_keys, refuse_unless
from huiyan.models.segment_config import TransformerXLConfig

NAME = "transfo-xl"
PREFIX = "transformer."
"""Before all but the output in files of `transformers`; the published code has none."""
CONSTANTS = ("pos_emb.inv_freq",)
"""Endings of what files hold and nobody needs."""
REVERSED = ("crit.cluster_weight", "crit.cluster_bias")
"""What `transformers` has in the order of the clusters, and the published code, and we, the last cluster first."""
_KEYS: KeyTable = (
    ("vocab_size", "vocab_size", 267_735),
    ("n_layers", "n_layer", 18),
    ("width", "d_model", 1024),
    ("n_heads", "n_head", 16),
    ("head_width", "d_head", 64),
    ("feed_forward_width", "d_inner", 4096),
    ("memory_length", "mem_len", 1600),
    ("same_length", "same_length", True),
    ("embedding_width", "d_embed", 1024),
    ("cutoffs", "cutoffs", [20_000, 40_000, 200_000]),
    ("div_value", "div_val", 4),
    ("untied_biases", "untie_r", True),
    ("dropout", "dropout", 0.1),
    ("attention_dropout", "dropatt", 0.0),
)
_MODULES = (
    (r"embeddings\.tables\.(\d+)\.(weight)", "transformer.word_emb.emb_layers.{}.{}"),
    (r"embeddings\.projections\.(\d+)", "transformer.word_emb.emb_projs.{}"),
    (r"biases\.u", "transformer.r_w_bias"),
    (r"biases\.w", "transformer.r_r_bias"),
    (r"stack\.layers\.(\d+)\.attention\.position\.biases\.u", "transformer.layers.{}.dec_attn.r_w_bias"),
    (r"stack\.layers\.(\d+)\.attention\.position\.biases\.w", "transformer.layers.{}.dec_attn.r_r_bias"),
    (r"stack\.layers\.(\d+)\.attention\.query\.(weight)", "transformer.layers.{}.dec_attn.qkv_net[0].{}"),
    (r"stack\.layers\.(\d+)\.attention\.key\.(weight)", "transformer.layers.{}.dec_attn.qkv_net[1].{}"),
    (r"stack\.layers\.(\d+)\.attention\.value\.(weight)", "transformer.layers.{}.dec_attn.qkv_net[2].{}"),
    (r"stack\.layers\.(\d+)\.attention\.out\.(weight)", "transformer.layers.{}.dec_attn.o_net.{}"),
    (r"stack\.layers\.(\d+)\.attention\.position\.key\.(weight)", "transformer.layers.{}.dec_attn.r_net.{}"),
    (r"stack\.layers\.(\d+)\.attention_norm\.(weight|bias)", "transformer.layers.{}.dec_attn.layer_norm.{}"),
    (r"stack\.layers\.(\d+)\.feed_forward\.inner\.(weight|bias)", "transformer.layers.{}.pos_ff.CoreNet.0.{}"),
    (r"stack\.layers\.(\d+)\.feed_forward\.outer\.(weight|bias)", "transformer.layers.{}.pos_ff.CoreNet.3.{}"),
    (r"stack\.layers\.(\d+)\.feed_forward_norm\.(weight|bias)", "transformer.layers.{}.pos_ff.layer_norm.{}"),
    (r"output\.cluster_(weight|bias)", "crit.cluster_{}"),
    (r"output\.words\.(\d+)", "crit.out_layers.{}.weight"),
    (r"output\.biases\.(\d+)", "crit.out_layers.{}.bias"),
    (r"output\.projections\.(\d+)", "crit.out_projs.{}"),
)


def read(values: CheckpointConfig) -> TransformerXLConfig:
    """config.json → our model.

    Raises:
        SourceError: a variant that computes something else.
        ConfigError: numbers that cannot be.
    """
    refuse_unless(values, attn_type=0, sample_softmax=-1, layer_norm_epsilon=1e-5)
    found = read_keys(values, _KEYS)
    if not isinstance(found["cutoffs"], list | tuple):
        raise SourceError(f"This checkpoint's config.json says cutoffs = {found['cutoffs']!r}, which is no list.")
    found["cutoffs"] = tuple(found["cutoffs"])
    n_clusters = len(found["cutoffs"]) + 1
    clamp = values.get("clamp_len", 1000)
    tied = values.get("tie_projs")
    if tied is None:
        shared = bool(values.get("proj_share_all_but_first", True))
        tied = [shared and number > 0 for number in range(n_clusters)]
    return TransformerXLConfig(
        **found,
        # The published code clamps where clamp_len is above 0.
        clamp_length=None if clamp is None or (type(clamp) is int and clamp <= 0) else clamp,
        tied_words=bool(values.get("tie_word_embeddings", values.get("tie_weight", True))),
        tied_projections=tuple(map(bool, tied)) if isinstance(tied, list | tuple) else bool(tied),
        residual="pre" if values.get("pre_lnorm", False) else "post",
    )


def write(config: TransformerXLConfig) -> dict[str, Any]:
    """Our model → config.json."""
    tied = config.tied_projections
    return {theirs: getattr(config, ours) for ours, theirs, _ in _KEYS} | {
        "cutoffs": list(config.cutoffs),
        "d_embed": config.embedding_width or config.width,
        "clamp_len": -1 if config.clamp_length is None else config.clamp_length,
        "tie_word_embeddings": config.tied_words,
        "tie_projs": [tied] * (len(config.cutoffs) + 1) if isinstance(tied, bool) else list(tied),
        "proj_share_all_but_first": not isinstance(tied, bool) and not tied[0] and all(tied[1:]),
        "pre_lnorm": config.residual == "pre",
        "attn_type": 0,
        "sample_softmax": -1,
        "adaptive": True,
        "layer_norm_epsilon": 1e-5,
    }


def names(parameters: Iterable[str]) -> dict[str, str]:
    """Ours → theirs, of the parameters of a ``TransformerXL``, those included that it has under several names."""
    found: dict[str, str] = {}
    for parameter in parameters:
        for pattern, theirs in _MODULES:
            match = re.fullmatch(pattern, parameter)
            if match:
                found[parameter] = theirs.format(*match.groups())
                break
    return found


def shared(name: str) -> str:
    """What a weight of one layer is called where all layers share it: files may hold it for each of them as well."""
    return re.sub(r"^transformer\.layers\.\d+\.dec_attn\.(r_[rw]_bias)$", r"transformer.\1", name)


def in_full(name: str) -> str:
    """A weight's name as files of `transformers` have it."""
    return name if name.startswith(("crit.", PREFIX)) else PREFIX + name
