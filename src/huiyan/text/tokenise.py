"""From texts to token ids and back to a folder that others can read."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self, cast

import tokenizers

from huiyan.core.errors import ConfigError, SourceError
from huiyan.core.files import atomic_text, write_json
from huiyan.core.json_files import read_object
from huiyan.text.wordpiece import wordpiece_from_vocabulary

TOKENIZER_FILE = "tokenizer.json"
SETTINGS_FILE = "tokenizer_config.json"
SPECIAL_TOKENS_FILE = "special_tokens_map.json"
VOCABULARY_FILE = "vocab.txt"

_ROLES = ("unk_token", "sep_token", "pad_token", "cls_token", "mask_token", "bos_token", "eos_token")
_SANE_LENGTH = 1_000_000  # `transformers` writes 1e30 where a tokenizer knows no limit
_COUNTED = 8192  # texts whose tokens are counted at a time


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

    @classmethod
    def from_folder(cls, folder: Path) -> Self:
        """Read tokenizer.json; where there is none, build WordPiece from vocab.txt and tokenizer_config.json.

        Raises:
            SourceError: neither file is there, or one is broken.
        """
        settings = _settings_of(folder)
        path = folder / TOKENIZER_FILE
        if path.is_file():
            try:
                return cls(tokenizers.Tokenizer.from_str(path.read_text(encoding="utf-8")), settings)
            except Exception as error:  # the binding raises bare Exception
                raise SourceError(f"{path} is not a tokenizer: {error}.", hint="Fetch the model again.") from error
        if (folder / VOCABULARY_FILE).is_file():
            return cls(wordpiece_from_vocabulary(folder / VOCABULARY_FILE, settings), settings)
        raise SourceError(
            f"{folder} has no {TOKENIZER_FILE} and no {VOCABULARY_FILE}.",
            hint="Load the tokenizer once in transformers and call save_pretrained on the folder: it writes "
            f"{TOKENIZER_FILE}.",
        )

    def encode_batch(self, texts: Sequence[str], *, max_length: int) -> list[list[int]]:
        """Token ids of every text, special tokens included, cut at the right to ``max_length``.

        Raises:
            ConfigError: ``max_length`` leaves no room for a token beside the special ones.
        """
        room = max_length - len(self._before) - len(self._after)
        if room < 1:
            raise ConfigError(
                f"The max_length option must be at least {max_length - room + 1}, one token beside the "
                f"{max_length - room} special ones. Got {max_length} instead."
            )
        return [[*self._before, *encoding.ids[:room], *self._after] for encoding in self._encode(texts)]

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of every text uncut, special tokens included."""
        special = len(self._before) + len(self._after)
        # An encoding holds far more than its length, so not those of all texts at once.
        parts = (texts[start : start + _COUNTED] for start in range(0, len(texts), _COUNTED))
        return [len(encoding) + special for part in parts for encoding in self._encode(part)]

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

    def _encode(self, texts: Sequence[str]) -> list[tokenizers.Encoding]:
        try:
            return self._encode_whole(texts)
        except TypeError:
            # Half of a surrogate pair, which JSON can spell and UTF-8 cannot, is refused as if it were no text.
            return self._encode_whole(
                [text.encode("utf-16", "surrogatepass").decode("utf-16", "replace") for text in texts]
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


def _frame(backend: tokenizers.Tokenizer) -> tuple[list[int], list[int]]:
    # The special tokens around a single text, seen on the first probe that gives a token of its own.
    for probe in ("a", "0", "的", "."):
        framed = backend.encode(probe)
        content = [i for i, special in enumerate(framed.special_tokens_mask) if not special]
        if content:
            return framed.ids[: content[0]], framed.ids[content[-1] + 1 :]
    raise SourceError("This tokenizer gives no token for any letter, so it cannot be used.")


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
