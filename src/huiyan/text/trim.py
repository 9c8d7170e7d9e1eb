"""A tokenizer without the pieces of scripts that the texts are not written in: the same pieces for the rest."""

import json
from collections.abc import Collection
from typing import Any

import tokenizers

from huiyan.core.errors import ConfigError
from huiyan.text.scripts import script_of
from huiyan.text.tokenise import Tokenizer


def trim_tokenizer(tokenizer: Tokenizer, scripts: Collection[str]) -> tuple[Tokenizer, list[int]]:
    """Keep the pieces whose letters are all of the scripts named; digits, signs and special tokens stay.

    Texts in these scripts get the same pieces as before: whatever pieces they can have are still there, with the scores
    they had. A letter of another script becomes unknown.

    Args:
        tokenizer: of WordPiece or Unigram pieces.
        scripts: as ``script_of`` names them, such as "Latin" and "Han".
    Returns:
        The tokenizer, whose ids count the kept pieces from 0; and which id each of them had before, ascending.
    Raises:
        ConfigError: the tokenizer is of another kind; pieces of byte-level BPE are no letters.
    """
    values: dict[str, Any] = json.loads(tokenizer.to_json())
    model = values["model"]
    if model["type"] not in ("Unigram", "WordPiece"):
        raise ConfigError(
            f"The vocabulary of a tokenizer of the kind {model['type']} cannot be trimmed by script.",
            hint="Leave out --trim-vocabulary, or choose a model with WordPiece or Unigram pieces.",
        )
    pieces = _pieces_of(model)
    special = {token["id"] for token in values["added_tokens"]}
    if model["type"] == "Unigram":
        # The penalty of an unknown character hangs on the least score there is.
        special |= {model["unk_id"], min(range(len(pieces)), key=lambda number: model["vocab"][number][1])}
    kept = [number for number, piece in enumerate(pieces) if number in special or _is_of(piece, scripts)]
    # Added tokens may stand behind the pieces.
    kept += sorted(number for number in special if number >= len(pieces))
    new_id = {old: new for new, old in enumerate(kept)}
    if model["type"] == "Unigram":
        model["vocab"] = [model["vocab"][number] for number in kept if number < len(pieces)]
        model["unk_id"] = new_id[model["unk_id"]]
    else:
        model["vocab"] = {pieces[number]: new_id[number] for number in kept if number < len(pieces)}
    for token in values["added_tokens"]:
        token["id"] = new_id[token["id"]]
    _renumber_frame(values.get("post_processor"), new_id)
    backend = tokenizers.Tokenizer.from_str(json.dumps(values, ensure_ascii=False))
    return Tokenizer(backend, tokenizer.settings), kept


def _pieces_of(model: dict[str, Any]) -> list[str]:
    if model["type"] == "Unigram":
        return [piece for piece, _ in model["vocab"]]
    return sorted(model["vocab"], key=model["vocab"].__getitem__)


def _is_of(piece: str, scripts: Collection[str]) -> bool:
    return all(script_of(letter) in scripts for letter in piece if letter.isalpha())


def _renumber_frame(processor: Any, new_id: dict[int, int]) -> None:
    """Give the special tokens around a text their new ids, in whatever kind of post-processor."""
    if not isinstance(processor, dict):
        return
    for part in processor.get("processors", []):
        _renumber_frame(part, new_id)
    for token in processor.get("special_tokens", {}).values():
        token["ids"] = [new_id[number] for number in token["ids"]]
    for role in ("sep", "cls"):
        if role in processor:
            processor[role][1] = new_id[processor[role][1]]
