"""T5's buckets and bias, against `transformers`."""

from typing import Any

import pytest
import torch
from beartype import beartype
from jaxtyping import jaxtyped
from transformers import T5Config
from transformers.models.t5.modeling_t5 import T5Attention

from huiyan.attention.positions.t5 import T5Bias, buckets
from huiyan.core.errors import ConfigError


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize(("n_buckets", "max_distance"), [(32, 128), (8, 5), (4, 3), (64, 1000), (20, 77)])
def test_buckets_are_those_of_transformers(n_buckets: int, max_distance: int, bidirectional: bool) -> None:
    offsets = torch.arange(-3000, 3001)
    theirs = T5Attention._relative_position_bucket(offsets, bidirectional, n_buckets, max_distance)
    ours = jaxtyped(typechecker=beartype)(buckets)(
        offsets, n_buckets=n_buckets, max_distance=max_distance, bidirectional=bidirectional
    )
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("is_decoder", [False, True], ids=["encoder", "decoder"])
def test_the_bias_is_that_of_transformers(is_decoder: bool) -> None:
    config = T5Config(
        d_model=8,
        d_kv=4,
        num_heads=3,
        relative_attention_num_buckets=8,
        relative_attention_max_distance=11,
        is_decoder=is_decoder,
    )
    theirs = T5Attention(config, has_relative_attention_bias=True, layer_idx=0)
    ours = T5Bias(3, 8, 11, bidirectional=not is_decoder)
    ours.load_state_dict({"table": theirs.relative_attention_bias.weight})
    assert torch.equal(ours.tile(range(30), range(40)), theirs.compute_bias(30, 40)[0])
    # Decoding: the last two of 40 queries.
    assert torch.equal(ours.tile(range(38, 40), range(40)), theirs.compute_bias(2, 40, past_seen_tokens=38)[0])


def test_only_rows_that_differ_are_given() -> None:
    assert T5Bias(2, 8, 10).terms(-500, 500).n_rows == 21
    assert T5Bias(2, 8, 10, bidirectional=False).terms(-500, 500).n_rows == 11
    assert T5Bias(2, 8, 10).terms(-3, 4).n_rows == 8


def test_later_keys_are_bucket_0_where_attention_is_causal() -> None:
    scheme = T5Bias(2, 8, 10, bidirectional=False)
    assert torch.equal(scheme.tile(range(1), range(1, 5)), scheme.table[0][:, None, None].expand(2, 1, 4))


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"n_heads": 0}, "n_heads"),
        ({"n_buckets": 6}, "n_buckets"),
        ({"n_buckets": 0}, "n_buckets"),
        ({"n_buckets": 5, "bidirectional": False}, "n_buckets"),
        ({"max_distance": 8}, "max_distance"),
        ({"max_distance": 16, "bidirectional": False}, "max_distance"),
    ],
    ids=str,
)
def test_misuse(values: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=f"The {named} option must be"):
        T5Bias(**{"n_heads": 2, **values})
