"""A text on its way into a language model: cut into parts, its tokens learnt and written to disk."""

import hashlib
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huiyan.core.errors import ArtifactError, DataError
from huiyan.core.files import write_json
from huiyan.core.json_files import read_object
from huiyan.data.plain import PlainText, cut_at
from huiyan.data.token_file import Encoded, TokenFile, write_token_files
from huiyan.text.learn import learn_tokenizer
from huiyan.text.tokenise import Tokenizer
from huiyan.workflows.language.config import LanguageRun

TOKENS = "tokens"
"""The folder, in a run's folder, of the tokens of its text, until the run is finished."""
PARTS = ("train", "validation", "test")
HELD_OUT = 0.05
"""The share of the text that each of validation and test takes."""
_PREPARED = "prepared.json"
_NO_LIMIT = 1 << 30


@dataclass(frozen=True)
class Prepared:
    """A text as tokens.

    Args:
        tokenizer: of it.
        parts: train, validation and test.
        fingerprint: of the files and of what was made of them.
    """

    tokenizer: Tokenizer
    parts: dict[str, TokenFile]
    fingerprint: str

    def describe(self) -> dict[str, Any]:
        """How much there is of each part."""
        return {name: vars(part.counts) for name, part in self.parts.items()}


def prepare(run: LanguageRun, *, tokenizer: Tokenizer | None, out: Path, say: Callable[[str], None]) -> None:
    """Write the tokens of a run's text into its folder, unless they are there.

    Args:
        run: its files, and what a token is.
        tokenizer: of a model that goes on; None learns one from the training part.
        out: the folder of the run.
        say: told what is done.
    Raises:
        DataError: a file cannot be read, or there is too little text.
        ConfigError: a vocabulary too small for what a token is to be.
    """
    folder, options = out / TOKENS, run.text
    main = PlainText(run.texts, encoding=options.encoding)
    apart = {
        name: PlainText([path], encoding=options.encoding)
        for name, path in (("validation", options.validation), ("test", options.test))
        if path is not None
    }
    asked = {
        "texts": main.fingerprint(),
        "apart": {name: text.fingerprint() for name, text in apart.items()},
        "tokens": options.tokens if tokenizer is None else hashlib.sha256(tokenizer.to_json().encode()).hexdigest(),
        "vocab_size": options.vocab_size,
        "objective": run.model.objective,
    }
    if (folder / _PREPARED).is_file() and read_object(folder / _PREPARED, ArtifactError) == asked:
        return
    folder.mkdir(parents=True, exist_ok=True)
    n = main.count_characters()
    say(f"{n:,} characters in {_files(len(run.texts))} ({', '.join(sorted(set(main.encodings)))})")
    places, names = _places(n, [name for name in PARTS[1:] if name not in apart])
    if tokenizer is None:
        learnt_from = (piece for part, piece in cut_at(main.pieces(), places) if part == 0)
        tokenizer = learn_tokenizer(
            options.tokens, learnt_from, vocab_size=options.vocab_size, framed=run.model.is_masked
        )
        say(f"{tokenizer.vocab_size:,} tokens: {options.tokens}")
    own = tokenizer
    tokenizer.save(folder)

    def encode(texts: list[str]) -> list[Encoded]:
        if run.model.is_masked:
            return [Encoded(ids, begins) for ids, begins in own.encode_words(texts)]
        return [Encoded(ids) for ids in own.encode_plain(texts)]

    def every_piece() -> Iterator[tuple[int, str]]:
        for part, piece in cut_at(main.pieces(), places):
            yield PARTS.index(names[part]), piece
        for name, text in apart.items():
            for piece in text.pieces():
                yield PARTS.index(name), piece

    paths = [folder / name for name in PARTS]
    write_token_files(paths, every_piece(), encode, vocab_size=tokenizer.vocab_size, unknown_id=tokenizer.unknown_id)
    write_json(folder / _PREPARED, asked)


def open_prepared(out: Path) -> Prepared:
    """What ``prepare`` wrote.

    Raises:
        ArtifactError: a file is not there, or damaged.
    """
    folder = out / TOKENS
    parts = {name: TokenFile(folder / name) for name in PARTS}
    asked = read_object(folder / _PREPARED, ArtifactError, hint="Start again with --overwrite.")
    fingerprint = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
    return Prepared(Tokenizer.from_folder(folder), parts, fingerprint)


def figures(nats: float, n: int, part: TokenFile | None = None) -> dict[str, float]:
    """What a loss is in the units that people compare.

    Args:
        nats: −log p of `n` tokens, added up.
        n: tokens.
        part: the text they are of; without it there are no figures a character or byte.
    """
    loss = nats / n
    found = {"loss": loss, "perplexity": math.exp(min(loss, 700.0))}
    if part is not None:
        bits = loss / math.log(2) * part.counts.tokens
        found |= {
            "bits_per_character": bits / part.counts.characters,
            "bits_per_byte": bits / part.counts.bytes,
        }
    return found


def unknown_warning(name: str, part: TokenFile) -> str:
    """What to say where so much is unknown that the figures flatter; empty where it is not."""
    share = part.counts.unknown / max(part.counts.tokens, 1)
    if share < 1e-4:
        return ""
    return (
        f"{share:.2%} of the tokens of the {name} part are unknown, and count as one word whatever they are: figures a "
        "character or byte are better than they ought to be"
    )


def _places(n: int, held: list[str]) -> tuple[list[int], list[str]]:
    """Where a text of `n` characters is cut, and what its parts are."""
    size = max(1, round(n * HELD_OUT))
    if n < 3:
        raise DataError(f"A text of {n} characters is too short to learn from.", hint="Give it more text.")
    return [n - size * len(held[number:]) for number in range(len(held))], ["train", *held]


def _files(n: int) -> str:
    return "1 file" if n == 1 else f"{n} files"
