"""Guessing hidden words beside `transformers`: the same logits, the same files, both ways."""

from pathlib import Path

import pytest
import torch
import transformers

from huiyan.core.errors import SourceError
from huiyan.core.packed import Packed
from huiyan.models.checkpoint import build_classifier
from huiyan.models.masked import load_masked_model, save_masked_model

SMALL = {
    "vocab_size": 60, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24,
    "max_position_embeddings": 40,
}  # fmt: skip
IDS = [[2, 5, 9, 4, 3], [2, 8, 3]]


def theirs(family: str) -> transformers.PreTrainedModel:
    torch.manual_seed(1)
    made = {
        "bert": lambda: transformers.BertForMaskedLM(transformers.BertConfig(**SMALL)),
        "roberta": lambda: transformers.RobertaForMaskedLM(transformers.RobertaConfig(**SMALL, pad_token_id=1)),
        "xlm-roberta": lambda: transformers.XLMRobertaForMaskedLM(
            transformers.XLMRobertaConfig(**SMALL, pad_token_id=1)
        ),
    }[family]()
    with torch.no_grad():
        for parameter in made.parameters():  # norms and biases, too
            parameter.add_(0.1 * torch.randn_like(parameter))
    return made.eval()


def logits_of(model: transformers.PreTrainedModel) -> torch.Tensor:
    with torch.no_grad():
        return torch.cat([model(torch.tensor([ids])).logits[0] for ids in IDS])


@pytest.mark.parametrize("family", ["bert", "roberta", "xlm-roberta"])
def test_logits_and_files_are_those_of_transformers(family: str, tmp_path: Path) -> None:
    peer = theirs(family)
    peer.save_pretrained(tmp_path / "theirs")
    ours = load_masked_model(tmp_path / "theirs")
    places = torch.tensor([0, 2, 4, 7])
    with torch.no_grad():
        found = ours(Packed.from_lists(IDS, torch.device("cpu")), places)
    torch.testing.assert_close(found, logits_of(peer)[places], atol=1e-5, rtol=1e-5)
    save_masked_model(ours, tmp_path / "ours")
    again = type(peer).from_pretrained(tmp_path / "ours").eval()
    torch.testing.assert_close(logits_of(again), logits_of(peer), atol=1e-5, rtol=1e-5)
    # What was pretrained is the encoder that labels are learnt with.
    classifier = build_classifier(tmp_path / "ours", n_classes=3, seed=0)
    state = ours.encoder.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in classifier.encoder.state_dict().items())


def test_a_pretrained_pooler_goes_with_the_encoder(tmp_path: Path) -> None:
    torch.manual_seed(0)
    transformers.BertModel(transformers.BertConfig(**SMALL)).save_pretrained(tmp_path / "theirs")
    save_masked_model(load_masked_model(tmp_path / "theirs"), tmp_path / "ours")
    before, after = (build_classifier(tmp_path / name, n_classes=2, seed=0).head.dense for name in ("theirs", "ours"))
    assert before is not None and after is not None and torch.equal(before.weight, after.weight)
    _, told = transformers.BertForMaskedLM.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not told["missing_keys"] and all(".pooler." in name for name in told["unexpected_keys"])


def test_an_encoder_without_the_head_is_given_one(tmp_path: Path) -> None:
    torch.manual_seed(0)
    transformers.BertModel(transformers.BertConfig(**SMALL)).save_pretrained(tmp_path)
    one, other = load_masked_model(tmp_path, seed=1), load_masked_model(tmp_path, seed=1)
    assert torch.equal(one.dense.weight, other.dense.weight)
    assert not torch.equal(one.dense.weight, load_masked_model(tmp_path, seed=2).dense.weight)
    assert one.bias.abs().sum() == 0
    transformers.AlbertModel(transformers.AlbertConfig(**SMALL, embedding_size=8)).save_pretrained(tmp_path / "albert")
    with pytest.raises(SourceError, match=r"bert, roberta, xlm-roberta .* of albert"):
        load_masked_model(tmp_path / "albert")


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_a_head_with_a_matrix_of_its_own_is_refused(family: str, tmp_path: Path) -> None:
    peer = theirs(family)
    peer.config.tie_word_embeddings = False
    output = peer.get_output_embeddings()
    output.weight = torch.nn.Parameter(torch.randn_like(output.weight))
    peer.save_pretrained(tmp_path)
    with pytest.raises(SourceError, match="matrix of its own"):
        load_masked_model(tmp_path)
