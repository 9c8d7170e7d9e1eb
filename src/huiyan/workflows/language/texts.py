"""A text on its way into a language model: cut into parts, its tokens learnt and written to disk."""

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huiyan.core.errors import ArtifactError, DataError
from huiyan.core.files import write_json
from huiyan.core.json_files import read_object
from huiyan.core.processes import process_count
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
_LONG_STREAM = 16  # segments


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
        DataError: a file cannot be read, or a part has too little text for the processes that read it.
        ConfigError: a vocabulary too small for what a token is to be.
    """
    folder, options = out / TOKENS, run.text
    main = PlainText(run.texts, encoding=options.encoding)
    apart = {
        name: PlainText([path], encoding=options.encoding)
        for name, path in (("validation", options.validation), ("test", options.test))
        if path is not None
    }
    # What a file says depends on its encoding, given or recognised.
    asked = {
        "texts": main.fingerprint(),
        "apart": {name: text.fingerprint() for name, text in apart.items()},
        "encodings": [main.encodings, *(text.encodings for text in apart.values())],
        "tokens": options.tokens if tokenizer is None else hashlib.sha256(tokenizer.to_json().encode()).hexdigest(),
        "vocab_size": options.vocab_size,
        "objective": run.model.objective,
    }
    if (folder / _PREPARED).is_file() and read_object(folder / _PREPARED, ArtifactError) == asked:
        _refuse_short_parts(folder, run)
        return
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _PREPARED).unlink(missing_ok=True)  # it is not true of what is written now
    n = main.count_characters()
    for damaged in (main.damage(), *(text.damage() for text in apart.values() if text.count_characters())):
        if damaged:
            say(f"warning: {damaged}")
    say(f"{n:,} characters in {_files(len(run.texts))} ({', '.join(sorted(set(main.encodings)))})")
    places, names = _places(n, [name for name in PARTS[1:] if name not in apart])
    if tokenizer is None:
        learnt_from = (piece for part, piece in cut_at(main.pieces(), places) if part == 0)
        tokenizer = learn_tokenizer(
            options.tokens, learnt_from, vocab_size=options.vocab_size, framed=run.model.is_masked
        )
        say(f"{tokenizer.vocab_size:,} tokens: {options.tokens}")
    tokenizer.save(folder)

    def named_pieces() -> Iterator[tuple[str, str]]:
        for part, piece in cut_at(main.pieces(), places):
            yield names[part], piece
        for name, text in apart.items():
            for piece in text.pieces():
                yield name, piece

    paths, pieces = [folder / name for name in PARTS], _numbered(named_pieces(), run)
    write_tokens(paths, pieces, tokenizer, words=run.model.is_masked)
    _refuse_short_parts(folder, run)
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


def write_tokens(
    paths: Sequence[Path], pieces: Iterable[tuple[int, str]], tokenizer: Tokenizer, *, words: bool
) -> None:
    """Write texts as tokens.

    Args:
        paths: of the parts.
        pieces: a part's number and a piece of its text, in order.
        tokenizer: that makes the tokens.
        words: whether it is also written which of them begin a word.
    Raises:
        DataError: a part has no tokens.
    """

    def encode(texts: list[str]) -> list[Encoded]:
        if words:
            return [Encoded(ids, begins) for ids, begins in tokenizer.encode_words(texts)]
        return [Encoded(ids) for ids in tokenizer.encode_plain(texts)]

    write_token_files(paths, pieces, encode, vocab_size=tokenizer.vocab_size, unknown_id=tokenizer.unknown_id)


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


def stream_count(n_tokens: int, segment_length: int, most: int) -> int:
    """In how many streams a text is read to measure a model: each begins without a memory, so a short one has fewer.

    Args:
        n_tokens: of the text.
        segment_length: tokens that are read at a time.
        most: streams of a long text.
    """
    return max(1, min(most, n_tokens // (segment_length * _LONG_STREAM)))


def unknown_warning(name: str, part: TokenFile) -> str:
    """What to say where so much is unknown that the figures flatter; empty where it is not."""
    share = part.counts.unknown / max(part.counts.tokens, 1)
    if share < 1e-4:
        return ""
    told = (
        f"{share:.2%} of the tokens of the {name} are unknown, and count as one word whatever they are: figures are "
        "better than they ought to be"
    )
    return told if share < 0.1 else f"{told}. Tokens of another kind (--tokens bpe, chars or bytes) would know them"


def _places(n: int, held: list[str]) -> tuple[list[int], list[str]]:
    """Where a text of `n` characters is cut, and what its parts are."""
    size = max(1, round(n * HELD_OUT))
    if n < 3:
        raise DataError(f"A text of {n} characters is too short to learn from.", hint="Give it more text.")
    return [n - size * len(held[number:]) for number in range(len(held))], ["train", *held]


def _numbered(pieces: Iterator[tuple[str, str]], run: LanguageRun) -> Iterator[tuple[int, str]]:
    """Each piece with the number of its part; at the end, a part without any is told by its name."""
    empty = set(PARTS)
    for name, piece in pieces:
        empty.discard(name)
        yield PARTS.index(name), piece
    for name in PARTS:
        if name in empty:
            raise _too_short(name, 0, run)


def _refuse_short_parts(folder: Path, run: LanguageRun) -> None:
    """Before anything is learnt: a part that cannot be read at the end would make all of it useless."""
    for name in PARTS:
        n = len(TokenFile(folder / name))
        if n < _least_tokens(run):
            raise _too_short(name, n, run)


def _least_tokens(run: LanguageRun) -> int:
    """Of a part: for each process a token to guess and the one before it, or where words are hidden a row."""
    others = process_count() - 1
    return 1 + others * run.model.segment_length if run.model.is_masked else 2 + others


def _too_short(name: str, n: int, run: LanguageRun) -> DataError:
    own = {"validation": run.text.validation, "test": run.text.test}.get(name)
    return DataError(
        f"The {name} part, of {own or ', '.join(run.texts)}, has {n} token{'' if n == 1 else 's'}, and at least "
        f"{_least_tokens(run)} are needed.",
        hint="Give it more text." if process_count() == 1 else "Give it more text, or train in fewer processes.",
    )


def _files(n: int) -> str:
    return "1 file" if n == 1 else f"{n} files"
