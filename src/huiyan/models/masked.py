"""Encoders that guess words which are hidden from them: how BERT and its kind are pretrained.

Source: Devlin et al. 2019, section 3.1; the head is that of its published code.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from safetensors.torch import save_file  # pyright: ignore[reportUnknownVariableType] - PathLike is left open there
from torch import Tensor, nn
from torch.nn import functional

from huiyan.core.errors import SourceError
from huiyan.core.files import atomic_path, write_json
from huiyan.core.packed import Packed
from huiyan.core.weightless import weightless
from huiyan.models.activations import activation_named
from huiyan.models.checkpoint import read_encoder_config
from huiyan.models.config import TransformerConfig
from huiyan.models.config_file import CONFIG_FILE, read_config
from huiyan.models.encoder import Encoder
from huiyan.models.families.family import Family
from huiyan.models.families.registry import family_named, family_of
from huiyan.models.fresh import draw
from huiyan.models.naming import (
    apart,
    check_shapes,
    encoder_leftovers,
    family_names,
    in_full,
    refuse_missing,
    refuse_unknown,
    together,
)
from huiyan.models.segments import depths_of
from huiyan.models.weights import SINGLE_FILE, read_weights


@dataclass(frozen=True)
class _Head:
    """What a family calls the head that guesses words, and its class in `transformers`.

    ``matrix`` is the name of a matrix of its own, where a checkpoint has one; ours has the vectors of the words there.
    """

    architecture: str
    names: Mapping[str, str]
    matrix: str


def _names_of_roberta(architecture: str) -> _Head:
    names = {"dense": "lm_head.dense", "norm": "lm_head.layer_norm", "bias": "lm_head.bias"}
    return _Head(architecture, names, "lm_head.decoder.weight")


HEADS = {
    "bert": _Head(
        "BertForMaskedLM",
        {
            "dense": "cls.predictions.transform.dense",
            "norm": "cls.predictions.transform.LayerNorm",
            "bias": "cls.predictions.bias",
        },
        "cls.predictions.decoder.weight",
    ),
    "roberta": _names_of_roberta("RobertaForMaskedLM"),
    "xlm-roberta": _names_of_roberta("XLMRobertaForMaskedLM"),
}
"""The families that can be pretrained here."""


class MaskedLanguageModel(nn.Module):
    """An encoder, and for some of its rows the probability of every word.

    Args:
        config: of the encoder.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.dense = nn.Linear(config.width, config.width)
        self.norm = nn.LayerNorm(config.width, eps=config.norm_epsilon)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))
        self.activation = activation_named(config.activation if config.family == "bert" else "gelu")
        self.carried: dict[str, Tensor] = {}
        """What the checkpoint has beside, by the family's names, and learning labels wants: BERT's pooler."""

    def forward(self, packed: Packed, places: Int[Tensor, " n"]) -> Float[Tensor, "n v"]:
        """The logits of what stands at some places of a packed batch.

        Args:
            packed: token ids, those that are hidden replaced already.
            places: rows of the batch, all sequences counted through.
        Raises:
            ShapeError: a sequence is longer than the positions the model has.
        """
        rows = self.encoder(packed).index_select(0, places)
        rows = self.norm(self.activation(self.dense(rows)))
        return functional.linear(rows, self.encoder.embeddings.words.weight, self.bias)

    def by_depth(self) -> list[list[nn.Parameter]]:
        """The parameters by depth, embeddings first, the head with the topmost."""
        return depths_of(self, [self.encoder.embeddings, *self.encoder.stack.layers])


def fresh_masked_model(config: TransformerConfig, *, seed: int) -> MaskedLanguageModel:
    """A model without pretraining, in training mode, in float32, drawn from a seed alone."""
    with weightless():
        model = MaskedLanguageModel(config)
    shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
    drawn = draw(shapes, deviation=config.initializer_range, seed=seed) | {"bias": torch.zeros(config.vocab_size)}
    model.load_state_dict(drawn, assign=True)
    return model


def guesses_words(folder: str | Path) -> bool:
    """Whether a folder is of a family that can guess hidden words; one that writes text cannot.

    Raises:
        SourceError: config.json is missing or broken.
    """
    kind = read_config(Path(folder)).get("model_type")
    return isinstance(kind, str) and kind in HEADS


def load_masked_model(folder: str | Path, *, seed: int | None = 0) -> MaskedLanguageModel:
    """The encoder of a folder with its head; a head that the folder does not have is drawn. In evaluation mode.

    Args:
        folder: config.json and safetensors of BERT's, RoBERTa's or XLM-RoBERTa's family, with any head or none.
        seed: of a head that is drawn; with None the folder must have one.
    Raises:
        UnknownFamilyError: it is of a family we do not read.
        SourceError: config.json is missing or broken, or of a family that is not pretrained here; or the head has a
            matrix of its own where ours has the vectors of the words.
        WeightsError: weights are missing, left over, of another shape, or not in safetensors.
    """
    folder = Path(folder)
    family, config = family_of(read_config(folder)), read_encoder_config(folder)
    if family.name not in HEADS or config.ranks:
        raise SourceError(
            f"Words can be guessed by encoders of {', '.join(HEADS)} that are whole. {folder} is of "
            f"{family.name}{', with projections of low rank' if config.ranks else ''}.",
            hint="Choose another checkpoint.",
        )
    with weightless():
        model = MaskedLanguageModel(config)
    names = _names(model, family)
    sizes = {names[ours]: parameter.shape for ours, parameter in model.named_parameters()}
    found = apart(in_full(read_weights(folder), family), sizes)
    own = {ours: found[theirs] for ours, theirs in names.items() if theirs in found}
    wanted = {theirs for ours, theirs in names.items() if ours.startswith("encoder.")}
    refuse_missing(wanted - found.keys(), str(folder))
    left = set(encoder_leftovers(found, wanted, family))
    refuse_unknown({name for name in left if ".pooler." not in name}, str(folder))
    check_shapes(model, own, names, str(folder))
    matrix = HEADS[family.name].matrix
    if matrix in found and not torch.equal(found[matrix], own["encoder.embeddings.words.weight"]):
        raise SourceError(
            f"The head of {folder} has a matrix of its own ({matrix}), which is not that of its words; only heads that "
            "share it are known.",
            hint="Choose another checkpoint.",
        )
    lacking = {name: p.shape for name, p in model.named_parameters() if name not in own}
    if seed is None:
        refuse_missing({names[ours] for ours in lacking}, str(folder))
    drawn = draw(lacking, deviation=config.initializer_range, seed=seed or 0)
    if "bias" in drawn:
        drawn["bias"] = torch.zeros(config.vocab_size)
    state = {name: tensor.to(torch.float32) for name, tensor in (own | drawn).items()}
    model.load_state_dict(state, assign=True)
    model.carried = {name: tensor for name, tensor in found.items() if name.startswith("bert.pooler.dense.")}
    return model.eval()


def save_masked_model(model: MaskedLanguageModel, folder: Path) -> None:
    """Write config.json and model.safetensors, as `transformers` reads them.

    Raises:
        OutputError: the folder cannot be written.
    """
    family = family_named(model.config.family)
    names = _names(model, family)
    tensors = {names[ours]: tensor.detach().cpu().contiguous() for ours, tensor in model.named_parameters()}
    tensors |= model.carried
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_path(folder / SINGLE_FILE) as path:
        save_file(together(tensors), path, metadata={"format": "pt"})
    head = family.read_head({})
    values = {"architectures": [HEADS[family.name].architecture], **family.write(model.config, head)}
    write_json(folder / CONFIG_FILE, {"model_type": family.name, "tie_word_embeddings": True, **values})


def _names(model: MaskedLanguageModel, family: Family) -> dict[str, str]:
    parameters = [name for name, _ in model.named_parameters()]
    head = HEADS[family.name].names
    found = family_names((name for name in parameters if name.startswith("encoder.")), model.config, family)
    for name in parameters:
        part, _, leaf = name.partition(".")
        if part in head:
            found[name] = f"{head[part]}.{leaf}" if leaf else head[part]
    return found
