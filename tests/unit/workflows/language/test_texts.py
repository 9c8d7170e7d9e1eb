"""Text on its way into a language model: parts, tokens, what is kept, and the figures of a loss."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from huiyan.core.errors import ConfigError, DataError
from huiyan.core.weightless import weightless
from huiyan.text.tokenise import Tokenizer
from huiyan.workflows.language import texts
from huiyan.workflows.language.config import PRESETS, LanguageOptions, LanguageRun, TextConfig, preset
from huiyan.workflows.language.models import fresh_model
from huiyan.workflows.language.score import scored
from huiyan.workflows.language.score_picture import html_picture
from huiyan.workflows.language.texts import figures, open_prepared, prepare, stream_count, unknown_warning


def run_of(folder: Path, text: str, **options: object) -> LanguageRun:
    (folder / "text.txt").write_text(text, encoding="utf-8")
    return LanguageRun(
        texts=(str(folder / "text.txt"),), out=str(folder), text=TextConfig(**{"tokens": "chars"} | options)
    )


def test_the_end_is_held_out_and_nothing_is_lost(tmp_path: Path) -> None:
    text = "".join(f"line {n} 第{n}行\n" for n in range(1000))
    told: list[str] = []
    prepare(run_of(tmp_path, text), tokenizer=None, out=tmp_path, say=told.append)
    prepared = open_prepared(tmp_path)
    spelled = [prepared.tokenizer.decode(part.ids.tolist()) for part in prepared.parts.values()]
    assert "".join(spelled) == text
    assert all(part.endswith("\n") for part in spelled)
    assert len(spelled[1]) == pytest.approx(0.05 * len(text), abs=30)
    assert len(spelled[2]) == pytest.approx(0.05 * len(text), abs=30)
    assert any("characters in 1 file" in line for line in told)
    # A second time nothing is done; with another vocabulary it is.
    told.clear()
    prepare(run_of(tmp_path, text), tokenizer=None, out=tmp_path, say=told.append)
    assert not told
    before = prepared.fingerprint
    prepare(run_of(tmp_path, text, vocab_size=9), tokenizer=None, out=tmp_path, say=told.append)
    assert told and open_prepared(tmp_path).fingerprint != before


def test_parts_may_be_files_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "test.txt").write_text("other words here\n", encoding="utf-8")
    run = run_of(tmp_path, "some words\n" * 100, test=str(tmp_path / "test.txt"), tokens="words")
    prepare(run, tokenizer=None, out=tmp_path, say=lambda _: None)
    parts = open_prepared(tmp_path).parts
    assert parts["test"].counts.characters == 17
    assert parts["test"].counts.unknown == 2  # "words" is known
    assert "50.00%" in unknown_warning("test", parts["test"])
    assert not unknown_warning("train", parts["train"])
    assert parts["train"].counts.characters + parts["validation"].counts.characters == 1100


def test_too_little_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        prepare(run_of(tmp_path, "a"), tokenizer=None, out=tmp_path, say=lambda _: None)


def test_a_part_too_short_to_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, none = tmp_path / "one.txt", tmp_path / "none.txt"
    one.write_text("\n")
    none.write_text("")
    many = "some words\n" * 100
    for name in ("validation", "test"):
        run = run_of(tmp_path, many, **{name: str(one)})
        for _ in range(2):  # what was refused is not taken for prepared
            with pytest.raises(DataError, match=f"The {name} part, of .*one.txt, has 1 token.*at least 2"):
                prepare(run, tokenizer=None, out=tmp_path, say=lambda _: None)
        with pytest.raises(DataError, match="There is no text in .*none.txt"):
            prepare(run_of(tmp_path, many, **{name: str(none)}), tokenizer=None, out=tmp_path, say=lambda _: None)
    with pytest.raises(DataError, match=r"The validation part, of .*text.txt, has 0 tokens"):
        prepare(run_of(tmp_path, "abc"), tokenizer=None, out=tmp_path, say=lambda _: None)
    # What was prepared for fewer processes is looked at again.
    run = run_of(tmp_path, "0\n" * 30)
    prepare(run, tokenizer=None, out=tmp_path, say=lambda _: None)
    monkeypatch.setattr(texts, "process_count", lambda: 3)
    with pytest.raises(DataError, match="The test part.* has 2 tokens, and at least 4 are needed") as caught:
        prepare(run, tokenizer=None, out=tmp_path, say=lambda _: None)
    assert "fewer processes" in (caught.value.hint or "")


def test_hidden_words_are_guessed_in_a_row_for_each_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "one.txt").write_text("\n")
    run = run_of(tmp_path, "some words\n" * 100, test=str(tmp_path / "one.txt"))
    run = replace(run, model=LanguageOptions(objective="mlm", segment_length=16))
    prepare(run, tokenizer=None, out=tmp_path, say=lambda _: None)
    monkeypatch.setattr(texts, "process_count", lambda: 2)
    with pytest.raises(DataError, match="has 1 token, and at least 17 are needed"):
        prepare(run, tokenizer=None, out=tmp_path, say=lambda _: None)


def test_another_encoding_is_another_text(tmp_path: Path) -> None:
    other = tmp_path / "other.txt"
    other.write_bytes("第一行文字。\n".encode() * 50)
    found: list[str] = []
    for encoding, held in ((None, None), ("utf-8", None), ("latin-1", None), ("latin-1", other), ("utf-8", other)):
        run = run_of(tmp_path, "第一行文字。\n" * 500, encoding=encoding, test=str(held) if held else None)
        prepare(run, tokenizer=None, out=tmp_path, say=lambda _: None)
        prepared = open_prepared(tmp_path)
        part = prepared.parts["test"]
        assert prepared.tokenizer.decode(part.ids[:3].tolist()) == ("ç¬¬" if encoding == "latin-1" else "第一行")
        found.append(prepared.fingerprint)
    # The encoding that is recognised is the one that is named.
    assert found[0] == found[1]
    assert len(set(found)) == 4


def test_a_short_text_is_read_in_few_streams() -> None:
    assert [stream_count(n, 128, 8) for n in (1, 4095, 4096, 8 * 16 * 128, 10**9)] == [1, 1, 2, 8, 8]


def test_figures_of_a_loss(tmp_path: Path) -> None:
    prepare(run_of(tmp_path, "一二三四五\n" * 20, tokens="bytes"), tokenizer=None, out=tmp_path, say=lambda _: None)
    part = open_prepared(tmp_path).parts["train"]
    found = figures(10 * math.log(4), 10, part)
    assert found["perplexity"] == pytest.approx(4)
    assert found["bits_per_byte"] == pytest.approx(2)
    assert found["bits_per_character"] == pytest.approx(2 * part.counts.bytes / part.counts.characters)
    assert figures(1e9, 1)["perplexity"] < math.inf


def test_presets_are_the_papers_models() -> None:
    counts = {"enwik8-base": 41_055_436, "wt103-large": 285_170_506, "lm1b-base": 357_812_082}
    sizes = {"enwik8-base": 204, "wt103-large": 267_735, "lm1b-base": 793_471}
    names = LanguageOptions.__dataclass_fields__.keys()
    for name, count in counts.items():
        values = {key: value for key, value in preset(name).items() if key in names}
        options = LanguageOptions.from_dict(values)
        with weightless():
            model = fresh_model(options, sizes[name], seed=0)
        assert sum(parameter.numel() for parameter in model.parameters()) == count
    with pytest.raises(ConfigError, match="enwik8-base"):
        preset("enwik8")
    assert {"tiny", "small"} < PRESETS.keys()


def test_a_score_covers_the_text(tmp_path: Path) -> None:
    text = "a <b> 模型 & more\n"
    prepare(run_of(tmp_path, text * 40, tokens="bytes"), tokenizer=None, out=tmp_path, say=lambda _: None)
    tokenizer = Tokenizer.from_folder(tmp_path / "tokens")
    model = fresh_model(LanguageOptions(layers=1, width=16, heads=2, memory_length=8), 256, seed=0).eval()
    found = scored(model, tokenizer, text)
    assert "".join(found.parts) == text
    assert len(found.parts) == len(text) and found.n_tokens == len(text.encode())
    assert found.bits_per_character == pytest.approx(8 * len(text.encode()) / len(text), rel=0.05)
    assert "&lt;" in html_picture(found) and "<b>" not in html_picture(found)
    with pytest.raises(DataError, match="characters can be scored"):
        scored(model, tokenizer, "")
