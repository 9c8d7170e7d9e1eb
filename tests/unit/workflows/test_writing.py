"""Text in, text out, with real files of every part: weights, config, pieces."""

from pathlib import Path

import pytest
import torch
import transformers
from tests.pieces import CHINESE, train_pieces

from huiyan.core.errors import ConfigError, ShapeError
from huiyan.workflows.writing import TextWriter

SMALL = {"vocab_size": 800, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A decoder whose tokens may be single bytes."""
    folder = tmp_path_factory.mktemp("llama")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(**SMALL, intermediate_size=48, max_position_embeddings=96)
    model = transformers.LlamaForCausalLM(config)
    with torch.no_grad():
        model.lm_head.weight.mul_(20)  # so that the likeliest token is not always the same
    model.save_pretrained(folder)
    train_pieces(
        folder / "tokenizer.model",
        CHINESE,
        vocab_size=800,
        model_type="bpe",
        byte_fallback=True,
        unk_id=0,
        bos_id=1,
        eos_id=2,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
    )
    return folder


@pytest.fixture(scope="module")
def t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("t5")
    torch.manual_seed(0)
    config = transformers.T5Config(
        vocab_size=800, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, decoder_start_token_id=0
    )
    transformers.T5ForConditionalGeneration(config).save_pretrained(folder)
    train_pieces(folder / "spiece.model", CHINESE, vocab_size=500, pad_id=0, eos_id=1, unk_id=2, bos_id=-1)
    return folder


def test_the_pieces_of_a_stream_are_the_text(llama: Path) -> None:
    writer = TextWriter.load(llama, device="cpu")
    for prompt in ("慧眼是一个工具", "train a model", "a"):
        for options in ({}, {"sample": True, "temperature": 2.0, "seed": 3}):
            ((whole,),) = writer.write([prompt], max_tokens=40, **options)
            told = list(writer.stream(prompt, max_tokens=40, **options))
            assert "".join(told) == whole.text
            assert len(told) > 5
            assert whole.tokens == 40 or whole.ended == "end"


def test_a_prompt_and_what_follows_are_one_text(llama: Path) -> None:
    writer = TextWriter.load(llama, device="cpu")
    ids = writer.tokenizer.encode_batch(["train a model"], max_length=99)[0]
    theirs = transformers.LlamaForCausalLM.from_pretrained(llama).eval()
    written = theirs.generate(torch.tensor([ids]), max_new_tokens=20, do_sample=False, pad_token_id=0)[0].tolist()
    ((own,),) = writer.write(["train a model"], max_tokens=20)
    assert "train a model" + own.text == writer.tokenizer.decode(written)


def test_a_stop_ends_a_text_and_is_not_in_it(llama: Path) -> None:
    writer = TextWriter.load(llama, device="cpu")
    ((whole,),) = writer.write(["train a model"], max_tokens=30)
    stop = whole.text[len(whole.text) // 2 :][:3]
    cut = whole.text.index(stop)
    for options in ({}, {"n_beams": 1}):
        ((own,),) = writer.write(["train a model"], max_tokens=30, stops=[stop, "never written 从不"], **options)
        assert (own.text, own.ended) == (whole.text[:cut], "stop")
        assert own.tokens < whole.tokens
    assert "".join(writer.stream("train a model", max_tokens=30, stops=[stop])) == whole.text[:cut]
    searched = writer.write(["train a model"], max_tokens=30, n_beams=3, n_best=3, stops=[stop])[0]
    assert all(stop not in one.text for one in searched)


def test_what_is_drawn_does_not_depend_on_the_batch(llama: Path) -> None:
    writer = TextWriter.load(llama, device="cpu", sample=True, temperature=1.5, seed=1)
    prompts = ["one", "two words", "第三", "a fourth one"]
    texts = [own[0].text for own in writer.write(prompts, max_tokens=12)]
    assert texts == [own[0].text for own in writer.write(prompts, max_tokens=12, batch_size=3)]
    assert len(set(texts)) == 4
    assert texts != [own[0].text for own in writer.write(prompts, max_tokens=12, seed=2)]


def test_a_source_is_read_and_a_text_written(t5: Path) -> None:
    writer = TextWriter.load(t5, device="cpu")
    assert writer.config.end_ids == (1,)
    theirs = transformers.T5ForConditionalGeneration.from_pretrained(t5).eval()
    for beams in (1, 3):
        options = {"num_beams": beams, "max_new_tokens": 12, "do_sample": False}
        for source, (own,) in zip(
            ["训练一个模型", "how to train"],
            writer.write(["训练一个模型", "how to train"], n_beams=beams, max_tokens=12),
            strict=True,
        ):
            ids = torch.tensor(writer.tokenizer.encode_batch([source], max_length=99))
            assert own.text == writer.tokenizer.decode(theirs.generate(ids, **options)[0].tolist())
            assert own.log_probability < 0


def test_bf16_writes_too(t5: Path, llama: Path) -> None:
    for folder in (t5, llama):
        assert TextWriter.load(folder, device="cpu", precision="bf16").write(["训练 a model"], max_tokens=8)[0]


def test_what_cannot_be_is_told(llama: Path) -> None:
    writer = TextWriter.load(llama, device="cpu")
    with pytest.raises(ConfigError, match="max_length_of_all"):
        writer.write(["a"], max_length_of_all=3)
    with pytest.raises(ConfigError, match="stops"):
        writer.write(["a"], stops="ab")
    with pytest.raises(ConfigError, match="n_beams"):
        next(writer.stream("a", n_beams=2))
    with pytest.raises(ShapeError, match="leaves no room"):
        writer.write(["word " * 200])


def test_half_a_character_is_waited_for(llama: Path) -> None:
    writer = TextWriter.load(llama, device="cpu")
    tokens = writer.tokenizer.encode_batch(["😀好"], max_length=99)[0][2:]
    begun = [writer._text([1], tokens[:n]) for n in range(1, len(tokens) + 1)]
    assert begun[-1] == "😀好"
    assert begun[0].endswith("\ufffd")


def test_an_empty_text_begins_with_the_token_that_begins_texts(llama: Path) -> None:
    writer = TextWriter.load(llama, max_tokens=3)
    (empty,), (other,) = writer.write(["", "a"])
    assert empty.tokens and other.tokens
    with pytest.raises(ConfigError, match="prompts option must be a sequence of texts"):
        writer.write("one text")
