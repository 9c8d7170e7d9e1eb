"""The real MiniLM: packed here, one text at a time in `transformers`; the same tokens, the same numbers."""

import random
from pathlib import Path

import pytest
import torch
import transformers

from huiyan.core.packed import Packed
from huiyan.models.checkpoint import build_classifier, load_classifier, save_classifier
from huiyan.text.tokenise import Tokenizer

REVIEWS = [
    "Love it!",
    "The fabric is thin, the seams came apart after one wash, and the colour is nothing like the picture.",
    "ok",
    "",
    "I bought this in two sizes because the reviews disagreed. The smaller one fits, the larger one is a tent. " * 12,
    "质量很好，物流也快，会再买。",
    "Runs small 😞 but soft — 10/10 would buy again… maybe?",
    "ok",
]


@pytest.fixture(scope="module")
def packed(minilm_folder: Path) -> Packed:
    ids = Tokenizer.from_folder(minilm_folder).encode_batch(REVIEWS, max_length=256)
    assert {len(sequence) for sequence in ids} >= {2, 3, 256}
    return Packed.from_lists(ids)


def test_hidden_states_are_theirs(minilm_folder: Path, packed: Packed) -> None:
    theirs = transformers.AutoModel.from_pretrained(minilm_folder).eval()
    ours = build_classifier(minilm_folder, n_classes=2, seed=0).eval()
    with torch.no_grad():
        texts = packed.tokens.split(packed.lengths.tolist())
        expected = torch.cat([theirs(text[None]).last_hidden_state[0] for text in texts])
        difference = (ours.encoder(packed) - expected).abs().max()
    assert difference <= 2e-5


def test_logits_are_theirs_from_our_folder(minilm_folder: Path, packed: Packed, tmp_path: Path) -> None:
    ours = build_classifier(minilm_folder, n_classes=3, seed=0).eval()
    save_classifier(ours, tmp_path, class_names=["a", "b", "c"])
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        logits = ours(packed)
        texts = packed.tokens.split(packed.lengths.tolist())
        expected = torch.cat([theirs(text[None]).logits for text in texts])
        assert (logits - expected).abs().max() <= 1e-5
        assert torch.equal(load_classifier(tmp_path)(packed), logits)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_every_gradient_is_finite_and_there(minilm_folder: Path, packed: Packed, dtype: torch.dtype) -> None:
    ours = build_classifier(minilm_folder, n_classes=3, seed=0).train()
    labels = torch.arange(len(packed)) % 3
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        loss = torch.nn.functional.cross_entropy(ours(packed), labels)
    loss.backward()
    for name, parameter in ours.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.dtype == torch.float32
        assert parameter.grad.isfinite().all(), name


def mixed_texts(n: int) -> list[str]:
    """English, Chinese, emoji, whitespace, control characters, special tokens, long words, nothing at all."""
    pieces = [
        "The quick brown fox", "don't", "naïve café", "Ünïcödé", "质量很好", "，", "物流慢！", "ＦＵＬＬ　ｗｉｄｔｈ",
        "日本語", "한국어", "😀", "👩‍👩‍👧", "🇨🇳", "\t", "\n\n", "   ", "\u00a0", "\u200b", "\x00", "\x07", "\ufeff",
        "\u202e", "\u0301", "\ufb01", "İ", "ß", "[SEP]", "[CLS]", "<s>", "</s>", "<mask>", "[MASK]", "<pad>",
        "antidisestablishmentarianism", "x" * 120, "3.14159", "$9.99", "http://a.b/c?d=e&f", "C++", "...", "—", "”",
        "𝔘𝔫𝔦", "𠀀𠀁", "\ud7ff", "٣", "ไทย", "",
    ]  # fmt: skip
    chooser = random.Random(0)
    texts = ["".join(chooser.choice(pieces) + chooser.choice(["", " "]) for _ in range(i % 40)) for i in range(n - 4)]
    return ["", " ", "\n", "a", *texts]


def test_ids_are_theirs_on_a_thousand_mixed_texts(minilm_folder: Path, tmp_path: Path) -> None:
    ours = Tokenizer.from_folder(minilm_folder)
    ours.save(tmp_path)
    texts = mixed_texts(1000)
    for folder in (minilm_folder, tmp_path):
        theirs = transformers.AutoTokenizer.from_pretrained(folder)
        for length in (512, 16):
            expected = theirs(texts, truncation=True, max_length=length, padding=False)["input_ids"]
            assert ours.encode_batch(texts, max_length=length) == expected
    assert Tokenizer.from_folder(tmp_path).encode_batch(texts, max_length=512) == ours.encode_batch(
        texts, max_length=512
    )
