"""The one folder that training writes and everything else reads."""

import copy
import json
import pickle
import shutil
import unicodedata
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from huiyan.core.errors import ArtifactError, ConfigError, OutputError, WeightsError
from huiyan.models.early_exit import fresh_exits
from huiyan.tasks import artifact
from huiyan.tasks.artifact import Artifact
from huiyan.tasks.manifest import EarlyExit, Manifest


@pytest.fixture
def copied_run(tiny_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_run, tmp_path / "copy"))


@pytest.fixture
def with_exits(tiny_run: Path, tmp_path: Path) -> Path:
    """The tiny model with exits that have learned nothing."""
    plain = Artifact.load(tiny_run)
    manifest = replace(plain.manifest, early_exit=EarlyExit(patience=1))
    replace(plain, exits=fresh_exits(plain.model.config, seed=1), manifest=manifest).save(tmp_path / "exits")
    return tmp_path / "exits"


def mixed_texts(n: int) -> list[str]:
    """Texts with all the trouble of real ones: scripts, emoji, controls, spaces, nothing at all."""
    random = Random(5)
    alphabet = (
        "aBc the dress GOOD bad 好差质量 日本語カナ é ñ Ω я ب 👍🏽 \t\n\u200b\u00a0\x07 ,.!?'\"<>&[SEP] 123-４５６ "
    )
    texts = ["", " ", "\n", "[CLS] [MASK] [PAD]", "a" * 300, unicodedata.normalize("NFD", "déjà vu")]
    return texts + ["".join(random.choices(alphabet, k=random.randint(1, 80))) for _ in range(n - len(texts))]


def change_manifest(folder: Path, **changes: object) -> None:
    path = folder / "huiyan.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


def test_transformers_reads_the_folder_with_equal_logits_and_ids(tiny_run: Path) -> None:
    ours = Artifact.load(tiny_run)
    theirs, info = transformers.AutoModelForSequenceClassification.from_pretrained(tiny_run, output_loading_info=True)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_run)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    assert theirs.config.id2label == {0: "negative", 1: "positive"}
    texts = mixed_texts(1000)
    length = ours.manifest.max_length
    assert ours.tokenizer.encode_batch(texts, max_length=length) == [
        tokenizer(text, truncation=True, max_length=length)["input_ids"] for text in texts
    ]
    with torch.inference_mode():
        expected = torch.cat(
            [
                theirs.eval()(**tokenizer(text, truncation=True, max_length=length, return_tensors="pt")).logits
                for text in texts[:60]
            ]
        )
    np.testing.assert_allclose(ours.logits(texts[:60]), expected.numpy(), atol=1e-5)


def test_a_folder_survives_saving_and_loading(tiny_run: Path, tmp_path: Path) -> None:
    first = Artifact.load(tiny_run)
    first.save(tmp_path / "again")
    second = Artifact.load(tmp_path / "again")
    assert second.manifest == first.manifest
    np.testing.assert_array_equal(first.logits(["the good dress"]), second.logits(["the good dress"]))


def test_probabilities_sum_to_one(tiny_run: Path) -> None:
    np.testing.assert_allclose(Artifact.load(tiny_run).outputs(["good", "", "bad bad"]).sum(axis=1), 1.0)


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"no huiyan.json. Give the --out folder"):
        Artifact.load(tmp_path)


def test_a_newer_format_is_refused(copied_run: Path) -> None:
    change_manifest(copied_run, format=2, surprise="new")
    with pytest.raises(ArtifactError, match=r"has format 2; this version of Huiyan reads up to 1. Install a newer"):
        Artifact.load(copied_run)


def test_unknown_and_missing_keys_are_refused(copied_run: Path) -> None:
    change_manifest(copied_run, clases=[])
    with pytest.raises(ArtifactError, match=r"no key 'clases'. Did you mean 'classes'"):
        Manifest.read(copied_run)
    path = copied_run / "huiyan.json"
    values = json.loads(path.read_text())
    del values["clases"], values["text_columns"]
    path.write_text(json.dumps(values))
    with pytest.raises(ArtifactError, match="needs the key 'text_columns'"):
        Manifest.read(copied_run)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": "1"}', "\x00\xff"])
def test_a_broken_manifest_is_an_error(copied_run: Path, content: str) -> None:
    (copied_run / "huiyan.json").write_text(content, encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"huiyan.json (is not JSON|must hold an object|does not say its format)"):
        Artifact.load(copied_run)


def test_classes_and_weights_must_belong_together(copied_run: Path) -> None:
    change_manifest(copied_run, classes=["a", "b", "c"])
    with pytest.raises(ArtifactError, match="weights have 2 classes, huiyan.json names 3"):
        Artifact.load(copied_run)


def test_class_names_must_be_those_of_the_weights(copied_run: Path) -> None:
    change_manifest(copied_run, classes=["positive", "negative"])
    with pytest.raises(
        ArtifactError, match=r"class 0 is 'negative' in config.json and 'positive' in huiyan.json. Restore the folder"
    ):
        Artifact.load(copied_run)
    change_manifest(copied_run, classes=["negative", "neutral"])
    with pytest.raises(ArtifactError, match=r"class 1 is 'positive' in config.json and 'neutral' in huiyan.json"):
        Artifact.load(copied_run)


def test_a_folder_from_before_label_kinds_has_text_labels(copied_run: Path) -> None:
    path = copied_run / "huiyan.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    del values["label_kind"]
    path.write_text(json.dumps(values), encoding="utf-8")
    assert Manifest.read(copied_run).label_kind == "text"


@pytest.mark.parametrize(
    ("kind", "classes", "message"),
    [
        ("float", ["0", "1"], "label_kind option must be one of text, integer, boolean. Got 'float'"),
        (["text"], ["0", "1"], "label_kind option must be one of"),
        ("text", [0, 1], r"classes option must be text labels. Got \(0, 1\)"),
        ("text", 2, "classes option must be text labels. Got 2"),
        ("integer", ["0", "one"], "classes option must be integer labels"),
        ("integer", ["0", "01"], "classes option must be integer labels"),
        ("boolean", ["False", "1"], "classes option must be boolean labels"),
    ],
)
def test_a_wrong_label_kind_is_an_error(copied_run: Path, kind: object, classes: object, message: str) -> None:
    change_manifest(copied_run, label_kind=kind, classes=classes)
    with pytest.raises(ArtifactError, match=f"does not fit: The {message}"):
        Manifest.read(copied_run)


def test_a_folder_whose_saving_was_cut_short_is_not_read(
    tiny_run: Path, copied_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object, **__: object) -> None:
        assert not (copied_run / "huiyan.json").exists()
        raise KeyboardInterrupt

    monkeypatch.setattr(artifact, "save_classifier", killed)
    with pytest.raises(KeyboardInterrupt):
        Artifact.load(tiny_run).save(copied_run)
    with pytest.raises(ArtifactError, match=r"no huiyan.json"):
        Artifact.load(copied_run)


def test_a_folder_that_cannot_be_written_is_an_error(tiny_run: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(OutputError, match="taken cannot be written"):
        Artifact.load(tiny_run).save(tmp_path / "taken")


def test_tokenizer_and_weights_must_belong_together(copied_run: Path) -> None:
    path = copied_run / "tokenizer.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    values["model"]["vocab"] |= {f"new{number}": 29 + number for number in range(9)}
    path.write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(WeightsError, match=r"tokenizer of .* has 38 pieces, its model vectors for 29"):
        Artifact.load(copied_run)


def test_another_task_is_refused(copied_run: Path) -> None:
    change_manifest(copied_run, task="tag")
    with pytest.raises(ArtifactError, match="The task option must be one of classify"):
        Artifact.load(copied_run)


def test_truncated_weights_are_an_error(copied_run: Path) -> None:
    weights = copied_run / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:2000])
    with pytest.raises(WeightsError):
        Artifact.load(copied_run)


def test_a_pickle_is_never_opened(copied_run: Path) -> None:
    (copied_run / "model.safetensors").unlink()
    (copied_run / "pytorch_model.bin").write_bytes(b"\x80\x04cos\nsystem\n(S'touch pwned'\ntR.")
    with pytest.raises(WeightsError, match="safetensors"):
        Artifact.load(copied_run)
    assert not Path("pwned").exists()


def test_transformers_reads_a_folder_with_exits_with_equal_logits(with_exits: Path) -> None:
    assert (with_exits / "exits.safetensors").is_file()
    theirs, info = transformers.AutoModelForSequenceClassification.from_pretrained(with_exits, output_loading_info=True)
    tokenizer = transformers.AutoTokenizer.from_pretrained(with_exits)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    texts = mixed_texts(20)
    with torch.inference_mode():
        expected = [
            theirs.eval()(**tokenizer(text, truncation=True, max_length=48, return_tensors="pt")).logits
            for text in texts
        ]
    np.testing.assert_allclose(Artifact.load(with_exits).logits(texts), torch.cat(expected).numpy(), atol=1e-5)


def test_exits_change_nothing_unasked(tiny_run: Path, with_exits: Path) -> None:
    plain, exiting, texts = Artifact.load(tiny_run), Artifact.load(with_exits), mixed_texts(30)
    np.testing.assert_array_equal(exiting.logits(texts), plain.logits(texts))
    np.testing.assert_array_equal(exiting.logits(texts, patience=2), plain.logits(texts))
    assert not np.allclose(exiting.logits(texts, patience=1), plain.logits(texts))
    np.testing.assert_array_equal(exiting.logits(texts, patience="auto"), exiting.logits(texts, patience=1))


def test_a_folder_with_exits_survives_saving_and_loading(with_exits: Path, tmp_path: Path) -> None:
    first = Artifact.load(with_exits)
    first.save(tmp_path / "again")
    second = Artifact.load(tmp_path / "again")
    assert second.manifest == first.manifest and second.manifest.early_exit is not None
    texts = mixed_texts(10)
    np.testing.assert_array_equal(first.logits(texts, patience=1), second.logits(texts, patience=1))


def test_a_folder_without_exits_does_not_mention_them_and_has_no_patience(tiny_run: Path) -> None:
    assert "early_exit" not in json.loads((tiny_run / "huiyan.json").read_text(encoding="utf-8"))
    assert not (tiny_run / "exits.safetensors").exists()
    with pytest.raises(ConfigError, match=r"no early exits.*Leave patience away, or train with --early-exit"):
        Artifact.load(tiny_run).logits(["good"], patience=1)


@pytest.mark.parametrize("patience", [0, -1, "all", 1.5, True])
def test_a_patience_that_cannot_be_is_refused(with_exits: Path, patience: Any) -> None:
    with pytest.raises(ConfigError, match="patience option must be auto, or a number of layers from 1"):
        Artifact.load(with_exits).logits(["good"], patience=patience)


def test_exits_of_an_earlier_model_do_not_stay_beside_a_new_one(tiny_run: Path, with_exits: Path) -> None:
    Artifact.load(tiny_run).save(with_exits)
    assert not (with_exits / "exits.safetensors").exists()
    assert Artifact.load(with_exits).exits is None


def test_exits_and_manifest_must_belong_together(with_exits: Path) -> None:
    artifact.save_exits(fresh_exits(Artifact.load(with_exits).model.config, seed=2), with_exits / "exits.safetensors")
    with pytest.raises(ArtifactError, match=r"exits.safetensors is not the file that huiyan.json names. Restore"):
        Artifact.load(with_exits)
    (with_exits / "exits.safetensors").unlink()
    with pytest.raises(WeightsError, match="cannot be read as safetensors"):
        Artifact.load(with_exits)


def test_exits_and_weights_must_belong_together(tiny_run: Path, with_exits: Path) -> None:
    weights = load_file(with_exits / "model.safetensors")
    save_file({name: tensor * 0.5 for name, tensor in weights.items()}, with_exits / "model.safetensors")
    with pytest.raises(ArtifactError, match=r"trained on other weights than its model.safetensors. Train again with"):
        Artifact.load(with_exits)
    values = json.loads((with_exits / "huiyan.json").read_text(encoding="utf-8"))
    del values["early_exit"]  # the way that the error names
    (with_exits / "huiyan.json").write_text(json.dumps(values), encoding="utf-8")
    plain, texts = Artifact.load(with_exits), mixed_texts(5)
    assert plain.exits is None and not np.allclose(plain.logits(texts), Artifact.load(tiny_run).logits(texts))


def test_one_that_has_answered_can_be_pickled_and_copied(tiny_run: Path) -> None:
    """scikit-learn's tools pickle estimators, and a fitted one holds an artifact."""
    artifact = Artifact.load(tiny_run)
    before = artifact.logits(["good dress", "bad"])
    for again in (pickle.loads(pickle.dumps(artifact)), copy.deepcopy(artifact)):
        np.testing.assert_allclose(again.logits(["good dress", "bad"]), before, atol=1e-6)
