"""Folders of language models that read streams: ours, those of others, and what is refused."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from huiyan.core.errors import SourceError, WeightsError
from huiyan.models.lstm import LSTMLanguageModel
from huiyan.models.segment_checkpoint import is_segment_folder, load_segment_model, save_segment_model
from huiyan.models.segment_config import LSTMConfig, TransformerXLConfig
from huiyan.models.segments import SegmentModel
from huiyan.models.transformer_xl import TransformerXL
from huiyan.text.tokenise import Tokenizer

TINY = TransformerXLConfig(
    vocab_size=30, n_layers=2, width=8, n_heads=2, head_width=4, feed_forward_width=16, memory_length=6
)
CLUSTERS = {"cutoffs": (8, 16), "div_value": 2, "tied_projections": (False, True, True)}
VARIANTS: dict[str, dict[str, object]] = {
    "base": {},
    "clusters": CLUSTERS,
    "clusters, projections apart": {**CLUSTERS, "tied_projections": False},
    "clusters of one table": {"cutoffs": (8, 16), "embedding_width": 6, "tied_projections": True},
    "words apart": {"tied_words": False},
    "biases apart": {"untied_biases": True},
    "other modes": {"residual": "pre", "clamp_length": 5, "same_length": True, "dropout": 0.1},
}


def losses_of(model: SegmentModel) -> Tensor:
    data = torch.randint(0, 30, (2, 13), generator=torch.Generator().manual_seed(1))
    memory, found = None, []
    with torch.no_grad():
        for first in (0, 4, 8):
            losses, memory = model.eval().loss(data[:, first : first + 4], data[:, first + 1 : first + 5], memory)
            found.append(losses)
    return torch.cat(found, 1)


@pytest.fixture
def generator() -> None:
    torch.manual_seed(3)


@pytest.mark.usefixtures("generator")
@pytest.mark.parametrize("variant", VARIANTS)
def test_what_is_saved_is_loaded_with_equal_losses(variant: str, tmp_path: Path) -> None:
    model = TransformerXL(replace(TINY, **VARIANTS[variant]))
    save_segment_model(model, tmp_path)
    again = load_segment_model(tmp_path)
    assert torch.equal(losses_of(again), losses_of(model))
    assert not again.training
    assert sum(p.numel() for p in again.parameters()) == sum(p.numel() for p in model.parameters())
    assert isinstance(again, TransformerXL)
    # Nothing but how the widths and the answers for each cluster are spelled may differ.
    assert again.config.cutoffs == model.config.cutoffs
    assert again.config.clamp_length == model.config.clamp_length
    assert is_segment_folder(tmp_path)


@pytest.mark.usefixtures("generator")
def test_an_lstm_is_saved_and_loaded(tmp_path: Path) -> None:
    model = LSTMLanguageModel(LSTMConfig(vocab_size=30, n_layers=2, width=8, dropout=0.1))
    save_segment_model(model, tmp_path)
    again = load_segment_model(tmp_path)
    assert torch.equal(losses_of(again), losses_of(model))
    assert isinstance(again, LSTMLanguageModel)
    assert again.config == model.config


def older_folder(folder: Path, model: TransformerXL) -> dict[str, Tensor]:
    """As `transformers` 4 wrote wt103: pytorch_model.bin with every name of what is shared, and a vocabulary."""
    save_segment_model(model, folder)
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    for number in range(3):
        weights[f"crit.out_layers.{number}.weight"] = weights[f"transformer.word_emb.emb_layers.{number}.weight"]
    for number in (1, 2):
        weights[f"crit.out_projs.{number}"] = weights[f"transformer.word_emb.emb_projs.{number}"]
    for layer in range(2):
        for name in ("r_w_bias", "r_r_bias"):
            weights[f"transformer.layers.{layer}.dec_attn.{name}"] = weights[f"transformer.{name}"]
    weights["transformer.pos_emb.inv_freq"] = torch.ones(4)
    torch.save(weights, folder / "pytorch_model.bin")
    (folder / "vocab.txt").write_text("<eos>\nthe 12\n<unk>\n" + "".join(f"w{n}\n" for n in range(27)))
    return weights


@pytest.mark.usefixtures("generator")
def test_a_folder_of_the_older_library_is_read_without_unpickling(tmp_path: Path) -> None:
    model = TransformerXL(replace(TINY, **CLUSTERS))
    weights = older_folder(tmp_path, model)
    assert torch.equal(losses_of(load_segment_model(tmp_path)), losses_of(model))
    tokenizer = Tokenizer.from_folder(tmp_path)
    (ids,) = tokenizer.encode_batch(["the w3 zebra\nw0\n"], max_length=99)
    assert ids == [1, 6, 2, 0, 3, 0]
    assert tokenizer.decode([1, 6, 0, 3]) == "the w3\nw0"
    # What the file holds twice must be twice the same.
    weights["crit.out_layers.1.weight"] = weights["crit.out_layers.1.weight"] + 1
    torch.save(weights, tmp_path / "pytorch_model.bin")
    with pytest.raises(WeightsError, match="other numbers in crit.out_layers.1.weight"):
        load_segment_model(tmp_path)


@pytest.mark.usefixtures("generator")
def test_a_pickled_module_is_not_opened(tmp_path: Path) -> None:
    model = TransformerXL(replace(TINY, **CLUSTERS))
    older_folder(tmp_path, model)
    torch.save(model, tmp_path / "pytorch_model.bin")
    with pytest.raises(WeightsError, match="more than tensors"):
        load_segment_model(tmp_path)


@pytest.mark.usefixtures("generator")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"attn_type": 2}, "attn_type"),
        ({"cutoffs": 7}, "no list"),
        ({"cutoffs": [16, 8]}, "ascending"),
        ({"n_layer": 10**9}, "n_layers"),
        ({"d_model": "8"}, "width"),
        ({"mem_len": 2.5}, "memory_length option must be a whole number"),
        ({"mem_len": True}, "memory_length option must be a whole number"),
        ({"mem_len": 10**30}, "memory_length option must be a whole number"),
        ({"clamp_len": 2.5}, "clamp_length option must be a whole number"),
        ({"clamp_len": "x"}, "clamp_length option must be a whole number"),
        ({"clamp_len": False}, "clamp_length option must be a whole number"),
        ({"same_length": "no"}, "same_length option must be True or False"),
        ({"untie_r": 1}, "untied_biases option must be True or False"),
        ({"dropout": 5}, "dropout option must be a number of at least 0 and below 1"),
        ({"dropout": "x"}, "dropout option must be a number"),
        ({"dropout": float("nan")}, "dropout option must be a number"),
        ({"dropatt": -1}, "attention_dropout option must be a number"),
        ({"d_embed": -4}, "embedding_width option must be a whole number"),
        ({"div_val": 1.5}, "div_value option must be a whole number"),
        ({"cutoffs": [1.5]}, "cutoffs option must be whole numbers"),
        ({"cutoffs": [True]}, "cutoffs option must be whole numbers"),
        ({"cutoffs": ["a"]}, "cutoffs option must be whole numbers"),
    ],
)
def test_a_config_that_cannot_be_is_refused(change: dict[str, object], message: str, tmp_path: Path) -> None:
    save_segment_model(TransformerXL(TINY), tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(SourceError, match=message):
        load_segment_model(tmp_path)


@pytest.mark.usefixtures("generator")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dropout": "x"}, "dropout option must be a number"),
        ({"embedding_width": 10**12}, "embedding_width option must be a whole number"),
        ({"cutoffs": "abc"}, "cutoffs option must be whole numbers"),
        ({"cutoffs": [1.5]}, "cutoffs option must be whole numbers"),
    ],
)
def test_a_config_of_an_lstm_that_cannot_be_is_refused(change: dict[str, object], message: str, tmp_path: Path) -> None:
    save_segment_model(LSTMLanguageModel(LSTMConfig(vocab_size=9, n_layers=1, width=4)), tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(SourceError, match=message):
        load_segment_model(tmp_path)


@pytest.mark.usefixtures("generator")
@pytest.mark.parametrize("clamp", [0, -1, -7, None])
def test_a_clamp_of_nothing_clamps_nothing(clamp: int | None, tmp_path: Path) -> None:
    save_segment_model(TransformerXL(TINY), tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"clamp_len": clamp}))
    model = load_segment_model(tmp_path)
    assert isinstance(model, TransformerXL)
    assert model.config.clamp_length is None


@pytest.mark.usefixtures("generator")
def test_weights_that_do_not_fit_are_named(tmp_path: Path) -> None:
    save_segment_model(TransformerXL(TINY), tmp_path)
    path = tmp_path / "model.safetensors"
    weights = load_file(path)
    name = "transformer.layers.1.dec_attn.o_net.weight"
    save_file({key: tensor for key, tensor in weights.items() if key != name}, path)
    with pytest.raises(WeightsError, match=name):
        load_segment_model(tmp_path)
    save_file({**weights, name: torch.ones(3, 3)}, path)
    with pytest.raises(WeightsError, match="shape"):
        load_segment_model(tmp_path)
    save_file({**weights, "crit.other": torch.ones(3)}, path)
    with pytest.raises(WeightsError, match="crit.other"):
        load_segment_model(tmp_path)


PUBLISHED_CODE = '''
from torch import nn
import torch

class Block(nn.Module):
    pass

class MemTransformerLM(nn.Module):
    """Modules and names of the published code; none of it is run."""

    def __init__(self):
        super().__init__()
        self.n_token, self.d_model, self.d_embed, self.n_head, self.d_head = 30, 8, 8, 2, 4
        self.n_layer, self.mem_len, self.clamp_len, self.same_length = 2, 6, -1, False
        self.attn_type, self.sample_softmax, self.ext_len = 0, -1, 0
        self.drop = nn.Dropout(0.1)
        sizes, widths = (8, 8, 14), (8, 4, 2)
        self.word_emb = Block()
        self.word_emb.cutoffs, self.word_emb.div_val = [8, 16, 30], 2
        self.word_emb.emb_layers = nn.ModuleList(nn.Embedding(n, w) for n, w in zip(sizes, widths))
        self.word_emb.emb_projs = nn.ParameterList(nn.Parameter(torch.randn(8, w)) for w in widths)
        self.layers = nn.ModuleList()
        for _ in range(2):
            layer = Block()
            layer.dec_attn, layer.pos_ff = Block(), Block()
            layer.dec_attn.pre_lnorm, layer.dec_attn.dropatt = False, nn.Dropout(0.0)
            layer.dec_attn.qkv_net = nn.Linear(8, 24, bias=False)
            layer.dec_attn.o_net = nn.Linear(8, 8, bias=False)
            layer.dec_attn.r_net = nn.Linear(8, 8, bias=False)
            layer.dec_attn.layer_norm = nn.LayerNorm(8)
            layer.pos_ff.d_inner = 16
            layer.pos_ff.CoreNet = nn.Sequential(
                nn.Linear(8, 16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 8), nn.Dropout(0.1)
            )
            layer.pos_ff.layer_norm = nn.LayerNorm(8)
            self.layers.append(layer)
        self.crit = Block()
        self.crit.cutoffs = [8, 16, 30]
        self.crit.cluster_weight = nn.Parameter(torch.randn(2, 8))
        self.crit.cluster_bias = nn.Parameter(torch.zeros(2))
        self.crit.out_layers = nn.ModuleList(nn.Linear(w, n) for n, w in zip(sizes, widths))
        self.crit.out_projs = nn.ParameterList(nn.Parameter(torch.randn(8, w)) for w in widths)
        for number in range(3):
            self.crit.out_layers[number].weight = self.word_emb.emb_layers[number].weight
            if number:
                self.crit.out_projs[number] = self.word_emb.emb_projs[number]
        self.pos_emb = Block()
        self.pos_emb.register_buffer("inv_freq", torch.ones(4))
        self.r_w_bias = nn.Parameter(torch.randn(2, 4))
        self.r_r_bias = nn.Parameter(torch.randn(2, 4))

if __name__ == "__main__":
    import mem_transformer
    torch.manual_seed(0)
    model = mem_transformer.MemTransformerLM()
    for projections in (model.word_emb.emb_projs, model.crit.out_projs):
        del projections._size  # what the torch of the published code did not write
    torch.save(model, "model.pt")
    torch.save(model.crit.cluster_weight.data, "clusters.pt")
    model.ext_len = 4
    torch.save(model, "extended.pt")
'''


def test_the_script_converts_a_pickled_model_of_the_published_code(tmp_path: Path) -> None:
    code, out = tmp_path / "code", tmp_path / "out"
    code.mkdir()
    (code / "mem_transformer.py").write_text(PUBLISHED_CODE)
    (code / "words.txt").write_text("".join(f"w{n} {n}\n" for n in range(28)) + "<eos> 1\n<unk> 1\n")
    run = [sys.executable, "mem_transformer.py"]
    subprocess.run(run, cwd=code, check=True)
    script = Path(__file__).parents[3] / "scripts" / "convert_transformer_xl.py"
    command = [sys.executable, str(script), str(code / "model.pt"), str(out), "--code", str(code)]
    refused = subprocess.run(command, check=False, capture_output=True, text=True)
    assert refused.returncode == 2
    assert "--trust" in refused.stderr
    assert not out.exists()
    command += ["--vocabulary", str(code / "words.txt"), "--trust"]
    extended = [str(code / "extended.pt") if word.endswith("model.pt") else word for word in command]
    refused = subprocess.run(extended, check=False, capture_output=True, text=True)
    assert refused.returncode == 2
    assert "ext_len 4" in refused.stderr
    assert not out.exists()
    subprocess.run(command, check=True)
    model = load_segment_model(out)
    assert isinstance(model, TransformerXL)
    expected = replace(TINY, **CLUSTERS, dropout=0.1)
    assert replace(model.config, embedding_width=None) == expected
    weights = load_file(out / "model.safetensors")
    assert torch.equal(model.output.projections[0], weights["crit.out_projs.0"])
    assert model.output.projections[1] is model.embeddings.projections[1]
    key = weights["transformer.layers.1.dec_attn.qkv_net.weight"][8:16]
    assert torch.equal(model.layers()[1].attention.key.weight, key)
    assert torch.equal(model.output.cluster_weight, torch.load(code / "clusters.pt"))
    assert losses_of(model).isfinite().all()
    (ids,) = Tokenizer.from_folder(out).encode_batch(["w5 w7\n"], max_length=9)
    assert ids == [5, 7, 28]
