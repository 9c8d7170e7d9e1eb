"""Text in, text out: a language model with its tokenizer."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from huiyan.core.config import require
from huiyan.core.devices import pick_device, resolve_precision
from huiyan.core.errors import ConfigError, ShapeError
from huiyan.models.generate import End, Stop, Written, generate_tokens, stream_tokens
from huiyan.models.generation_config import GenerationConfig, read_generation_config
from huiyan.models.inference import language_model_for_inference
from huiyan.models.language_checkpoint import load_language_model
from huiyan.models.segment_checkpoint import is_segment_folder, load_segment_model
from huiyan.models.segment_writer import RecurrentWriter
from huiyan.models.writes import Remembers, Writes
from huiyan.text.tokenise import Tokenizer

_NO_LIMIT = 1 << 30
_UNFINISHED = "\ufffd"  # bytes that are no whole character yet


@dataclass(frozen=True)
class WrittenText:
    """A text that a model has written.

    Args:
        text: what follows on the prompt; without special tokens, and without the text that stopped it.
        tokens: as many as were written.
        log_probability: of all of them, under the model as it is.
        ended: by an "end" token, by a "stop", or by its "length".
    """

    text: str
    tokens: int
    log_probability: float
    ended: End


class TextWriter:
    """A language model that reads and writes texts.

    Args:
        model: in evaluation mode: what ``language_model_for_inference`` gives, or ``RecurrentWriter``.
        tokenizer: of what it reads.
        target_tokenizer: of what it writes; None is the same.
        config: how it writes.
    """

    def __init__(
        self,
        model: Writes,
        tokenizer: Tokenizer,
        *,
        target_tokenizer: Tokenizer | None = None,
        config: GenerationConfig | None = None,
    ) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.target_tokenizer = tokenizer if target_tokenizer is None else target_tokenizer
        config = config or GenerationConfig()
        end = self.target_tokenizer.end_id
        self.config = config if config.end_ids or end is None else replace(config, end_ids=(end,))

    @classmethod
    def load(cls, folder: str | Path, *, device: str = "auto", precision: str = "fp32", **options: Any) -> Self:
        """The language model of a folder in the layout of `transformers`, made to answer fast.

        Args:
            folder: config.json, safetensors and the files of a tokenizer.
            device: "auto" (the first GPU, else the CPU), "cpu", "cuda", "mps".
            precision: "fp32", "bf16", "fp16", or "auto": bf16 where the machine multiplies it. Models that carry a
                memory write in fp32.
            options: of ``GenerationConfig``, in place of what the folder says.
        Raises:
            SourceError: a file is missing or broken.
            UnknownFamilyError: it is of a family we do not read.
            WeightsError: weights are missing, left over or of another shape.
            ConfigError: an option that cannot be.
        """
        folder = Path(folder)
        config = read_generation_config(folder, **options)
        tokenizer = Tokenizer.from_folder(folder)
        target = Tokenizer.from_folder(folder, target=True) if (folder / "target.spm").is_file() else None
        on = pick_device(device)
        if is_segment_folder(folder):
            return cls(RecurrentWriter(load_segment_model(folder).to(on)), tokenizer, config=config)
        model = load_language_model(folder).to(on)
        fast = language_model_for_inference(model, resolve_precision(precision, on))
        return cls(fast, tokenizer, target_tokenizer=target, config=config)

    def write(
        self, prompts: Sequence[str], *, stops: Sequence[str] = (), batch_size: int = 16, **options: Any
    ) -> list[list[WrittenText]]:
        """What the model writes after each prompt, or, with an encoder, from each source.

        Args:
            prompts: texts.
            stops: a text ends before the first of these.
            batch_size: prompts that are written to at a time.
            options: of ``GenerationConfig``, for this call.
        Returns:
            For each prompt ``n_best`` texts, the best first.
        Raises:
            ShapeError: a prompt is too long for the model; or empty, where the model has no token that begins a text.
            ConfigError: an option that cannot be.
        """
        return [own for _, own in self.write_each(prompts, stops=stops, batch_size=batch_size, **options)]

    def write_each(
        self, prompts: Sequence[str], *, stops: Sequence[str] = (), batch_size: int = 16, **options: Any
    ) -> Iterator[tuple[str, list[WrittenText]]]:
        """The same, each prompt with its texts, batch by batch.

        Raises:
            ShapeError: as ``write``.
            ConfigError: as ``write``.
        """
        config = self.changed(options)
        require(batch_size > 0, "batch_size", "at least 1", batch_size)
        batch_size = batch_size if self.model.takes_any_lengths else 1
        ids = self._ids(prompts)
        for first in range(0, len(ids), batch_size):
            batch = ids[first : first + batch_size]
            written = generate_tokens(self.model, batch, config, stop=self._stop(batch, stops), first_number=first)
            for prompt, own, texts in zip(prompts[first : first + batch_size], batch, written, strict=True):
                yield prompt, [self._read(own, one, stops) for one in texts]

    def stream(self, prompt: str, *, stops: Sequence[str] = (), **options: Any) -> Iterator[str]:
        """The text that follows on a prompt, in pieces as they are written.

        A piece comes when its characters are whole and cannot be the beginning of a stop.

        Raises:
            ShapeError: as ``write``.
            ConfigError: as ``write``; or a beam search is asked for.
        """
        (ids,) = self._ids([prompt])
        yield from self.follow(ids, stops, self.changed(options))

    def session(self) -> "Session":
        """Turns of one text: what was read and written before is remembered, and read once.

        Raises:
            ConfigError: the model writes from a source, and has no text to go on with.
        """
        return Session(self)

    def follow(
        self,
        ids: list[int],
        stops: Sequence[str],
        config: GenerationConfig,
        *,
        cache: Remembers | None = None,
        tokens: list[int] | None = None,
    ) -> Iterator[str]:
        """What follows on token ids, as ``stream``.

        Args:
            ids: of the prompt.
            stops: a text ends before the first of these.
            config: how it is written.
            cache: what the model has read before; these tokens are added.
            tokens: to which the tokens written are added.
        """
        told, tokens = 0, list[int]() if tokens is None else tokens
        steps = stream_tokens(self.model, [ids], config, stop=self._stop([ids], stops), cache=cache)
        for step in steps:
            tokens.append(step.token)
            text = self._text(ids, tokens)
            ends = [text.find(stop) for stop in stops if stop in text]
            sure = min(ends) if ends else len(text)
            if step.ended is None:
                sure = min(sure, _surely(text, stops))
            if sure > told:
                yield text[told:sure]
                told = sure

    def changed(self, options: dict[str, Any]) -> GenerationConfig:
        """How it writes, with these options in place of its own.

        Raises:
            ConfigError: an option that cannot be.
        """
        unknown = sorted(options.keys() - vars(self.config).keys())
        require(not unknown, "writing", f"one of {', '.join(vars(self.config))}", ", ".join(unknown))
        return replace(self.config, **options)

    def _ids(self, prompts: Sequence[str]) -> list[list[int]]:
        are_texts = not isinstance(prompts, str) and all(isinstance(prompt, str) for prompt in prompts)
        require(are_texts, "prompts", "a sequence of texts", prompts)
        begin = self.tokenizer.begin_id
        ids = [list(ids) for ids in self.tokenizer.encode_batch(prompts, max_length=_NO_LIMIT)]
        empty = next((number for number, own in enumerate(ids, start=1) if not own), None)
        if empty is not None and begin is None:
            raise ShapeError(
                f"Text {empty} of {len(ids)} is empty, and this model has no token that begins a text.",
                hint="Leave empty texts and blank lines out.",
            )
        return [own or [begin or 0] for own in ids]

    def ids_of(self, text: str, *, begins: bool) -> list[int]:
        """Token ids of a text, without special tokens unless it begins one.

        Raises:
            ShapeError: it begins a text and is empty, and the model has no token for that.
        """
        if begins:
            return self._ids([text])[0]
        return self.tokenizer.encode_plain([text])[0]

    def _text(self, prompt: list[int], tokens: list[int]) -> str:
        """What tokens spell behind their prompt: the first of them may begin with a space."""
        if self.model.source_vocab_size is not None:
            return self.target_tokenizer.decode(tokens)
        before = prompt[-4:]
        return self.tokenizer.decode([*before, *tokens])[len(self.tokenizer.decode(before)) :]

    def _stop(self, prompts: list[list[int]], stops: Sequence[str]) -> Stop | None:
        require(all(stops) and not isinstance(stops, str), "stops", "texts, none of them empty", stops)
        if not stops:
            return None
        return lambda number, tokens: any(stop in self._text(prompts[number], tokens) for stop in stops)

    def _read(self, prompt: list[int], written: Written, stops: Sequence[str]) -> WrittenText:
        text = self._text(prompt, written.tokens)
        ends = [text.find(stop) for stop in stops if stop in text]
        text = text[: min(ends)] if ends else text
        return WrittenText(text, len(written.tokens), written.log_probability, written.ended)


class Session:
    """A text that a person and a model write by turns; of the model's memory nothing is computed twice.

    Args:
        writer: the model.
    Raises:
        ConfigError: the model writes from a source, and has no text to go on with.
    """

    def __init__(self, writer: TextWriter) -> None:
        if writer.model.source_vocab_size is not None:
            raise ConfigError("A model that writes from a source remembers no turns.", hint="Call stream for each.")
        self.writer = writer
        self._cache: Remembers = writer.model.fresh_cache()
        self._unread: list[int] = []

    @property
    def tokens(self) -> int:
        """Of all turns so far, the model's own included."""
        return self._cache.longest + len(self._unread)

    def go_on(self, text: str, *, stops: Sequence[str] = (), **options: Any) -> Iterator[str]:
        """Add ``text``, and give what the model writes after it in pieces, as ``TextWriter.stream``.

        What is not asked for any more, when the caller stops early, is not written.

        Raises:
            ShapeError: the text so far is too long for the model, or empty at the beginning.
            ConfigError: an option that cannot be.
        """
        writer = self.writer
        config = writer.changed(options)
        ids = writer.ids_of(text, begins=not self.tokens)
        prompt = [*self._unread, *ids]
        if not prompt:
            raise ShapeError("There is nothing to go on with.", hint="Give the first turn a text.")
        written: list[int] = []
        try:
            yield from writer.follow(prompt, stops, config, cache=self._cache, tokens=written)
        finally:
            # The last token was written and not read.
            self._unread = written[-1:]


def _surely(text: str, stops: Sequence[str]) -> int:
    """How much of an unfinished text stands, whatever follows."""
    whole = len(text.rstrip(_UNFINISHED))
    held = (size for stop in stops for size in range(len(stop) - 1, 0, -1) if text.endswith(stop[:size]))
    return min(whole, len(text) - max(held, default=0))
