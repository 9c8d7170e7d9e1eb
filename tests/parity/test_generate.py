"""The same tokens as `transformers`, for every family that writes; and what is drawn from is the same."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tests.parity.language_twins import TINY, Twins, twins_in
from torch import Tensor
from transformers.generation.logits_process import MinPLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from huiyan.models.generate import generate_tokens
from huiyan.models.generation_config import GenerationConfig, read_generation_config
from huiyan.models.scores import drawn_from

END = 5
WAYS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "greedy": ({}, {}),
    "greedy under rules": (
        {"repetition_penalty": 1.3, "no_repeat_ngram": 2, "min_tokens": 4, "forbidden_ids": (7,)},
        {"repetition_penalty": 1.3, "no_repeat_ngram_size": 2, "min_new_tokens": 4, "bad_words_ids": [[7]]},
    ),
    "four beams, two texts": ({"n_beams": 4, "n_best": 2}, {"num_beams": 4, "num_return_sequences": 2}),
    "the first that end": (
        {"n_beams": 3, "early_stopping": True, "length_penalty": 2.0, "first_id": 9, "last_id": END},
        {
            "num_beams": 3,
            "early_stopping": True,
            "length_penalty": 2.0,
            "forced_bos_token_id": 9,
            "forced_eos_token_id": END,
        },
    ),
    "until none can be better": (
        {"n_beams": 3, "early_stopping": "never", "length_penalty": 0.5, "no_repeat_ngram": 2},
        {"num_beams": 3, "early_stopping": "never", "length_penalty": 0.5, "no_repeat_ngram_size": 2},
    ),
}


def their_texts(twins: Twins, prompt: Tensor, **options: Any) -> list[list[int]]:
    """What `transformers` writes after one prompt, up to the end token."""
    options = {"max_new_tokens": 12, "eos_token_id": END, "pad_token_id": 1, "do_sample": False, **options}
    with torch.no_grad():
        found = twins.theirs.generate(prompt[None], attention_mask=torch.ones_like(prompt)[None], **options)
    texts = [row[1 if twins.conditional else len(prompt) :].tolist() for row in found]
    return [text[: text.index(END) + 1] if END in text else text for text in texts]


@pytest.mark.parametrize("name", TINY)
def test_the_texts_are_theirs(name: str, tmp_path: Path) -> None:
    """Ours in one batch of prompts of different lengths, theirs one by one."""
    # Their cache has as many layers as T5's encoder, whatever its decoder has.
    more = {"num_decoder_layers": 2} if "t5" in name else {}
    twins = twins_in(tmp_path, name, eos_token_id=END, bos_token_id=4, **more)
    twins.theirs.eval()
    start = twins.ours.config.start_id
    twins.theirs.generation_config = transformers.GenerationConfig(bos_token_id=4, decoder_start_token_id=start)
    prompts = (twins.sources if twins.conditional else twins.texts)[:5]
    for way, (ours, theirs) in WAYS.items():
        if not twins.conditional:  # theirs counts the prompt, and would force the first token of it alone
            theirs = {key: value for key, value in theirs.items() if key != "forced_bos_token_id"}
            ours = {key: value for key, value in ours.items() if key != "first_id"}
        found = generate_tokens(
            twins.ours, [prompt.tolist() for prompt in prompts], GenerationConfig(max_tokens=12, end_ids=(END,), **ours)
        )
        for prompt, texts in zip(prompts, found, strict=True):
            assert [text.tokens for text in texts] == their_texts(twins, prompt, **theirs), way


@pytest.mark.parametrize(
    "cuts", [{"top_k": 5}, {"top_p": 0.7}, {"min_p": 0.1}, {"top_k": 20, "top_p": 0.9, "min_p": 0.02}], ids=str
)
def test_tokens_are_drawn_from_the_same(cuts: dict[str, Any]) -> None:
    torch.manual_seed(0)
    scores = torch.randn(6, 50) * 3
    expected = scores / 0.8
    for name, cut in (("top_k", TopKLogitsWarper), ("top_p", TopPLogitsWarper), ("min_p", MinPLogitsWarper)):
        if name in cuts:
            expected = cut(cuts[name])(torch.zeros(6, 1, dtype=torch.long), expected)
    found = drawn_from(scores, GenerationConfig(sample=True, temperature=0.8, **cuts))
    torch.testing.assert_close(found, expected.softmax(dim=-1), atol=1e-6, rtol=1e-6)


def test_their_generation_config_is_read(tmp_path: Path) -> None:
    twins_in(tmp_path, "bart")
    theirs = transformers.GenerationConfig(
        num_beams=4,
        length_penalty=2.0,
        no_repeat_ngram_size=3,
        early_stopping=True,
        forced_bos_token_id=0,
        forced_eos_token_id=2,
        eos_token_id=[2, 3],
        bad_words_ids=[[1], [4, 5]],
        max_new_tokens=142,
    )
    theirs.save_pretrained(tmp_path)
    assert read_generation_config(tmp_path, n_best=2) == GenerationConfig(
        n_beams=4,
        n_best=2,
        length_penalty=2.0,
        no_repeat_ngram=3,
        early_stopping=True,
        first_id=0,
        last_id=2,
        end_ids=(2, 3),
        forbidden_ids=(1,),
        max_tokens=142,
    )
