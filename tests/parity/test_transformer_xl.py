"""Transformer-XL against the published code: its losses to 1e-9, its parameters to the last one."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from huiyan.attention import observe
from huiyan.core.errors import ConfigError, ShapeError
from huiyan.models.adaptive import AdaptiveEmbedding, AdaptiveSoftmax
from huiyan.models.segment_config import PUBLISHED, TransformerXLConfig
from huiyan.models.transformer_xl import TransformerXL, XLMemory

GOLDEN = {
    "default": (2.349153715952, 2.476687704780, 2.374384288152),
    "same_length": (2.349153715952, 2.476691810988, 2.374370367408),
    "clamp_length": (2.349153715952, 2.476687638717, 2.374384532146),
    "no memory": (2.349153715952, 2.476637130980, 2.374478203627),
    "pre": (2.398310186557, 2.405243822671, 2.403285246131),
}
MODES: dict[str, dict[str, object]] = {
    "default": {},
    "same_length": {"same_length": True},
    "clamp_length": {"clamp_length": 3},
    "no memory": {"memory_length": 0},
    "pre": {"residual": "pre"},
}
COUNTS = {
    "enwik8-base": 41_055_436,
    "enwik8-large": 277_231_820,
    "text8-base": 40_964_635,
    "text8-large": 277_050_395,
    "wt103-base": 151_107_538,
    "wt103-large": 285_170_506,
    "lm1b-base": 357_812_082,
    "lm1b-large": 841_295_982,
}
TINY = TransformerXLConfig(
    vocab_size=11, n_layers=2, width=8, n_heads=2, head_width=4, feed_forward_width=16, memory_length=6
)


def set_by_rule(model: TransformerXL) -> None:
    """Element i of every tensor of the published code becomes 0.05 · sin(i), gains 1 more."""

    def waves(*shape: int) -> Tensor:
        n = int(torch.tensor(shape).prod())
        return 0.05 * torch.arange(1, n + 1, dtype=torch.float64).sin().view(shape)

    assert model.biases is not None
    values: list[tuple[nn.Parameter, Tensor]] = [
        (model.biases.u, waves(2, 4)),
        (model.biases.w, waves(2, 4)),
        (model.embeddings.tables[0].weight, waves(11, 8)),
        (model.output.biases[0], waves(11)),
    ]
    for layer in model.layers():
        own, network = layer.attention, layer.feed_forward
        projections = waves(24, 8).chunk(3)
        values += zip((own.query.weight, own.key.weight, own.value.weight), projections, strict=True)
        values += [(own.position.key.weight, waves(8, 8)), (own.out.weight, waves(8, 8))]
        values += [(network.inner.weight, waves(16, 8)), (network.inner.bias, waves(16))]
        values += [(network.outer.weight, waves(8, 16)), (network.outer.bias, waves(8))]
        for norm in (layer.attention_norm, layer.feed_forward_norm):
            values += [(norm.weight, waves(8) + 1), (norm.bias, waves(8))]
    assert {id(parameter) for parameter, _ in values} == {id(parameter) for parameter in model.parameters()}
    with torch.no_grad():
        for parameter, value in values:
            parameter.copy_(value)


def golden_model(**changes: object) -> TransformerXL:
    model = TransformerXL(replace(TINY, **changes)).double().eval()
    set_by_rule(model)
    return model


def stream() -> Tensor:
    t, b = torch.arange(13)[None], torch.arange(2)[:, None]
    return (3 * t**2 + 5 * b + t) % 11


@pytest.mark.parametrize("mode", GOLDEN)
def test_golden_losses_are_the_published_codes(mode: str) -> None:
    model, data, memory = golden_model(**MODES[mode]), stream(), None
    with torch.no_grad():
        for segment, expected in enumerate(GOLDEN[mode]):
            first = 4 * segment
            losses, memory = model.loss(data[:, first : first + 4], data[:, first + 1 : first + 5], memory)
            assert float(losses.mean()) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("name", COUNTS)
def test_parameter_count_is_the_published_codes(name: str) -> None:
    with torch.device("meta"):
        model = TransformerXL(PUBLISHED[name])
    assert sum(parameter.numel() for parameter in model.parameters()) == COUNTS[name]


@pytest.mark.parametrize("changes", [{}, {"residual": "pre"}, {"untied_biases": True}, {"clamp_length": 5}], ids=str)
def test_with_all_of_the_past_segments_are_one_pass(changes: dict[str, object]) -> None:
    torch.manual_seed(0)
    model = TransformerXL(replace(TINY, memory_length=12, **changes)).double().eval()
    data = stream()
    with torch.no_grad():
        whole, _ = model(data[:, :12])
        memory, parts = None, []
        for first, last in ((0, 3), (3, 8), (8, 12)):
            rows, memory = model(data[:, first:last], memory)
            parts.append(rows)
    torch.testing.assert_close(torch.cat(parts, 1), whole, atol=1e-12, rtol=1e-12)


def test_same_length_gives_every_token_as_many() -> None:
    model = golden_model(same_length=True)
    data, memory, seen = stream(), None, []
    for first in (0, 4, 8):
        with torch.no_grad(), observe(model) as maps:
            _, memory = model(data[:, first : first + 4], memory)
        seen.append((maps.sequence(0)[0][0].to_dense() > 0).sum(-1).tolist())
    assert seen == [[1, 2, 3, 4], [5, 6, 6, 6], [6, 6, 6, 6]]


def test_kept_keys_and_values_change_nothing() -> None:
    """Token by token and in pieces; the memory of states is the definition."""
    model = golden_model(same_length=True)
    data, memory, expected = stream(), None, []
    with torch.no_grad():
        for first in (0, 4, 8):
            rows, memory = model(data[:, first : first + 4], memory)
            expected.append(rows)
        for sizes in ([1] * 12, [5, 1, 6], [12]):
            caches = model.fresh_caches()
            found = [model.go_on(part, caches) for part in data[:, :12].split(sizes, dim=1)]
            torch.testing.assert_close(torch.cat(found, 1), torch.cat(expected, 1), atol=1e-12, rtol=1e-12)
    with pytest.raises(ConfigError, match="same_length"):
        golden_model().fresh_caches()
    with pytest.raises(ConfigError, match="evaluation"):
        model.train().go_on(data, [])


def test_another_memory_at_evaluation_is_the_same_weights() -> None:
    model = golden_model()
    other = model.with_other(memory_length=3, same_length=True, clamp_length=2)
    fresh = golden_model(memory_length=3, same_length=True, clamp_length=2)
    data = stream()
    with torch.no_grad():
        for one, two in ((other, fresh), (model.with_other(), model)):
            memory, again = None, None
            for first in (0, 4):
                losses, memory = one.loss(data[:, first : first + 4], data[:, first + 1 : first + 5], memory)
                wanted, again = two.loss(data[:, first : first + 4], data[:, first + 1 : first + 5], again)
                assert torch.equal(losses, wanted)
    assert other.embeddings.tables[0].weight is model.embeddings.tables[0].weight
    assert other.output.words[0] is other.embeddings.tables[0].weight


def test_recomputing_layers_gives_the_same_gradients() -> None:
    torch.manual_seed(0)
    data, found = stream(), []
    for checkpointed in (False, True):
        model = golden_model().train()
        model.checkpointed = checkpointed
        _, memory = model(data[:, :4])
        losses, _ = model.loss(data[:, 4:8], data[:, 5:9], memory)
        losses.mean().backward()
        found.append([parameter.grad for parameter in model.parameters()])
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(one, two)


def test_no_gradient_passes_into_the_memory_and_some_into_its_keys() -> None:
    model = golden_model()
    data = stream()
    _, memory = model(data[:, :4])
    assert not any(states.requires_grad for states in memory.states)
    states = XLMemory(tuple(one.clone().requires_grad_() for one in memory.states))
    losses, after = model.loss(data[:, 4:8], data[:, 5:9], states)
    losses.sum().backward()
    assert all(one.grad is not None for one in states.states)
    assert after.length == 6


CASES = {
    "one width": {"embedding_width": None, "div_value": 1, "tied_projections": False},
    "narrower rows": {"embedding_width": 6, "div_value": 1, "tied_projections": (False, True, True, True)},
    "narrower clusters": {"embedding_width": 8, "div_value": 2, "tied_projections": (False, True, True, True)},
    "nothing tied": {"embedding_width": 8, "div_value": 2, "tied_projections": False, "tied_words": False},
    "everything tied": {"embedding_width": 8, "div_value": 2, "tied_projections": True},
}


@pytest.mark.parametrize("name", CASES)
def test_adaptive_probabilities_sum_to_one_and_are_the_loss(name: str) -> None:
    torch.manual_seed(0)
    config = replace(TINY, vocab_size=40, cutoffs=(10, 20, 35), **CASES[name])
    model = TransformerXL(config).double().eval()
    tokens = torch.arange(40).view(4, 10)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
        rows, _ = model(tokens)
        every = model.output.log_probabilities(rows.flatten(0, 1))
        losses, _ = model.loss(tokens, tokens.flip(0))
    torch.testing.assert_close(every.exp().sum(-1), torch.ones(40, dtype=torch.float64))
    torch.testing.assert_close(losses.flatten(), -every.gather(1, tokens.flip(0).flatten()[:, None])[:, 0])
    tied = config.tied_words
    assert (model.output.words[0] is model.embeddings.tables[0].weight) == tied
    widths = [table.embedding_dim for table in model.embeddings.tables]
    assert widths == ([8] if name == "one width" else [6] if name == "narrower rows" else [8, 4, 2, 1])


def test_a_clusters_column_is_counted_from_the_end() -> None:
    """So does the published code: the first cluster has the last column of the head."""
    torch.manual_seed(0)
    embedding = AdaptiveEmbedding(9, 4, cutoffs=(3, 6))
    softmax = AdaptiveSoftmax(embedding)
    rows = torch.randn(2, 4)
    assert softmax.cluster_weight is not None
    with torch.no_grad():
        softmax.cluster_weight.copy_(torch.randn(2, 4))
        head = rows @ torch.cat((embedding.tables[0].weight[:3], softmax.cluster_weight)).T
        near = head.log_softmax(-1)
        every = softmax.log_probabilities(rows)
    torch.testing.assert_close(every[:, 3:6].exp().sum(-1), near[:, 4].exp())
    torch.testing.assert_close(every[:, 6:].exp().sum(-1), near[:, 3].exp())


def test_what_cannot_be_is_told() -> None:
    with pytest.raises(ConfigError, match="cutoffs"):
        TransformerXL(replace(TINY, cutoffs=(5, 3)))
    with pytest.raises(ConfigError, match="tied_projections"):
        TransformerXL(replace(TINY, cutoffs=(5,), tied_projections=(True,)))
    with pytest.raises(ConfigError, match="memory_length"):
        replace(TINY, memory_length=0, same_length=True)
    model = golden_model()
    _, memory = model(stream()[:, :4])
    with pytest.raises(ShapeError, match="streams"):
        model(stream()[:1, :4], memory)
    with pytest.raises(ShapeError, match="at least one token"):
        model(stream()[:, :0])


@pytest.mark.parametrize("changes", [{}, {"same_length": True}, {"memory_length": 3}], ids=str)
def test_streams_of_different_lengths_are_what_each_is_alone(changes: dict[str, object]) -> None:
    model = golden_model(**changes)
    generator = torch.Generator().manual_seed(1)
    streams = [torch.randint(11, (n,), generator=generator) for n in (13, 1, 6, 4)]
    together: list[list[Tensor]] = [[] for _ in streams]
    memory = None
    for start in range(0, 12, 4):
        left = [stream[start : start + 5] for stream in streams]
        lengths = torch.tensor([max(0, len(part) - 1) for part in left])
        tokens, targets = torch.zeros(2, 4, 4, dtype=torch.int64)
        for row, part in enumerate(left):
            n = max(0, len(part) - 1)
            tokens[row, :n], targets[row, :n] = part[:n], part[1 : n + 1]
        losses, memory = model.loss(tokens, targets, memory, lengths=lengths)
        for row, n in enumerate(lengths.tolist()):
            assert not losses[row, n:].any()
            together[row].append(losses[row, :n])
    for stream_, found in zip(streams, together, strict=True):
        alone, memory = list[Tensor](), None
        for start in range(0, len(stream_) - 1, 4):
            part = stream_[None, start : start + 5]
            losses, memory = model.loss(part[:, :-1], part[:, 1:], memory)
            alone.append(losses[0])
        torch.testing.assert_close(torch.cat(found), torch.cat([*alone, torch.zeros(0).double()]), rtol=0, atol=1e-12)


def test_mixed_precision_trains_and_stays_near() -> None:
    torch.manual_seed(0)
    model = TransformerXL(replace(TINY, width=16, head_width=8, cutoffs=(4, 8), div_value=2))
    tokens = stream()
    with torch.autocast("cpu", torch.bfloat16):
        _, memory = model.loss(tokens[:, :6], tokens[:, 1:7])
        half, memory = model.loss(tokens[:, 6:12], tokens[:, 7:13], memory)
        half.mean().backward()
    _, memory = model.loss(tokens[:, :6], tokens[:, 1:7])
    whole, _ = model.loss(tokens[:, 6:12], tokens[:, 7:13], memory)
    torch.testing.assert_close(half.float(), whole, rtol=0.02, atol=0.02)
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_a_compiled_model_gives_the_same() -> None:
    torch.manual_seed(0)
    model = TransformerXL(replace(TINY, width=16, head_width=8, cutoffs=(4, 8), div_value=2))
    tokens = stream()
    results: list[tuple[Tensor, Tensor]] = []
    for run in (model, torch.compile(model, backend="aot_eager")):
        model.zero_grad()
        memory = None
        for start in (0, 4, 8):
            rows, memory = run(tokens[:, start : start + 4], memory)
        rows.square().mean().backward()
        gradient = model.layers()[0].attention.query.weight.grad
        assert gradient is not None
        results.append((rows.detach(), gradient.clone()))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
