"""`huiyan lm evaluate`: a language model on text that it has not seen."""

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from huiyan.core.devices import pick_device
from huiyan.core.errors import ConfigError
from huiyan.data.plain import PlainText
from huiyan.data.token_file import TokenFile
from huiyan.models.masked import MaskedLanguageModel, guesses_words, load_masked_model
from huiyan.models.segment_checkpoint import load_segment_model
from huiyan.models.segments import SegmentedDecoder, SegmentModel
from huiyan.models.transformer_xl import TransformerXL
from huiyan.tasks.language_model import Streams, total_loss
from huiyan.tasks.masked import MaskedObjective
from huiyan.text.tokenise import Tokenizer
from huiyan.workflows.language.config import DEFAULT_READING, ReadingConfig
from huiyan.workflows.language.masked import frame_of, refuse_other_tokens
from huiyan.workflows.language.texts import figures, stream_count, unknown_warning, write_tokens

_STREAMS, _LENGTH = 8, 128
_HIDING_SEED, _BATCH_TOKENS = 0, 2048


def evaluate_language_model(
    folder: str | Path,
    texts: Sequence[str],
    reading: ReadingConfig = DEFAULT_READING,
    *,
    note: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """The figures of a language model on texts; of an encoder, how it guesses hidden words.

    Args:
        folder: of the model.
        texts: files of plain text, read as one.
        reading: how.
        note: told what is done, and of what to keep in mind.
    Raises:
        HuiyanError: the folder or a file cannot be used, or the text is too short.
    """
    folder = Path(folder)
    model = _masked(folder, reading) if guesses_words(folder) else _read_as(load_segment_model(folder), reading)
    model = model.to(pick_device(reading.device)).eval()
    tokenizer = Tokenizer.from_folder(folder)
    if isinstance(model, MaskedLanguageModel):
        refuse_other_tokens(model, tokenizer, str(folder))
    with tempfile.TemporaryDirectory(prefix="huiyan-") as work:
        path = Path(work) / "tokens"
        text = PlainText(texts, encoding=reading.encoding)
        pieces = ((0, piece) for piece in text.pieces())
        write_tokens([path], pieces, tokenizer, words=isinstance(model, MaskedLanguageModel))
        part = TokenFile(path)
        for warning in (text.damage(), unknown_warning("text", part)):
            if warning:
                note(f"warning: {warning}")
        note(f"reading {len(part):,} tokens")
        began = time.monotonic()
        if isinstance(model, MaskedLanguageModel):
            read, test = _guess(model, tokenizer, part, reading)
        else:
            read, test = _follow(model, part, reading)
        return {
            "model": str(folder),
            "files": [str(name) for name in texts],
            "counts": vars(part.counts),
            "read": read,
            "test": test,
            "tokens_per_second": read["tokens"] / max(time.monotonic() - began, 1e-9),
        }


def _follow(model: SegmentModel, part: TokenFile, reading: ReadingConfig) -> tuple[dict[str, Any], dict[str, float]]:
    """How a text was read, and what each token cost given those before it."""
    length = reading.segment_length or _LENGTH
    if isinstance(model, SegmentedDecoder):
        length = min(length if reading.segment_length else model.max_length, model.max_length)
    asked = reading.streams or stream_count(len(part), length, _STREAMS)
    streams = Streams(part.ids, n_streams=max(1, min(asked, len(part) - 1)), segment_length=length)
    nats, n = total_loss(model, streams)
    read = {"streams": streams.n_streams, "segment_length": length, "tokens": n, **_memory_of(model)}
    return read, figures(nats, n, part)


def _guess(
    model: MaskedLanguageModel, tokenizer: Tokenizer, part: TokenFile, reading: ReadingConfig
) -> tuple[dict[str, Any], dict[str, float]]:
    """How a text was read, and what each hidden token cost; hidden is what a run of seed 0 hides in its test part."""
    length = min(reading.segment_length or _LENGTH, model.config.max_length)
    rows = MaskedObjective(model, part, frame_of(tokenizer), row_length=length, seed=_HIDING_SEED)
    nats, right, n = rows.judge(batch_tokens=_BATCH_TOKENS)
    read = {"segment_length": length, "tokens": len(part), "hidden": n}
    return read, figures(nats, n) | {"masked_accuracy": right / n}


def _masked(folder: Path, reading: ReadingConfig) -> MaskedLanguageModel:
    if reading.streams is not None or _asks_for_memory(reading):
        raise ConfigError(
            "--streams, --memory-length, --same-length and --clamp-length are for models that read from left to "
            f"right. {folder} guesses hidden words.",
            hint="Leave them away.",
        )
    return load_masked_model(folder, seed=None)


def _asks_for_memory(reading: ReadingConfig) -> bool:
    return reading.memory_length is not None or reading.same_length or reading.clamp_length is not None


def _memory_of(model: SegmentModel) -> dict[str, Any]:
    """How a Transformer-XL remembered, so that a figure can be had again."""
    if not isinstance(model, TransformerXL):
        return {}
    return {name: getattr(model.config, name) for name in ("memory_length", "same_length", "clamp_length")}


def _read_as(model: SegmentModel, reading: ReadingConfig) -> SegmentModel:
    if not _asks_for_memory(reading):
        return model
    if not isinstance(model, TransformerXL):
        raise ConfigError(
            "--memory-length, --same-length and --clamp-length are for a Transformer-XL.", hint="Leave them away."
        )
    return model.with_other(
        memory_length=reading.memory_length,
        same_length=reading.same_length or None,
        clamp_length=reading.clamp_length,
    )
