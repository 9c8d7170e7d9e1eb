import subprocess
import sys
from typing import Any

import pytest

from huiyan.core.errors import ConfigError
from huiyan.models.config import ClassifierConfig, HeadConfig, TransformerConfig

TINY: dict[str, Any] = {
    "family": "bert",
    "vocab_size": 20,
    "width": 8,
    "embedding_width": 8,
    "n_layers": 2,
    "n_layer_groups": 2,
    "n_heads": 2,
    "feed_forward_width": 16,
    "n_positions": 10,
}


def test_a_round_trip_through_plain_values() -> None:
    config = ClassifierConfig(encoder=TransformerConfig(**TINY), head=HeadConfig(pooling="mean"), n_classes=3)
    assert ClassifierConfig.from_dict(config.to_dict()) == config
    assert config.family == "bert"


def test_no_torch_to_read_one() -> None:
    """Nor for the families: `huiyan models` describes them without."""
    code = "import sys, huiyan.models.config, huiyan.models.families.registry; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("n_layers", "groups", "inner", "order"),
    [
        (3, 3, 1, (0, 1, 2)),
        (3, 1, 1, (0, 0, 0)),
        (4, 2, 1, (0, 0, 1, 1)),
        (5, 2, 1, (0, 0, 0, 1, 1)),
        (2, 1, 2, (0, 1, 0, 1)),
        (2, 2, 2, (0, 1, 2, 3)),
    ],
)
def test_order_of_depth(n_layers: int, groups: int, inner: int, order: tuple[int, ...]) -> None:
    shape = {"n_layers": n_layers, "n_layer_groups": groups, "layers_per_group": inner}
    config = TransformerConfig(**{**TINY, **shape})
    assert config.depth_order == order
    assert config.n_distinct_layers == groups * inner == max(order) + 1


def test_order_of_depth_is_that_of_the_published_code() -> None:
    """There it is worked out in floating point: int(i / (layers / groups))."""
    for n_layers in range(1, 49):
        for groups in range(1, n_layers + 1):
            published = tuple(int(i / (n_layers / groups)) for i in range(n_layers))
            ours = TransformerConfig(**{**TINY, "n_layers": n_layers, "n_layer_groups": groups}).depth_order
            if any(ours[i] != published[i] for i in range(n_layers)):
                # Floating point rounds n / (n / g) down for some sizes, which no checkpoint has.
                assert n_layers % groups, (n_layers, groups)


def test_positions_taken_by_the_offset_are_not_for_tokens() -> None:
    assert TransformerConfig(**TINY, position_offset=2).max_length == 8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 0}, "width option must be a whole number from 1 to 1,000,000. Got 0"),
        ({"n_layers": "12"}, "n_layers option must be a whole number from 1 to 1,000. Got '12'"),
        ({"n_layers": True}, "n_layers option must be a whole number from 1 to 1,000. Got True"),
        ({"n_layers": 1001}, "n_layers option must be a whole number from 1 to 1,000. Got 1001"),
        ({"layers_per_group": 501}, "layers_per_group option must be small enough for 1,000 layers in all. Got 501"),
        ({"n_heads": 10**5}, "n_heads option must be a whole number from 1 to 10,000"),
        ({"feed_forward_width": 10**7}, "feed_forward_width option must be a whole number from 1 to 1,000,000"),
        ({"vocab_size": 10**8}, "vocab_size option must be a whole number from 1 to 10,000,000"),
        ({"n_positions": 10**8}, "n_positions option must be a whole number from 1 to 10,000,000"),
        ({"n_types": "2"}, "n_types option must be a whole number from 0 to 10,000,000. Got '2'"),
        ({"pad_id": "0"}, "pad_id option must be a row of the 20 words. Got '0'"),
        ({"n_heads": 3}, "n_heads option must be a divisor of the width, 8. Got 3"),
        ({"n_layer_groups": 3}, "n_layer_groups option must be at most n_layers, 2. Got 3"),
        ({"embedding_width": 4}, "embedding_width option must be the width, 8, without a projection. Got 4"),
        ({"position_offset": 10}, "n_positions option must be above the offset, 10. Got 10"),
        ({"pad_id": 20}, "pad_id option must be a row of the 20 words. Got 20"),
        ({"embedding_dropout": 1.0}, "embedding_dropout option must be at least 0 and below 1. Got 1.0"),
        ({"feed_forward_dropout": -0.1}, "feed_forward_dropout option"),
        ({"attention_output_dropout": None}, "attention_output_dropout option"),
    ],
    ids=str,
)
def test_encoders_that_cannot_be_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TransformerConfig(**{**TINY, **change})


def test_heads_that_cannot_be_are_refused() -> None:
    with pytest.raises(ConfigError, match="pooling option must be one of 'first', 'mean', 'attention'. Got 'max'"):
        HeadConfig.from_dict({"pooling": "max"})
    with pytest.raises(ConfigError, match="dropout_before_dense option"):
        HeadConfig(dropout_before_dense=2)
    with pytest.raises(ConfigError, match="n_classes option must be a whole number from 1 to 1,000,000. Got 0"):
        ClassifierConfig(encoder=TransformerConfig(**TINY), head=HeadConfig(), n_classes=0)
