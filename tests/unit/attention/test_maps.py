"""What maps tell, against the whole map; and who is watched."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from huiyan.attention import Causal, Keys, MultiHeadAttention, attend, observe
from huiyan.attention import maps as maps_module
from huiyan.attention.kernels import weights as kernel_weights
from huiyan.attention.maps import AttentionMap, LayerMaps
from huiyan.core.errors import ConfigError, ShapeError
from huiyan.core.packed import Packed
from huiyan.models.checkpoint import load_classifier
from huiyan.models.inference import for_inference
from huiyan.tasks.artifact import Artifact


class Attends(nn.Module):
    """Calls ``attend`` as often as it is told to."""

    def __init__(self, n: int = 1) -> None:
        super().__init__()
        self.n = n

    def forward(self, q: Tensor, k: Tensor, **options: object) -> Tensor:
        for _ in range(self.n):
            out = attend(q, k, k, **options)  # pyright: ignore[reportArgumentType]
        return out


def layer(n_queries: int = 70, n_keys: int = 90, *, h: int = 4, g: int = 2, **options: object) -> LayerMaps:
    torch.manual_seed(0)
    model = Attends()
    with observe(model) as maps:
        model(torch.randn(1, h, n_queries, 8) * 2, torch.randn(1, g, n_keys, 8), **options)
    return maps[0]


@pytest.fixture(params=["plain", "small tiles", "causal"])
def seen(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> LayerMaps:
    if request.param == "small tiles":
        monkeypatch.setattr(kernel_weights, "_ROWS", 16)
        monkeypatch.setattr(kernel_weights, "_COLUMNS", 32)
        monkeypatch.setattr(kernel_weights, "_LARGEST_TILE_ON_CPU", 16 * 32)
    return layer(mask=Causal() if request.param == "causal" else None)


def test_figures_are_those_of_the_whole_map(seen: LayerMaps) -> None:
    dense = torch.stack([one.to_dense() for one in seen])
    assert seen.shape == dense.shape == (4, 70, 90)
    torch.testing.assert_close(dense.sum(-1), torch.ones(4, 70))
    torch.testing.assert_close(seen.column_mass(), dense.sum(1))
    torch.testing.assert_close(seen.entropy(), -torch.special.xlogy(dense, dense).sum(-1))
    apart = (torch.arange(90) - torch.arange(20, 90)[:, None]).abs()  # the last query stands at the last key
    torch.testing.assert_close(seen.distance(), (dense * apart).sum(-1))
    values, columns = seen.topk(5)
    torch.testing.assert_close(values, dense.topk(5).values)
    torch.testing.assert_close(dense.gather(-1, columns), values)


def test_parts_of_one_map(seen: LayerMaps) -> None:
    one = seen[2]
    dense = one.to_dense()
    torch.testing.assert_close(one.row(3), dense[3])
    torch.testing.assert_close(one.row(-1), dense[-1])
    torch.testing.assert_close(one.column(40), dense[:, 40])
    torch.testing.assert_close(one.block(slice(5, 66), slice(31, None)), dense[5:66, 31:])
    assert one.block(slice(9, 3), slice(0, 4)).shape == (0, 4)
    for x in (torch.randn(90), torch.randn(90, 3)):
        torch.testing.assert_close(one @ x, dense @ x)
    for x in (torch.randn(70), torch.randn(70, 3)):
        torch.testing.assert_close(one.T @ x, dense.T @ x)
    torch.testing.assert_close(one.entropy(), seen.entropy()[2])
    torch.testing.assert_close(one.topk(90)[0], dense.sort(descending=True).values)


def test_rows_that_see_one_key_or_none() -> None:
    one = layer(5, 3, mask=Causal())[0]  # the first two queries stand before the first key
    assert one.row(0).tolist() == one.row(1).tolist() == [0, 0, 0] and one.row(2).tolist() == [1, 0, 0]
    assert one.entropy()[:3].tolist() == [0, 0, 0]
    values, columns = one.topk(2)
    assert values[0].tolist() == [0, 0] and values[2].tolist() == [1, 0] and columns[2, 0] == 0


def test_equal_scores_are_the_logarithm_of_their_number() -> None:
    model = Attends()
    with observe(model) as maps:
        model(torch.zeros(1, 1, 4, 8), torch.randn(1, 1, 64, 8))
    assert maps[0][0].entropy().tolist() == pytest.approx([math.log(64)] * 4)


def test_a_large_map_is_not_held_unless_one_says_so() -> None:
    one = layer(50, 60)[0]
    with pytest.raises(ConfigError, match="50 × 60 weights") as caught:
        one.to_dense(most=2999)
    assert caught.value.hint is not None and "to_dense(most=3000)" in caught.value.hint
    assert one.to_dense(most=3000).shape == (50, 60)


def test_mistakes_are_named() -> None:
    maps = layer(6, 7)
    for wrong in (lambda: maps[4], lambda: maps[0].row(6), lambda: maps[0].column(-8)):
        with pytest.raises(IndexError, match="There is no"):
            wrong()
    with pytest.raises(ConfigError, match="k option must be from 1 to the 7 keys"):
        maps[0].topk(8)
    with pytest.raises(ShapeError, match="one row a key: `7 d`"):
        _ = maps[0] @ torch.randn(6)
    with pytest.raises(ConfigError, match="no gradients") as caught:
        maps[0].gradients.row(0)
    assert caught.value.hint is not None and "gradients=True" in caught.value.hint


def test_sequences_of_a_batch_and_their_padding() -> None:
    torch.manual_seed(0)
    model, visible = Attends(), torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    with observe(model) as maps:
        model(torch.randn(2, 2, 6, 4), torch.randn(2, 2, 6, 4), mask=Keys(visible))
    assert maps.n_sequences == 2
    assert maps.sequence(1)[0][0].to_dense()[:, 4:].abs().max() == 0 < maps.sequence(0)[0][0].to_dense()[:, 4:].min()
    with pytest.raises(IndexError, match=r"The batch had 2 sequences\. Use maps\.sequence"):
        maps[0]
    with pytest.raises(IndexError, match="There is no sequence 2"):
        maps.sequence(2)


def test_layers_and_heads_that_are_asked_for() -> None:
    model, x = Attends(3), torch.randn(1, 2, 6, 4)
    with observe(model, layers=[2, 0], heads=[1]) as maps:
        model(x, x)
    assert maps.numbers == (0, 2) and len(maps) == 2 == len(list(maps))
    assert maps[-1].column_mass().shape == (1, 6) and isinstance(maps[2][1], AttentionMap)
    with pytest.raises(IndexError, match="Layer 1 was not observed. Those that were: 0, 2"):
        maps[1]
    assert [one.shape for one in maps[0]] == [(6, 6)]
    with pytest.raises(IndexError, match="Head 0 is not observed. Those that are: 1"):
        maps[0][0]
    with observe(model, heads=[2]), pytest.raises(ConfigError, match="Layer 0 has 2 heads. Got head 2"):
        model(x, x)


def test_the_last_pass_is_told_of_and_only_inside_the_block() -> None:
    model, other, x = Attends(2), Attends(), torch.randn(1, 2, 6, 4)
    with observe(model) as maps:
        with pytest.raises(IndexError, match="Nothing was observed"):
            maps[0]
        model(x, x)
        other(x, x)
        assert len(maps) == 2
        model(x[:, :, :5], x)
    assert maps[0].shape == (2, 5, 6)
    model(x[:, :, :4], x)
    assert maps[0].shape == (2, 5, 6) and not model._forward_hooks and not model._forward_pre_hooks


def test_an_error_in_the_pass_ends_the_watching() -> None:
    model, x = Attends(), torch.randn(1, 2, 6, 4)
    with observe(model) as maps, pytest.raises(ShapeError):
        model(x, x[..., :3])
    attend(x, x, x)
    assert len(maps) == 0


def test_two_may_watch_one_inside_the_other() -> None:
    inner, x = Attends(), torch.randn(1, 2, 6, 4)
    outer = nn.ModuleList([inner, Attends()])
    outer.forward = lambda q, k: outer[1](outer[0](q, k), k)  # pyright: ignore[reportAttributeAccessIssue]
    with observe(outer) as maps, observe(inner) as own:
        outer(x, x)
    assert len(own) == 1 and len(maps) == 1  # who watches the inner one has it alone


def test_a_compiled_model_is_refused() -> None:
    plain = MultiHeadAttention(8, 2)
    for model in (torch.compile(plain, backend="eager"), nn.Sequential(torch.compile(plain, backend="eager"))):
        with pytest.raises(ConfigError, match="compiled model cannot be observed"), observe(model):  # pyright: ignore[reportArgumentType]
            pass
    in_place = MultiHeadAttention(8, 2)
    in_place.compile(backend="eager")
    with pytest.raises(ConfigError, match="compiled model cannot be observed"), observe(in_place):
        pass


def test_a_model_inside_a_compiled_function_is_refused() -> None:
    model = MultiHeadAttention(8, 2)

    def call(x: Tensor) -> Tensor:
        return model(x) + 1

    with observe(model), pytest.raises(Exception, match="compiled model cannot be observed"):
        torch.compile(call, backend="eager", fullgraph=True)(torch.randn(1, 5, 8))


@pytest.mark.parametrize("fast", [False, True], ids=["as trained", "for inference"])
def test_a_classifier_on_its_packed_path(tiny_run: Path, *, fast: bool) -> None:
    artifact = Artifact.load(tiny_run)
    model = for_inference(artifact.model) if fast else artifact.model
    packed = Packed.from_lists(artifact.encode(["the dress was good", "bad"]))
    with torch.inference_mode():
        quiet = model(packed)
        with observe(model) as maps:
            assert torch.equal(model(packed), quiet)
    n_layers = artifact.model.config.encoder.n_layers
    assert len(maps) == n_layers and maps.n_sequences >= 2
    first = maps.sequence(0)
    n = int(packed.lengths[0])
    assert first[0].shape[1:] == (n, n)
    torch.testing.assert_close(first[-1][0].row(0).sum(), torch.tensor(1.0))


def test_the_paths_of_training_and_of_answering_show_the_same(tiny_run: Path) -> None:
    model = load_classifier(tiny_run).eval()
    packed = Packed.from_lists(Artifact.load(tiny_run).encode(["the dress was good and it was not bad"]))
    shown = []
    for one in (model, for_inference(model)):
        with torch.inference_mode(), observe(one) as maps:
            one(packed)
        shown.append(maps)
    for ours, theirs in zip(*shown, strict=True):
        torch.testing.assert_close(ours[0].row(0), theirs[0].row(0), atol=1e-5, rtol=1e-4)


def test_a_notebook_is_shown_a_small_map() -> None:
    maps = layer(100, 130)
    small, dense = maps[1].small(10), maps[1].to_dense()
    wanted = torch.stack([part.mean(0) for part in dense.split(10)])
    torch.testing.assert_close(small, torch.stack([part.sum(1) for part in wanted.split(13, dim=1)], dim=1))
    torch.testing.assert_close(maps[1].small(500), dense)
    drawn = maps[1]._repr_html_()
    assert drawn.startswith("<svg") and "100 queries × 130 keys, head 1" in drawn and drawn.count("<rect") > 20
    assert maps._repr_html_().count("<svg") == 4


def test_what_would_take_long_to_draw_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maps_module, "_DRAWN", 100)
    assert layer(10, 10)._repr_html_() == "<pre>LayerMaps(4 heads, 10 queries × 10 keys)</pre>"
    with observe(Attends()) as maps:
        assert maps._repr_html_() == "<pre>Maps(nothing yet)</pre>"
