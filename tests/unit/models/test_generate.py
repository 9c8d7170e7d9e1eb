"""Writing by itself: what ends a text, what is allowed, seeds, groups of beams, and what is refused."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from huiyan.attention import observe
from huiyan.core.errors import ConfigError, HuiyanError, ShapeError, WeightsError
from huiyan.core.packed import Packed
from huiyan.models.config import LanguageModelConfig, LayerConfig, TransformerConfig
from huiyan.models.generate import generate_tokens, stream_tokens
from huiyan.models.generation_config import GenerationConfig
from huiyan.models.inference import language_model_for_inference
from huiyan.models.language_checkpoint import fresh_language_model
from huiyan.models.language_model import LanguageModel
from huiyan.models.scores import draw_token

PROMPTS = [[3, 4, 5, 6, 7], [8], [9, 10, 11]]
SIZE = 30


def model_of(*, n_positions: int = 40, conditional: bool = False) -> LanguageModel:
    torch.manual_seed(0)
    common: dict[str, Any] = {
        "family": "gpt2",
        "vocab_size": SIZE,
        "width": 16,
        "embedding_width": 16,
        "n_layers": 2,
        "n_layer_groups": 2,
        "n_heads": 2,
        "feed_forward_width": 24,
        "n_positions": n_positions,
        "pad_id": None,
        "layers": (LayerConfig(residual="pre"),) * 2,
        "initializer_range": 0.5,
    }
    decoder = TransformerConfig(causal=True, context_width=16 if conditional else None, **common)
    encoder = TransformerConfig(**common) if conditional else None
    config = LanguageModelConfig(decoder=decoder, encoder=encoder, start_id=1 if conditional else None)
    return fresh_language_model(config, seed=3).eval()


MODEL = model_of()


def write(model: LanguageModel = MODEL, prompts: list[list[int]] = PROMPTS, **options: Any) -> list[list[int]]:
    return [
        texts[0].tokens for texts in generate_tokens(model, prompts, GenerationConfig(**{"max_tokens": 8, **options}))
    ]


def log_probabilities_of(prompt: list[int], tokens: list[int]) -> Tensor:
    """Of each token after a prompt, from the whole text at once."""
    with torch.no_grad():
        logits = MODEL(Packed.from_lists([prompt + tokens]))[len(prompt) - 1 : -1]
    return logits.log_softmax(dim=-1).gather(1, torch.tensor(tokens)[:, None])[:, 0]


@pytest.mark.parametrize("options", [{}, {"sample": True, "top_p": 0.9}, {"n_beams": 3}], ids=str)
def test_log_probabilities_are_those_of_the_whole_text(options: dict[str, Any]) -> None:
    found = generate_tokens(MODEL, PROMPTS, GenerationConfig(max_tokens=6, repetition_penalty=1.2, **options))
    for prompt, (text,) in zip(PROMPTS, found, strict=True):
        wanted = log_probabilities_of(prompt, text.tokens)
        torch.testing.assert_close(torch.tensor(text.log_probabilities), wanted, atol=1e-4, rtol=1e-4)
        assert text.log_probability == pytest.approx(float(wanted.sum()), abs=1e-3)
        assert len(text.tokens) == 6
        assert text.ended == "length"


def test_what_is_written_does_not_depend_on_the_batch() -> None:
    for options in ({}, {"sample": True, "seed": 5}, {"n_beams": 3}):
        together = write(**options)
        first = write(prompts=PROMPTS[:1], **options)
        assert together[0] == first[0]


def test_a_seed_decides_what_is_drawn() -> None:
    drawn = [write(sample=True, seed=seed) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    torch.manual_seed(99)  # torch's own generator has no part in it
    assert write(sample=True, seed=1) == drawn[0]


def test_draws_follow_their_probabilities() -> None:
    probabilities = torch.tensor([0.0, 0.5, 0.2, 0.0, 0.3, 0.0])
    generator = torch.Generator().manual_seed(0)
    drawn = torch.stack([draw_token(probabilities, generator) for _ in range(4000)])
    shares = torch.bincount(drawn, minlength=6) / 4000
    assert shares[probabilities == 0].sum() == 0
    torch.testing.assert_close(shares, probabilities, atol=0.03, rtol=0)


def test_a_low_temperature_and_one_candidate_are_greedy() -> None:
    assert (
        write(sample=True, top_k=1) == write(sample=True, temperature=1e-4) == write(sample=True, min_p=1.0) == write()
    )


def test_texts_end_by_tokens_by_runs_of_tokens_and_by_length() -> None:
    whole = write()
    by_token = generate_tokens(MODEL, PROMPTS, GenerationConfig(max_tokens=8, end_ids=(whole[0][2], whole[2][4])))
    assert by_token[0][0].tokens == whole[0][: whole[0].index(whole[0][2]) + 1]
    assert by_token[0][0].ended == "end"
    run = tuple(whole[1][3:5])
    by_run = generate_tokens(MODEL, PROMPTS, GenerationConfig(max_tokens=8, stop_sequences=(run,)))
    assert by_run[1][0].ended == "stop"
    assert tuple(by_run[1][0].tokens[-2:]) == run
    assert write(max_tokens=3) == [text[:3] for text in whole]


def test_a_text_ends_where_the_positions_do() -> None:
    """And the others go on, though the longest prompt has left the batch."""
    small = model_of(n_positions=8)
    found = generate_tokens(small, PROMPTS, GenerationConfig(max_tokens=20))
    assert [len(text.tokens) for (text,) in found] == [3, 7, 5]
    assert {text.ended for (text,) in found} == {"length"}
    for prompt, (text,) in zip(PROMPTS, found, strict=True):
        assert generate_tokens(small, [prompt], GenerationConfig(max_tokens=20))[0][0].tokens == text.tokens


@pytest.mark.parametrize("options", [{}, {"sample": True}, {"n_beams": 3}, {"n_beams": 4, "n_groups": 2}], ids=str)
def test_only_what_is_allowed_is_written(options: dict[str, Any]) -> None:
    """First an even token, then the one after it, then an end."""

    def allowed(text: int, written: list[int]) -> list[int] | None:
        assert text in (0, 1, 2)
        return {0: [*range(2, SIZE, 2)], 1: [written[-1] + 1] if written else []}.get(len(written), [0])

    config = GenerationConfig(max_tokens=8, end_ids=(0,), **options)
    for texts in generate_tokens(MODEL, PROMPTS, config, allowed=allowed):
        first, second, end = texts[0].tokens
        assert (first % 2, second, end) == (0, first + 1, 0)
        assert texts[0].ended == "end"


def test_tokens_come_as_they_are_written() -> None:
    stream = stream_tokens(MODEL, PROMPTS, GenerationConfig(max_tokens=8))
    first = [next(stream) for _ in range(3)]
    assert [token.text for token in first] == [0, 1, 2]
    assert [token.token for token in first] == [text[0] for text in write()]
    assert not torch.is_inference_mode_enabled()
    assert sum(token.ended == "length" for token in stream) == 3


def test_groups_of_one_beam_are_greedy_and_pay_for_what_others_took() -> None:
    """The definition, written out: Vijayakumar et al. 2018, algorithm 1, with the Hamming distance."""
    n, strength = 3, 4.0
    config = GenerationConfig(n_beams=n, n_groups=n, n_best=n, diversity=strength, max_tokens=5)
    found = generate_tokens(MODEL, PROMPTS[:1], config)[0]
    texts: list[list[int]] = [[] for _ in range(n)]
    for _ in range(5):
        taken: list[int] = []
        for text in texts:
            with torch.no_grad():
                scores = MODEL(Packed.from_lists([PROMPTS[0] + text]))[-1].log_softmax(dim=-1)
            for token in taken:
                scores[token] -= strength
            text.append(int(scores.argmax()))
            taken.append(text[-1])
    assert sorted(text.tokens for text in found) == sorted(texts)
    assert len({tuple(text.tokens) for text in found}) == n
    same = generate_tokens(MODEL, PROMPTS[:1], GenerationConfig(n_beams=4, n_groups=2, n_best=4, max_tokens=5))[0]
    assert same[0].tokens == same[1].tokens  # without a price, groups find the same


def test_a_wide_search_finds_the_likeliest_text_there_is() -> None:
    config = GenerationConfig(n_beams=SIZE**2, max_tokens=2, length_penalty=0.0)
    best = generate_tokens(MODEL, [[3, 4]], config)[0][0]
    with torch.no_grad():
        logits = MODEL(Packed.from_lists([[3, 4, token] for token in range(SIZE)]), only_last=True).log_softmax(dim=-1)
        first = MODEL(Packed.from_lists([[3, 4]]), only_last=True).log_softmax(dim=-1)
    both = first.T + logits
    assert best.log_probability == pytest.approx(float(both.max()), abs=1e-4)


def test_a_text_from_a_source_begins_as_it_is_told() -> None:
    model = model_of(conditional=True)
    found = generate_tokens(model, PROMPTS, GenerationConfig(max_tokens=4), begin=[[1, 6], [1], [1, 2, 3]])
    for source, begin, (text,) in zip(PROMPTS, [[1, 6], [1], [1, 2, 3]], found, strict=True):
        with torch.no_grad():
            for at in range(4):
                so_far = Packed.from_lists([begin + text.tokens[:at]])
                assert int(model(so_far, source=Packed.from_lists([source]))[-1].argmax()) == text.tokens[at]


def test_nothing_is_written_after_nothing() -> None:
    assert generate_tokens(MODEL, []) == generate_tokens(MODEL, [], GenerationConfig(n_beams=2)) == []


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: write(prompts=[[1], []]), ShapeError, "Number 1 has none"),
        (lambda: write(prompts=[[1, SIZE]]), ShapeError, "from 0 to 29. Number 0 has 1 to 30"),
        (lambda: write(prompts=[[1] * 40]), ShapeError, "leaves no room in the 40 positions"),
        (lambda: write(model_of().train()), ConfigError, "evaluation mode"),
        (lambda: generate_tokens(MODEL, PROMPTS, begin=PROMPTS), ShapeError, "without an encoder"),
        (lambda: generate_tokens(model_of(conditional=True), PROMPTS, begin=[[1]]), ShapeError, "one beginning"),
        (lambda: generate_tokens(MODEL, PROMPTS, allowed=lambda _, __: []), ConfigError, "Nothing is allowed"),
        (lambda: generate_tokens(MODEL, PROMPTS, allowed=lambda _, __: [99]), ConfigError, "from 0 to 29"),
        (
            lambda: stream_tokens(MODEL, PROMPTS, GenerationConfig(n_beams=2)),
            ConfigError,
            "1 where tokens are streamed",
        ),
        (lambda: GenerationConfig(n_beams=2, n_best=3), ConfigError, "at most n_beams"),
        (lambda: GenerationConfig(n_beams=4, n_groups=3), ConfigError, "a divisor of n_beams"),
        (lambda: GenerationConfig(temperature=0), ConfigError, "sample=False"),
        (lambda: GenerationConfig(sample=True, n_beams=2), ConfigError, "False with beams"),
        (lambda: GenerationConfig(stop_sequences=((),)), ConfigError, "at least one token"),
    ],
)
def test_what_cannot_be_is_refused(call: Callable[[], object], error: type[HuiyanError], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_what_is_watched_while_writing_is_the_last_step() -> None:
    for model in (MODEL, language_model_for_inference(MODEL)):
        with observe(model) as maps:
            ((written,),) = generate_tokens(model, PROMPTS[:1], GenerationConfig(max_tokens=5))
        with torch.no_grad(), observe(MODEL) as whole:
            MODEL(Packed.from_lists([PROMPTS[0] + written.tokens[:-1]]))
        assert len(maps) == len(whole) == 2
        for layer in (0, 1):
            one, other = maps[layer][1], whole[layer][1]
            assert one.shape == (1, len(PROMPTS[0]) + 4)
            torch.testing.assert_close(one.to_dense()[0], other.to_dense()[-1])


def test_another_rule_may_end_a_text() -> None:
    def stop(text: int, tokens: list[int]) -> bool:
        return len(tokens) == 2 + text

    assert [len(tokens) for tokens in write()] == [8, 8, 8]
    found = generate_tokens(MODEL, PROMPTS, GenerationConfig(max_tokens=8), stop=stop)
    assert [(len(texts[0].tokens), texts[0].ended) for texts in found] == [(2, "stop"), (3, "stop"), (4, "stop")]
    searched = generate_tokens(MODEL, PROMPTS, GenerationConfig(max_tokens=8, n_beams=3, n_best=3), stop=stop)
    assert [{len(one.tokens) for one in texts} for texts in searched] == [{2}, {3}, {4}]


def test_parts_of_many_prompts_are_drawn_as_all_at_once() -> None:
    config = GenerationConfig(max_tokens=6, sample=True, seed=5)
    whole = [texts[0].tokens for texts in generate_tokens(MODEL, PROMPTS, config)]
    parts = generate_tokens(MODEL, PROMPTS[:2], config) + generate_tokens(MODEL, PROMPTS[2:], config, first_number=2)
    assert [texts[0].tokens for texts in parts] == whole


@pytest.mark.parametrize("options", [{}, {"sample": True}, {"n_beams": 2}], ids=str)
def test_where_no_token_is_left_or_no_score_a_number_it_is_told(options: dict[str, Any]) -> None:
    model = model_of()
    size = model.config.decoder.vocab_size
    none_left = GenerationConfig(forbidden_ids=tuple(range(size)), **options)
    with pytest.raises(ConfigError, match="leave no token"):
        generate_tokens(model, [[1]], none_left)
    ends = GenerationConfig(min_tokens=3, end_ids=(7,), **options)
    with pytest.raises(ConfigError, match="leave no token"):
        generate_tokens(model, [[1]], ends, allowed=lambda _number, _written: [7])
    beyond = GenerationConfig(forbidden_ids=(size + 9, -1), max_tokens=2, **options)
    assert generate_tokens(model, [[1]], beyond)  # what cannot come anyway
    with torch.no_grad():
        model.decoder.embeddings.words.weight[3] = float("nan")
    with pytest.raises(WeightsError, match="not numbers"):
        generate_tokens(model, [[3]], GenerationConfig(max_tokens=2, **options))
