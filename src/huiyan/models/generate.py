"""Texts from a language model: the likeliest token, a drawn one, or the likeliest text that a beam search finds.

Prompts of different lengths are one batch without padding, and a text that has ended leaves it.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from huiyan.core.config import require
from huiyan.core.errors import ConfigError, ShapeError
from huiyan.core.packed import Packed
from huiyan.models.generation_config import GenerationConfig
from huiyan.models.scores import Rules, check_score, draw_token, drawn_from
from huiyan.models.writes import Remembers, Writes

Allowed = Callable[[int, list[int]], Sequence[int] | None]
Stop = Callable[[int, list[int]], bool]
End = Literal["end", "stop", "length"]


@dataclass(frozen=True)
class Written:
    """A text that a model has written.

    Args:
        tokens: what follows on the prompt, the token that ended it included.
        log_probabilities: of each token, given those before it, under the model as it is (no rules, no temperature).
        ended: by "end" token, by a "stop" sequence, or by its "length".
        score: of a beam search, by which texts are ordered.
    """

    tokens: list[int]
    log_probabilities: list[float]
    ended: End
    score: float | None = None

    @property
    def log_probability(self) -> float:
        """Of the whole text."""
        return sum(self.log_probabilities)


class Token(NamedTuple):
    """A token as it is written: for which prompt, by its number; and why the text ends with it, or None."""

    text: int
    token: int
    log_probability: float
    ended: End | None


def generate_tokens(
    model: Writes,
    prompts: Sequence[Sequence[int]],
    config: GenerationConfig | None = None,
    *,
    begin: Sequence[Sequence[int]] | None = None,
    allowed: Allowed | None = None,
    stop: Stop | None = None,
    first_number: int = 0,
) -> list[list[Written]]:
    """What the model writes after each prompt.

    Args:
        model: in evaluation mode.
        prompts: token ids; of a model with an encoder, the sources.
        config: how it is written; None is the likeliest tokens.
        begin: with an encoder, how each text begins; None is with the token that its checkpoint names.
        allowed: given the number of a prompt and the tokens written so far, those that may follow; None is all.
        stop: given the same, whether the text ends there; asked after each token.
        first_number: of the prompts, for those that are one part of many.
    Returns:
        For each prompt ``config.n_best`` texts, the best first.
    Raises:
        ShapeError: a prompt is empty, too long, or has ids that are no tokens of the model.
        ConfigError: the model is in training mode, or nothing is allowed.
        WeightsError: the model's scores are not numbers.
    """
    config = config or GenerationConfig()
    if config.n_beams > 1:
        from huiyan.models.beams import search_beams

        return search_beams(model, prompts, config, begin=begin, allowed=allowed, stop=stop)
    written = [Written([], [], "length") for _ in prompts]
    steps = stream_tokens(model, prompts, config, begin=begin, allowed=allowed, stop=stop, first_number=first_number)
    for text, token, log_probability, ended in steps:
        one = written[text]
        one.tokens.append(token)
        one.log_probabilities.append(log_probability)
        if ended is not None:
            written[text] = Written(one.tokens, one.log_probabilities, ended)
    return [[one] for one in written]


def stream_tokens(
    model: Writes,
    prompts: Sequence[Sequence[int]],
    config: GenerationConfig | None = None,
    *,
    begin: Sequence[Sequence[int]] | None = None,
    allowed: Allowed | None = None,
    stop: Stop | None = None,
    first_number: int = 0,
    cache: Remembers | None = None,
) -> Iterator[Token]:
    """The same, token by token, as they are written: for each step one of every text that goes on.

    Args:
        model: as of ``generate_tokens``.
        prompts: as there.
        config: as there.
        begin: as there.
        allowed: as there.
        stop: as there.
        first_number: as there.
        cache: what the model has read before the prompts, to go on with; afterwards it holds the prompts and all that
            was written but the last token. None is nothing.
    Raises:
        ConfigError: a beam search is asked for, which knows its texts only when it has ended.
    """
    config = config or GenerationConfig()
    require(config.n_beams == 1, "n_beams", "1 where tokens are streamed", config.n_beams)
    start = begun(model, prompts, begin, read=0 if cache is None else cache.longest)
    held: Remembers = model.fresh_cache() if cache is None else cache
    return _written_by_turns(model, start, config, (allowed, stop), first_number, held)


@dataclass
class Start:
    """A batch as it begins.

    Args:
        texts: what the decoder begins with.
        sources: for the encoder, where there is one.
        room: tokens that each text may grow by.
    """

    texts: list[list[int]]
    sources: list[list[int]] | None
    room: list[int]

    def ask(self, model: Writes, cache: Remembers) -> Float[Tensor, "b v"]:
        """The first logits."""
        device = model.device
        source = None if self.sources is None else Packed.from_lists(self.sources, device)
        with torch.inference_mode():
            return model(Packed.from_lists(self.texts, device), source=source, cache=cache, only_last=True).float()


def ask_next(model: Writes, tokens: Sequence[int], cache: Remembers) -> Float[Tensor, "b v"]:
    """The logits after one more token of each text."""
    step = Packed(torch.tensor(tokens).to(model.device, non_blocking=True), torch.ones(len(tokens), dtype=torch.int64))
    with torch.inference_mode():
        return model(step, cache=cache, only_last=True).float()


def begun(
    model: Writes, prompts: Sequence[Sequence[int]], begin: Sequence[Sequence[int]] | None, *, read: int = 0
) -> Start:
    """What the decoder and the encoder begin with.

    Args:
        model: in evaluation mode.
        prompts: token ids.
        begin: of a model with an encoder, how each text begins.
        read: tokens that a cache holds already.
    Raises:
        ShapeError: a prompt is empty, too long, or has ids that are no tokens of the model.
        ConfigError: the model is in training mode.
    """
    if model.training:
        raise ConfigError("A model writes in evaluation mode. Got one in training mode.", hint="Call model.eval().")
    given = [list(map(int, prompt)) for prompt in prompts]
    _check_ids(given, model.vocab_size if model.source_vocab_size is None else model.source_vocab_size)
    if model.source_vocab_size is None:
        if begin is not None:
            raise ShapeError("A model without an encoder goes on with its prompts. Got begin= beside them.")
        texts, sources = given, None
    else:
        first = [model.start_id]
        texts = [list(map(int, one)) for one in begin] if begin is not None else [first] * len(given)
        _check_ids(texts, model.vocab_size)
        sources = given
        if len(texts) != len(sources):
            raise ShapeError(f"Every source has one beginning. Got {len(sources)} and {len(texts)}.")
    longest = model.max_length
    room = [longest - read - len(text) for text in texts]
    after = f" after {read}" if read else ""
    if room and min(room) < 1:
        raise ShapeError(
            f"A prompt of {longest - read - min(room)} tokens{after} leaves no room in the {longest} positions of this "
            "model.",
            hint=f"Cut the prompts to fewer than {longest - read} tokens.",
        )
    if len({len(text) for text in texts}) > 1 and not model.takes_any_lengths:
        raise ShapeError("This model goes on with texts of one length together.", hint="Write to one at a time.")
    return Start([list(text) for text in texts], sources, room)


def why_ended(tokens: list[int], config: GenerationConfig, room: int, *, stops: bool = False) -> End | None:
    """Whether a text ends with its last token, and why.

    Args:
        tokens: written so far.
        config: end tokens, stop sequences, and how many are written at most.
        room: how many there is room for.
        stops: whether somebody else's rule ends it.
    """
    if tokens[-1] in config.end_ids:
        return "end"
    if stops or any(tuple(tokens[-len(stop) :]) == stop for stop in config.stop_sequences):
        return "stop"
    return "length" if len(tokens) >= min(config.max_tokens, room) else None


def _written_by_turns(
    model: Writes,
    start: Start,
    config: GenerationConfig,
    asked: tuple[Allowed | None, Stop | None],
    first_number: int,
    cache: Remembers,
) -> Iterator[Token]:
    if not start.texts:
        return
    allowed, stop = asked
    texts = list(range(len(start.texts)))
    written: list[list[int]] = [[] for _ in texts]
    rules = Rules(config, start.texts, [min(room, config.max_tokens) for room in start.room])
    generators = [torch.Generator().manual_seed(config.seed * 1_000_003 + first_number + text) for text in texts]
    logits = start.ask(model, cache)
    while True:
        allowances = [None if allowed is None else allowed(text, written[text]) for text in texts]
        scores = rules.applied(logits, [written[text] for text in texts], allowances)
        if config.sample:
            drawn = drawn_from(scores, config)
            tokens = torch.stack([draw_token(row, generators[text]) for row, text in zip(drawn, texts, strict=True)])
        else:
            tokens = scores.argmax(dim=-1)
        chosen = logits.gather(1, tokens[:, None])[:, 0] - logits.logsumexp(dim=-1)
        ruled = scores.gather(1, tokens[:, None])[:, 0].tolist()
        going: list[int] = []
        step = tokens.tolist()
        for row, (text, token, log_probability) in enumerate(zip(texts, step, chosen.tolist(), strict=True)):
            check_score(log_probability if math.isnan(log_probability) else ruled[row])
            written[text].append(token)
            ended = why_ended(
                written[text], config, start.room[text], stops=stop is not None and stop(text, written[text])
            )
            if ended is None:
                going.append(row)
            yield Token(text, token, log_probability, ended)
        if not going:
            return
        rules.taken(step)
        if len(going) < len(texts):
            rows = torch.tensor(going)
            cache.select(rows)
            rules.select(going)
            texts, step = [texts[row] for row in going], [step[row] for row in going]
        logits = ask_next(model, step, cache)


def _check_ids(texts: Sequence[Sequence[int]], size: int) -> None:
    for number, text in enumerate(texts):
        if not text:
            raise ShapeError(f"A text goes on from at least one token. Number {number} has none.")
        if min(text) < 0 or max(text) >= size:
            raise ShapeError(
                f"Tokens are numbers from 0 to {size - 1}. Number {number} has {min(text)} to {max(text)}."
            )
