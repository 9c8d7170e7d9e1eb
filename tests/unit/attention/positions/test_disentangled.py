"""DeBERTa's disentangled attention, against `transformers` and pair by pair."""

from typing import Any

import pytest
import torch
from beartype import beartype
from jaxtyping import jaxtyped
from torch import Tensor, nn
from transformers import DebertaConfig, DebertaV2Config
from transformers.models.deberta import modeling_deberta as v1
from transformers.models.deberta_v2 import modeling_deberta_v2 as v2

from huiyan.attention.positions.disentangled import Disentangled, RelativeEmbeddings, embedding_rows
from huiyan.core.errors import ConfigError, ShapeError

H, D, M, N = 2, 4, 8, 23
checked = jaxtyped(typechecker=beartype)


def peer(**options: Any) -> v2.DisentangledSelfAttention:
    config = DebertaV2Config(
        hidden_size=M,
        num_attention_heads=H,
        relative_attention=True,
        max_position_embeddings=64,
        **{"pos_att_type": ["c2p", "p2c"], **options},
    )
    torch.manual_seed(0)
    made = v2.DisentangledSelfAttention(config).double().eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_()
    return made


OPTIONS = {
    "near": {"max_relative_positions": 40},
    "clamped": {"max_relative_positions": 5},
    "buckets": {"max_relative_positions": 16, "position_buckets": 8},
    "far buckets": {"max_relative_positions": 512, "position_buckets": 6},
    "c2p": {"max_relative_positions": 7, "pos_att_type": ["c2p"]},
    "p2c": {"max_relative_positions": 7, "pos_att_type": ["p2c"]},
    "shared": {"max_relative_positions": 7, "share_att_key": True},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_what_is_added_is_what_transformers_adds(name: str) -> None:
    options = OPTIONS[name]
    theirs = peer(**options)
    kinds = theirs.pos_att_type
    shared = {"key": theirs.key_proj, "query": theirs.query_proj} if theirs.share_att_key else {}
    ours = Disentangled(
        M,
        H,
        max_relative_positions=options["max_relative_positions"],
        position_buckets=options.get("position_buckets"),
        content_to_position="c2p" in kinds,
        position_to_content="p2c" in kinds,
        **shared,
    ).double()
    weights: dict[str, Tensor] = {"embeddings.weight": torch.randn(2 * theirs.pos_ebd_size, M, dtype=torch.float64)}
    if not shared:
        for part, kind, project in (("key", "c2p", "pos_key_proj"), ("query", "p2c", "pos_query_proj")):
            if kind in kinds:
                weights |= {f"{part}.{n}": x for n, x in getattr(theirs, project).named_parameters()}
    ours.load_state_dict(weights)

    q, k = torch.randn(2, 3, H, N, D, dtype=torch.float64)
    flat_q, flat_k = q.flatten(0, 1), k.flatten(0, 1)
    expected = theirs.disentangled_attention_bias(flat_q, flat_k, None, weights["embeddings.weight"], 1 + len(kinds))
    assert ours.scale == pytest.approx(1 / v2.scaled_size_sqrt(flat_q, 1 + len(kinds)).item())
    got = ours.tile(range(N), range(N), q=q, k=k, scale=ours.scale)
    # `transformers` computes the scale in float32.
    torch.testing.assert_close(got.flatten(0, 1), expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("far", [30, 5])
def test_a_v1_checkpoint_has_no_bias_on_its_key_projection(far: int) -> None:
    config = DebertaConfig(
        hidden_size=M,
        num_attention_heads=H,
        relative_attention=True,
        max_relative_positions=far,
        pos_att_type=["c2p", "p2c"],
    )
    theirs = v1.DisentangledSelfAttention(config).double().eval()
    table = torch.randn(2 * far, M, dtype=torch.float64)
    ours = Disentangled(M, H, max_relative_positions=far).double()
    ours.load_state_dict(
        {
            "embeddings.weight": table,
            "key.weight": theirs.pos_proj.weight,
            "key.bias": torch.zeros(M),
            "query.weight": theirs.pos_q_proj.weight,
            "query.bias": theirs.pos_q_proj.bias,
        }
    )
    q, k = torch.randn(2, 3, H, N, D, dtype=torch.float64)
    relative = v1.build_relative_position(q, k)
    expected = theirs.disentangled_att_bias(q * ours.scale, k, relative, table, 3)
    got = ours.tile(range(N), range(N), q=q, k=k, scale=ours.scale)
    torch.testing.assert_close(got, expected, atol=1e-6, rtol=1e-6)


def test_each_pair_takes_the_row_of_its_distance() -> None:
    """The two terms of eq. 4 with δ(i, j) of eq. 3, written out; the distance runs from −k to k − 1."""
    far = 3
    ours = Disentangled(M, H, max_relative_positions=far).double()
    q, k = torch.randn(2, H, 9, D, dtype=torch.float64)
    table = ours.embeddings.weight
    assert isinstance(ours.key, nn.Linear)
    assert isinstance(ours.query, nn.Linear)
    keys, queries = ours.key(table).view(-1, H, D), ours.query(table).view(-1, H, D)
    got = ours.tile(range(9), range(9), q=q, k=k)
    for i in range(9):
        for j in range(9):
            delta = 0 if i - j <= -far else 2 * far - 1 if i - j >= far else i - j + far
            expected = (q[:, i] * keys[delta]).sum(-1) + (k[:, j] * queries[delta]).sum(-1)
            torch.testing.assert_close(got[:, i, j], expected)


@pytest.mark.parametrize(("n_buckets", "far"), [(8, 16), (256, 512), (6, 512), (4, 5), (2, 9)])
def test_buckets_are_those_of_transformers(n_buckets: int, far: int) -> None:
    distances = torch.arange(-1500, 1501)
    theirs = (v2.make_log_bucket_position(distances, n_buckets, far).long() + n_buckets).clamp(0, 2 * n_buckets - 1)
    rows = checked(embedding_rows)(far, n_buckets)
    # Rows go by offset, which is minus the distance.
    assert torch.equal(rows[(-distances).clamp(-far, far) + far], theirs)


def test_the_norm_of_the_embeddings_comes_before_the_projections() -> None:
    embeddings = RelativeEmbeddings(6, M, norm=nn.LayerNorm(M))
    ours = Disentangled(M, H, max_relative_positions=3, embeddings=embeddings)
    keys = ours.terms(-2, 3).keys
    assert keys is not None
    assert isinstance(ours.key, nn.Linear)
    expected = ours.key(nn.functional.layer_norm(embeddings.weight, (M,))).view(6, H, D)
    torch.testing.assert_close(keys, expected.flip(0).transpose(0, 1))
    assert checked(RelativeEmbeddings.forward)(embeddings, torch.arange(4)).shape == (4, M)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"n_heads": 0}, "n_heads"),
        ({"n_heads": 3}, "width"),
        ({"width": 0}, "width"),
        ({"head_width": 0}, "head_width"),
        ({"max_relative_positions": 0}, "max_relative_positions"),
        ({"position_buckets": 3}, "position_buckets"),
        ({"position_buckets": 0}, "position_buckets"),
        ({"position_buckets": 8, "max_relative_positions": 5}, "max_relative_positions"),
        ({"content_to_position": False, "position_to_content": False}, "content_to_position"),
        ({"content_to_position": False, "key": nn.Linear(M, M)}, "key"),
    ],
    ids=str,
)
def test_misuse(values: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=f"The {named} option must be"):
        Disentangled(**{"width": M, "n_heads": H, "max_relative_positions": 6, **values})


def test_parts_that_do_not_fit() -> None:
    with pytest.raises(ShapeError, match=r"needs 12 embeddings. Got 10"):
        Disentangled(M, H, max_relative_positions=6, embeddings=RelativeEmbeddings(10, M))
    with pytest.raises(ShapeError, match=r"must give 2 · 4 numbers. Got 4.*Key heads"):
        Disentangled(M, H, max_relative_positions=6, key=nn.Linear(M, 4)).terms(-2, 2)
    with pytest.raises(ConfigError, match="n_rows"):
        RelativeEmbeddings(0, M)
