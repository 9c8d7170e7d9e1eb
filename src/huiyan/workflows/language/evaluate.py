"""`huiyan lm evaluate`: a language model on text that it has not seen."""

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from huiyan.core.devices import pick_device
from huiyan.core.errors import ConfigError
from huiyan.data.plain import PlainText
from huiyan.data.token_file import Encoded, TokenFile, write_token_files
from huiyan.models.segment_checkpoint import load_segment_model
from huiyan.models.segments import SegmentedDecoder, SegmentModel
from huiyan.models.transformer_xl import TransformerXL
from huiyan.tasks.language_model import Streams, total_loss
from huiyan.text.tokenise import Tokenizer
from huiyan.workflows.language.config import DEFAULT_READING, ReadingConfig
from huiyan.workflows.language.texts import figures, stream_count, unknown_warning

_STREAMS = 8


def evaluate_language_model(
    folder: str | Path,
    texts: Sequence[str],
    reading: ReadingConfig = DEFAULT_READING,
    *,
    note: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """The figures of a language model on texts.

    Args:
        folder: of the model.
        texts: files of plain text, read as one.
        reading: how.
        note: told what is done, and of what to keep in mind.
    Raises:
        HuiyanError: the folder or a file cannot be used, or the text is too short.
    """
    folder = Path(folder)
    model = _read_as(load_segment_model(folder), reading).to(pick_device(reading.device)).eval()
    tokenizer = Tokenizer.from_folder(folder)
    with tempfile.TemporaryDirectory(prefix="huiyan-") as work:
        path = Path(work) / "tokens"
        text = PlainText(texts, encoding=reading.encoding)
        pieces = ((0, piece) for piece in text.pieces())

        def encode(parts: list[str]) -> list[Encoded]:
            return [Encoded(ids) for ids in tokenizer.encode_plain(parts)]

        write_token_files([path], pieces, encode, vocab_size=tokenizer.vocab_size, unknown_id=tokenizer.unknown_id)
        part = TokenFile(path)
        for warning in (text.damage(), unknown_warning("text", part)):
            if warning:
                note(f"warning: {warning}")
        note(f"reading {len(part):,} tokens")
        length = reading.segment_length or 128
        if isinstance(model, SegmentedDecoder):
            length = min(length if reading.segment_length else model.max_length, model.max_length)
        began = time.monotonic()
        asked = reading.streams or stream_count(len(part), length, _STREAMS)
        streams = Streams(part.ids, n_streams=max(1, min(asked, len(part) - 1)), segment_length=length)
        nats, n = total_loss(model, streams)
        seconds = time.monotonic() - began
        return {
            "model": str(folder),
            "files": [str(name) for name in texts],
            "counts": vars(part.counts),
            "read": {"streams": streams.n_streams, "segment_length": length, "tokens": n, **_memory_of(model)},
            "test": figures(nats, n, part),
            "tokens_per_second": n / max(seconds, 1e-9),
        }


def _memory_of(model: SegmentModel) -> dict[str, Any]:
    """How a Transformer-XL remembered, so that a figure can be had again."""
    if not isinstance(model, TransformerXL):
        return {}
    return {name: getattr(model.config, name) for name in ("memory_length", "same_length", "clamp_length")}


def _read_as(model: SegmentModel, reading: ReadingConfig) -> SegmentModel:
    if reading.memory_length is None and not reading.same_length and reading.clamp_length is None:
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
