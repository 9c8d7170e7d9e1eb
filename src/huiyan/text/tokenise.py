"""From texts to token ids and back to a folder that others can read."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
import tokenizers

from huiyan.core.errors import ConfigError, SourceError
from huiyan.core.files import atomic_text, write_json
from huiyan.core.json_files import read_object
from huiyan.core.texts import PairTokens, Text
from huiyan.text.older_files import tokenizer_from_older_files
from huiyan.text.words import word_spans

TOKENIZER_FILE = "tokenizer.json"
SETTINGS_FILE = "tokenizer_config.json"
SPECIAL_TOKENS_FILE = "special_tokens_map.json"

_ROLES = ("unk_token", "sep_token", "pad_token", "cls_token", "mask_token", "bos_token", "eos_token")
_BYTE = re.compile("<0x[0-9A-F]{2}>")
_SANE_LENGTH = 1_000_000  # `transformers` writes 1e30 where a tokenizer knows no limit
_COUNTED = 8192  # texts whose tokens are counted at a time


@dataclass(frozen=True)
class Piece:
    """A token of a text.

    Args:
        id: its number.
        name: as the vocabulary spells it.
        side: 0, or 1 for the second of two texts; None for a special token.
        span: which characters of that text it is made of; None likewise.
    """

    id: int
    name: str
    side: int | None
    span: tuple[int, int] | None


class Tokenizer:
    """A tokenizer that never pads, and cuts only when told where.

    It holds no state that encoding changes, so that threads can share it.

    Args:
        backend: what turns a text into ids.
        settings: what tokenizer_config.json says.
    """

    def __init__(self, backend: tokenizers.Tokenizer, settings: dict[str, Any] | None = None) -> None:
        self._backend = backend
        # Some tokenizer.json files have both baked in, and would pad or cut unasked.
        self._backend.no_padding()
        self._backend.no_truncation()
        self._settings = dict(settings or {})
        self._before, self._after = _frame(backend)
        self._pair = _pair_frame(backend)
        self._spells_bytes = backend.token_to_id("<0x00>") is not None
        added = backend.get_added_tokens_decoder()
        self._special_ids = frozenset(number for number, token in added.items() if token.special)

    @classmethod
    def from_folder(cls, folder: Path, *, target: bool = False) -> Self:
        """Read tokenizer.json; where there is none, what older checkpoints of the family have.

        That is vocab.txt, vocab.json with merges.txt, or a file of SentencePiece; see ``huiyan.text.older_files``.

        Args:
            folder: of a checkpoint.
            target: of a translation model with a tokenizer for each language (Marian), the one of what it writes.
        Raises:
            SourceError: none of the files is there, or one is broken.
        """
        settings = _settings_of(folder)
        path = folder / TOKENIZER_FILE
        if path.is_file():
            try:
                return cls(tokenizers.Tokenizer.from_str(path.read_text(encoding="utf-8")), settings)
            except Exception as error:  # the binding raises bare Exception
                raise SourceError(f"{path} is not a tokenizer: {error}.", hint="Fetch the model again.") from error
        return cls(*tokenizer_from_older_files(folder, settings, target=target))

    def encode_batch(self, texts: Sequence[Text], *, max_length: int) -> list[list[int]]:
        """Token ids of every text, special tokens included, cut at the right to ``max_length``.

        Two texts are joined as the tokenizer's own post-processor joins them, and the longer of the two is cut first.

        Raises:
            ConfigError: ``max_length`` leaves no room for a token of each text beside the special ones.
        """
        pairs = bool(texts) and not isinstance(texts[0], str)
        room = max_length - (self._pair.special if pairs else len(self._before) + len(self._after))
        if room < 1 + pairs:
            raise ConfigError(
                f"The max_length option must be at least {max_length - room + 1 + pairs}, "
                f"{'a token of each text' if pairs else 'one token'} beside the {max_length - room} special ones. "
                f"Got {max_length} instead."
            )
        if pairs:
            both = zip(*(self._encode(side) for side in _sides(texts)), strict=True)
            return [self._pair.joined(*_cut(first.ids, second.ids, room)) for first, second in both]
        return [[*self._before, *encoding.ids[:room], *self._after] for encoding in self._encode(texts)]

    def encode_plain(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of texts that are parts of one, so that none is framed or cut."""
        return [encoding.ids for encoding in self._encode(texts)]

    def encode_words(self, texts: Sequence[str]) -> list[tuple[list[int], np.ndarray]]:
        """The same, and which tokens begin a word (of Chinese, one of a dictionary's)."""
        found: list[tuple[list[int], np.ndarray]] = []
        for text, encoding in zip(
            texts, self._backend.encode_batch(list(texts), add_special_tokens=False), strict=True
        ):
            spans = np.asarray(encoding.offsets, dtype=np.int64).reshape(-1, 2)
            words = np.asarray(word_spans(text), dtype=np.int64).reshape(-1, 2)
            following = np.searchsorted(words[:, 0], spans[:, 0])
            begins = following < len(words)
            begins[begins] = words[following[begins], 0] < spans[begins, 1]
            around = np.searchsorted(words[:, 0], spans[:, 0], side="right") - 1
            inside = (around >= 0) & (spans[:, 0] < np.append(words[:, 1], 0)[around])
            found.append((encoding.ids, begins | ~inside))
        return found

    @property
    def frame(self) -> tuple[list[int], list[int]]:
        """The special tokens before and behind a single text."""
        return list(self._before), list(self._after)

    @property
    def mask_id(self) -> int | None:
        """The token that hides another; None when there is none."""
        return self._id_of("mask_token")

    def decode(self, ids: Sequence[int]) -> str:
        """The text that token ids spell, special tokens left out; bytes that are no whole character are "\ufffd".

        What further tokens add never changes what stands before such bytes.
        """
        decoder = self._backend.decoder
        if not self._spells_bytes or decoder is None:
            return self._backend.decode(list(ids), skip_special_tokens=True)
        # The backend gives up a whole run of bytes where one of them is wrong.
        special = self._special_ids
        names = [self._backend.id_to_token(token) or "" for token in ids if token not in special]
        spelled: list[str] = []
        for is_byte, run in groupby(names, key=lambda name: _BYTE.fullmatch(name) is not None):
            parts = list(run)
            spelled += [bytes(int(part[3:5], 16) for part in parts).decode(errors="replace")] if is_byte else parts
        return decoder.decode(spelled)

    def pieces(self, text: Text, *, max_length: int) -> "list[Piece]":
        """The tokens of a text, or of two, as ``encode_batch`` gives them, each with where it stands.

        Raises:
            ConfigError: as ``encode_batch``.
        """
        (ids,) = self.encode_batch([text], max_length=max_length)
        if isinstance(text, str):
            sides, frame = [text], (self._before, self._after)
        else:
            sides, frame = [*text], (self._pair.before, self._pair.between, self._pair.after)
        encodings = [self._encode([side])[0] for side in sides]
        room = len(ids) - sum(map(len, frame))
        kept = [room] if len(sides) == 1 else [len(side) for side in _cut(encodings[0].ids, encodings[1].ids, room)]
        places: list[tuple[int, tuple[int, int]] | None] = [None] * len(frame[0])
        for side, (encoding, n, after) in enumerate(zip(encodings, kept, frame[1:], strict=True)):
            places += [(side, span) for span in encoding.offsets[:n]] + [None] * len(after)
        return [
            Piece(token, self._backend.id_to_token(token) or "", *((None, None) if place is None else place))
            for token, place in zip(ids, places, strict=True)
        ]

    def count_tokens(self, texts: Sequence[Text]) -> list[int]:
        """Tokens of every text, or of two together, uncut, special tokens included."""
        if texts and not isinstance(texts[0], str):
            first, second = (self._lengths(side) for side in _sides(texts))
            return [one + other + self._pair.special for one, other in zip(first, second, strict=True)]
        special = len(self._before) + len(self._after)
        return [length + special for length in self._lengths(texts)]

    @property
    def vocab_size(self) -> int:
        """Ids that can come out, added tokens included."""
        return self._backend.get_vocab_size(with_added_tokens=True)

    @property
    def max_length(self) -> int | None:
        """The longest sequence that the checkpoint's authors allow, in tokens; None where they do not say."""
        length = self._settings.get("model_max_length")
        return int(length) if isinstance(length, int | float) and 0 < length <= _SANE_LENGTH else None

    @property
    def pad_id(self) -> int | None:
        """The id of the padding token; None where there is none."""
        return self._id_of("pad_token")

    @property
    def begin_id(self) -> int | None:
        """The id of the token that begins a text; None where there is none."""
        return self._id_of("bos_token")

    @property
    def end_id(self) -> int | None:
        """The id of the token that ends a text; None where there is none."""
        return self._id_of("eos_token")

    @property
    def unknown_id(self) -> int | None:
        """The id that stands for what the vocabulary does not have; None where there is none."""
        found = self._id_of("unk_token")
        if found is None:
            # Folders that do not say it leave it to the model of the tokenizer.
            token = getattr(self._backend.model, "unk_token", None)
            found = self._backend.token_to_id(token) if isinstance(token, str) else None
        return found

    @property
    def settings(self) -> dict[str, Any]:
        """What tokenizer_config.json said, special_tokens_map.json included."""
        return dict(self._settings)

    def to_json(self) -> str:
        """What tokenizer.json holds."""
        return self._backend.to_str(pretty=False)

    def save(self, folder: Path) -> None:
        """Write what ``from_folder`` and ``transformers.AutoTokenizer`` read, with equal ids.

        Raises:
            OutputError: the folder cannot be written.
        """
        with atomic_text(folder / TOKENIZER_FILE) as file:
            file.write(self.to_json())
        special = self._special_tokens()
        settings = {
            # The general class reads tokenizer.json as it is. Family classes build a tokenizer of their own instead.
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_input_names": self._settings.get("model_input_names", _input_names(self._backend, self._settings)),
            **({} if self.max_length is None else {"model_max_length": self.max_length}),
            **special,
        }
        write_json(folder / SETTINGS_FILE, settings)
        write_json(folder / SPECIAL_TOKENS_FILE, special)

    def _lengths(self, texts: Sequence[Text]) -> list[int]:
        # An encoding holds far more than its length, so not those of all texts at once.
        parts = (texts[start : start + _COUNTED] for start in range(0, len(texts), _COUNTED))
        return [len(encoding) for part in parts for encoding in self._encode(part)]

    def _encode(self, texts: Sequence[Text]) -> list[tokenizers.Encoding]:
        singles = cast("Sequence[str]", texts)
        try:
            return self._encode_whole(singles)
        except TypeError:
            # Half of a surrogate pair, which JSON can spell and UTF-8 cannot, is refused as if it were no text.
            return self._encode_whole(
                [text.encode("utf-16", "surrogatepass").decode("utf-16", "replace") for text in singles]
            )

    def _encode_whole(self, texts: Sequence[str]) -> list[tokenizers.Encoding]:
        if len(texts) == 1:
            # A batch wakes the backend's threads, and those then keep a core from the model's for a while.
            return [self._backend.encode(texts[0], add_special_tokens=False)]
        return self._backend.encode_batch_fast(list(texts), add_special_tokens=False)

    def _special_tokens(self) -> dict[str, str]:
        written = {role: _content(self._settings.get(role)) for role in _ROLES}
        return {role: token for role, token in written.items() if token is not None}

    def _id_of(self, role: str) -> int | None:
        token = self._special_tokens().get(role)
        return None if token is None else self._backend.token_to_id(token)


@dataclass(frozen=True)
class _PairFrame:
    """The special tokens around two texts that are read together; ``second`` tokens of ``between`` have type 0.

    It is None where every token has type 0.
    """

    before: list[int]
    between: list[int]
    after: list[int]
    second: int | None

    @property
    def special(self) -> int:
        return len(self.before) + len(self.between) + len(self.after)

    def joined(self, first: list[int], other: list[int]) -> list[int]:
        ids = [*self.before, *first, *self.between, *other, *self.after]
        return ids if self.second is None else PairTokens(ids, len(self.before) + len(first) + self.second)


def _frame(backend: tokenizers.Tokenizer) -> tuple[list[int], list[int]]:
    # The special tokens around a single text.
    framed = backend.encode(_probe(backend))
    content = _content_of(framed)
    return framed.ids[: content[0]], framed.ids[content[-1] + 1 :]


def _pair_frame(backend: tokenizers.Tokenizer) -> _PairFrame:
    probe = _probe(backend)
    framed = backend.encode(probe, probe)
    content = _content_of(framed)
    # Both sides are the same text, so the middle of what is content parts them.
    start, end = content[len(content) // 2 - 1] + 1, content[len(content) // 2]
    types = framed.type_ids[start:]
    return _PairFrame(
        framed.ids[: content[0]],
        framed.ids[start:end],
        framed.ids[content[-1] + 1 :],
        types.index(1) if 1 in types else None,
    )


def _probe(backend: tokenizers.Tokenizer) -> str:
    """A text that gives a token of its own."""
    for probe in ("a", "0", "的", "."):
        if _content_of(backend.encode(probe)):
            return probe
    raise SourceError("This tokenizer gives no token for any letter, so it cannot be used.")


def _content_of(framed: tokenizers.Encoding) -> list[int]:
    return [place for place, special in enumerate(framed.special_tokens_mask) if not special]


def _sides(pairs: Sequence[Text]) -> tuple[list[str], list[str]]:
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def _cut(first: list[int], second: list[int], room: int) -> tuple[list[int], list[int]]:
    """Both within ``room`` tokens: the longer one gives way first, then both have half (the longer one of an odd)."""
    if len(first) + len(second) <= room:
        return first, second
    short = min(len(first), len(second), room // 2)
    long = room - short
    return (first[:short], second[:long]) if len(first) <= len(second) else (first[:long], second[:short])


def _input_names(backend: tokenizers.Tokenizer, settings: dict[str, Any]) -> list[str]:
    # Token types are for families that tell the second text of a pair from the first. DistilBERT's tokenizer is
    # BERT's, and its model takes none.
    pairs_have_types = 1 in backend.encode("a", "a").type_ids
    has_types = pairs_have_types and not str(settings.get("tokenizer_class", "")).startswith("DistilBert")
    return ["input_ids", *(["token_type_ids"] if has_types else []), "attention_mask"]


def _settings_of(folder: Path) -> dict[str, Any]:
    # special_tokens_map.json first: where both name a token, tokenizer_config.json is the newer habit.
    settings: dict[str, Any] = {}
    for path in (folder / SPECIAL_TOKENS_FILE, folder / SETTINGS_FILE):
        settings |= read_object(path) if path.is_file() else {}
    return settings


def _content(token: Any) -> str | None:
    # A special token is written as its text, or as an object with the text in "content".
    content = cast("dict[str, Any]", token).get("content") if isinstance(token, dict) else token
    return content if isinstance(content, str) else None
