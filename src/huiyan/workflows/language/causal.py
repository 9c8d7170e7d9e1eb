"""Learning to guess the next token of streams of text."""

from pathlib import Path
from typing import Any

import torch

from huiyan.core.processes import process_count, process_number, sum_of_all
from huiyan.data.token_file import TokenFile
from huiyan.models.generation_config import GenerationConfig
from huiyan.models.segment_checkpoint import save_segment_model
from huiyan.models.segment_writer import RecurrentWriter
from huiyan.models.segments import SegmentedDecoder
from huiyan.models.transformer_xl import TransformerXL
from huiyan.tasks.language_model import StreamObjective, Streams, total_loss
from huiyan.workflows.language.config import LanguageRun
from huiyan.workflows.language.models import model_of
from huiyan.workflows.language.score import scored
from huiyan.workflows.language.score_picture import html_picture
from huiyan.workflows.language.texts import Prepared, figures, stream_count
from huiyan.workflows.writing import TextWriter

_PROMPT, _SAMPLE, _SHOWN = 16, 200, 400  # tokens


class CausalLearner:
    """A language model that reads streams.

    Args:
        run: its options.
        prepared: the text.
        device: where it learns.
    Raises:
        ConfigError: numbers that cannot be.
        SourceError: a folder to go on from that cannot be read.
    """

    def __init__(self, run: LanguageRun, prepared: Prepared, device: torch.device) -> None:
        self._run, self._prepared, self._device = run, prepared, device
        self.model = model_of(run.model, prepared.tokenizer, seed=run.training.seed).to(device)

    def objective(self) -> StreamObjective:
        """Streams of the training part."""
        streams = self._streams(self._prepared.parts["train"], self._most_streams)
        return StreamObjective(self.model, streams)

    def measure(self, part: TokenFile) -> dict[str, float]:
        """Its figures on a part of the text, all processes together."""
        n_streams = stream_count(len(part), self._run.model.segment_length, self._most_streams)
        nats, n = total_loss(self.model, self._streams(part, n_streams))
        return figures(sum_of_all(nats, self._device), round(sum_of_all(n, self._device)), part)

    def save(self, out: Path) -> None:
        """Write the model."""
        save_segment_model(self.model, out)

    def sample(self) -> dict[str, Any]:
        """What it writes after the beginning of the test part."""
        model, ids = self.model, self._prepared.parts["test"].ids[:_PROMPT].tolist()
        room = model.max_length - len(ids) if isinstance(model, SegmentedDecoder) else _SAMPLE
        keeps_nothing = isinstance(model, TransformerXL) and not model.config.memory_length
        if room < 1 or keeps_nothing:
            return {}
        writes = model.model if isinstance(model, SegmentedDecoder) else RecurrentWriter(model)
        writer, seed = TextWriter(writes, self._prepared.tokenizer), self._run.training.seed
        config = GenerationConfig(max_tokens=min(_SAMPLE, room), sample=True, top_p=0.9, seed=seed)
        text = "".join(writer.follow(ids, (), config))
        return {"prompt": self._prepared.tokenizer.decode(ids), "seed": seed, "text": text}

    def surprise(self) -> str:
        """The beginning of the test part."""
        tokenizer = self._prepared.tokenizer
        text = tokenizer.decode(self._prepared.parts["test"].ids[:_SHOWN].tolist())
        return html_picture(scored(self.model, tokenizer, text))

    @property
    def _most_streams(self) -> int:
        """As many as a batch of tokens has segments."""
        return self._run.training.batch_tokens // self._run.model.segment_length

    def _streams(self, part: TokenFile, most: int) -> Streams:
        """A part in the streams of this process."""
        length, count = self._run.model.segment_length, process_count()
        n_streams = max(1, min(most, (len(part) - 1) // count))
        return Streams(part.ids, n_streams=n_streams, segment_length=length, number=process_number(), count=count)
