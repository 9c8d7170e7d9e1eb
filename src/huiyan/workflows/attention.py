"""What a trained model looks at in a text: the maps of all its heads, told in words."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from huiyan.attention import observe
from huiyan.attention.maps import Figures, LayerMaps
from huiyan.core.config import require
from huiyan.core.errors import ConfigError
from huiyan.core.lanes import Lanes
from huiyan.core.packed import Packed
from huiyan.core.texts import Text
from huiyan.tasks.artifact import Artifact
from huiyan.tasks.logits import device_of
from huiyan.text.tokenise import Piece
from huiyan.text.words import group_pieces, word_spans
from huiyan.workflows.answering import Answering, load_to_answer
from huiyan.workflows.config import ComputeConfig


@dataclass(frozen=True, eq=False)
class Looked:
    """The maps of one text.

    Args:
        text: that was read, or two.
        words: what the rows and columns of a map in words stand for.
        groups: the pieces that make each word.
        special: which words are special tokens.
        layers: the maps of every layer.
        figures: of each layer: how each head looks.
        answer: what the model answered.
    """

    text: Text
    words: list[str]
    groups: list[list[int]]
    special: tuple[int, ...]
    layers: list[LayerMaps]
    figures: list[Figures]
    answer: dict[str, Any]

    def in_words(self, layer: int, head: int) -> Float[Tensor, "w w"]:
        """The map of a head with pieces merged; rows sum to 1.

        A word looks as its pieces do on average, and is looked at as they are together. Source: Clark et al. 2019,
        section 4.1.
        """
        one = self.layers[layer][head]
        joined = torch.zeros(one.shape[1], len(self.groups), device=self.layers[layer].call.q.device)
        for word, group in enumerate(self.groups):
            joined[group, word] = 1.0
        by_word = one @ joined
        return (joined.T @ by_word.to(joined.dtype)) / joined.sum(0)[:, None]

    def statistics(self) -> list[dict[str, Any]]:
        """How each head looks, the mean over tokens.

        ``entropy`` in nats, ``distance`` in tokens, ``to_special`` the share of the weight that special tokens get,
        ``most`` the word that gets most and ``most_share`` how much.
        """
        return [
            self._statistics(layer, head)
            for layer in range(len(self.layers))
            for head in range(len(self.layers[layer]))
        ]

    def _statistics(self, layer: int, head: int) -> dict[str, Any]:
        figures = self.figures[layer]
        mass = figures.column_mass[head] / figures.entropy.shape[1]
        words = torch.stack([mass[group].sum() for group in self.groups])
        return {
            "layer": layer,
            "head": head,
            "entropy": float(figures.entropy[head].mean()),
            "distance": float(figures.distance[head].mean()),
            "to_special": float(words[list(self.special)].sum()),
            "most": self.words[int(words.argmax())],
            "most_share": float(words.max()),
        }

    def check(self, layer: int, head: int) -> None:
        """Check that there is such a head.

        Raises:
            ConfigError: there is not.
        """
        require(0 <= layer < len(self.layers), "layer", f"from 0 to {len(self.layers) - 1}", layer)
        n_heads = len(self.layers[layer])
        require(0 <= head < n_heads, "head", f"from 0 to {n_heads - 1}", head)

    def _repr_html_(self) -> str:
        """What a notebook shows: the figures of every head, escaped."""
        from huiyan.workflows.attention_picture import notebook_table

        return notebook_table(self.statistics())

    def telling_head(self) -> tuple[int, int]:
        """The head that looks least at special tokens and most sharply at words: the one to look at first."""
        scores = {
            (one["layer"], one["head"]): (1 - one["to_special"]) * (1 - one["entropy"] / _most_entropy(self.groups))
            for one in self.statistics()
        }
        return max(scores, key=scores.__getitem__)


def look(run: Path, text: Text, *, compute: ComputeConfig) -> Looked:
    """Let a trained model read a text, and watch.

    Args:
        run: the folder of a trained model.
        text: what to read; a tuple of two for a model of text pairs.
        compute: how the model computes. Every layer is watched on all tokens, also where an answer needs fewer.
    Raises:
        ConfigError: the text is blank, or one where the model reads two.
        ArtifactError: the folder is no model folder.
    """
    artifact = load_to_answer(run, compute)
    _check(artifact, text)
    pieces = artifact.tokenizer.pieces(text, max_length=artifact.manifest.max_length)
    words, groups = words_of(pieces, [text] if isinstance(text, str) else list(text))
    special = tuple(word for word, group in enumerate(groups) if pieces[group[0]].side is None)
    model = artifact.model.encoder
    ids = artifact.encode([text])
    with torch.inference_mode(), observe(model) as maps:
        model(Packed.from_lists(ids, device_of(artifact.model)))
        layers = list(maps)
        figures = [layer.figures("column_mass", "entropy", "distance") for layer in layers]
    return Looked(text, words, groups, special, layers, figures, _answer(artifact, text))


def words_of(pieces: Sequence[Piece], sides: Sequence[str]) -> tuple[list[str], list[list[int]]]:
    """The words that pieces make, and which pieces make each; special tokens are words in angle or square brackets."""
    words: list[str] = []
    groups: list[list[int]] = []
    spans = [word_spans(side) for side in sides]
    start = 0
    while start < len(pieces):
        side = pieces[start].side
        stop = start
        while stop < len(pieces) and pieces[stop].side == side:
            stop += 1
        if side is None:
            own = [[number] for number in range(start, stop)]
            words += [pieces[number].name for number in range(start, stop)]
        else:
            own = [
                [start + number for number in group]
                for group in group_pieces([piece.span for piece in pieces[start:stop]], spans[side])
            ]
            words += [_written(sides[side], [pieces[number] for number in group]) for group in own]
        groups += own
        start = stop
    return words, groups


def _written(text: str, pieces: Sequence[Piece]) -> str:
    places = [piece.span for piece in pieces if piece.span is not None]
    return text[min(start for start, _ in places) : max(stop for _, stop in places)].strip() or "␣"


def _most_entropy(groups: Sequence[Sequence[int]]) -> float:
    return max(1e-9, float(torch.tensor(float(sum(map(len, groups)))).log()))


def _answer(artifact: Artifact, text: Text) -> dict[str, Any]:
    with Lanes(device_of(artifact.model)) as lanes:
        return Answering(artifact, all_classes=False, prefix="").start([text], lanes)()[0]


def _check(artifact: Artifact, text: Text) -> None:
    reads_two = bool(artifact.manifest.text_pair_columns)
    if reads_two == isinstance(text, str):
        raise ConfigError(
            f"The model reads {'two texts together' if reads_two else 'one text'}.",
            hint='For example: huiyan attention RUN "a question" "an answer"' if reads_two else "Give one text.",
        )
    if not "".join([text] if isinstance(text, str) else text).strip():
        raise ConfigError("The text is blank.", hint="Give a text with at least one visible character.")
