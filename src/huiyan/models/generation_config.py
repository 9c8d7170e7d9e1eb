"""How texts are written: options, and what a folder says of them. This file imports no torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from huiyan.core.config import Config, require
from huiyan.core.json_files import read_object
from huiyan.models.config import is_count
from huiyan.models.config_file import read_config

GENERATION_FILE = "generation_config.json"
MOST_TOKENS = 1_000_000
MOST_BEAMS = 1_000


@dataclass(frozen=True, kw_only=True)
class GenerationConfig(Config):
    """How a language model writes.

    Without ``sample`` the likeliest token is taken, or with ``n_beams`` the likeliest text is searched for.

    Args:
        max_tokens: to write at most, for each prompt.
        min_tokens: before a text may end.
        end_ids: tokens that end a text.
        stop_sequences: runs of tokens that end it, too.
        sample: whether tokens are drawn.
        temperature: scores are divided by it before a token is drawn.
        top_k: draw from the k likeliest; None is all.
        top_p: draw from the fewest tokens that together have this probability (Holtzman et al. 2020).
        min_p: draw from tokens that have this share of the likeliest one's probability (Nguyen et al. 2025).
        seed: of the drawing. What is drawn for a prompt depends on it and on the prompt's number alone.
        repetition_penalty: scores of tokens that stand in the text are divided by it, negative ones multiplied (Keskar
            et al. 2019).
        no_repeat_ngram: no run of so many tokens comes twice; None is no such rule.
        forbidden_ids: tokens that are never written.
        first_id: the first token of every text.
        last_id: the token that a text ends with which reaches ``max_tokens``.
        n_beams: texts that a search keeps.
        n_best: of them, how many are returned.
        length_penalty: log-probabilities are divided by length to this power: above 0 longer texts are preferred.
        early_stopping: True ends a search as soon as ``n_beams`` texts are finished; False when no text of the present
            length would be better; "never" when none of ``max_tokens`` could be.
        n_groups: of beams that differ from each other (Vijayakumar et al. 2018); a divisor of ``n_beams``.
        diversity: what a token loses for each group that has just taken it.
    """

    max_tokens: int = 64
    min_tokens: int = 0
    end_ids: tuple[int, ...] = ()
    stop_sequences: tuple[tuple[int, ...], ...] = ()
    sample: bool = False
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0
    min_p: float = 0.0
    seed: int = 0
    repetition_penalty: float = 1.0
    no_repeat_ngram: int | None = None
    forbidden_ids: tuple[int, ...] = ()
    first_id: int | None = None
    last_id: int | None = None
    n_beams: int = 1
    n_best: int = 1
    length_penalty: float = 1.0
    early_stopping: bool | Literal["never"] = False
    n_groups: int = 1
    diversity: float = 0.0

    def __post_init__(self) -> None:
        for name, most in (("max_tokens", MOST_TOKENS), ("n_beams", MOST_BEAMS), ("n_best", MOST_BEAMS)):
            value = getattr(self, name)
            require(is_count(value, most), name, f"a whole number from 1 to {most:,}", value)
        for name in ("top_k", "no_repeat_ngram"):
            value = getattr(self, name)
            require(value is None or is_count(value, MOST_TOKENS), name, "at least 1, or None", value)
        require(0 <= self.min_tokens <= self.max_tokens, "min_tokens", "from 0 to max_tokens", self.min_tokens)
        require(self.temperature > 0, "temperature", "above 0; for the likeliest token, sample=False", self.temperature)
        require(0 < self.top_p <= 1, "top_p", "above 0, at most 1", self.top_p)
        require(0 <= self.min_p <= 1, "min_p", "from 0 to 1", self.min_p)
        require(self.repetition_penalty > 0, "repetition_penalty", "above 0", self.repetition_penalty)
        runs = all(isinstance(run, Sequence) and not isinstance(run, str) and run for run in self.stop_sequences)
        require(runs, "stop_sequences", "runs of at least one token id", self.stop_sequences)
        require(self.n_best <= self.n_beams, "n_best", f"at most n_beams, {self.n_beams}", self.n_best)
        fits = is_count(self.n_groups, self.n_beams) and self.n_beams % self.n_groups == 0
        require(fits, "n_groups", f"a divisor of n_beams, {self.n_beams}", self.n_groups)
        require(self.diversity >= 0, "diversity", "at least 0", self.diversity)
        require(
            self.early_stopping in (True, False, "never"), "early_stopping", "True, False or never", self.early_stopping
        )
        require(not (self.sample and self.n_beams > 1), "sample", "False with beams, which search", self.sample)


def read_generation_config(folder: str | Path, **changes: Any) -> GenerationConfig:
    """What a folder says of how its model writes: generation_config.json, or config.json in old folders.

    Args:
        folder: of a language model.
        changes: options in place of those in the folder.
    Raises:
        SourceError: a file is missing or broken.
        ConfigError: an option that cannot be.
    """
    folder = Path(folder)
    values = dict(read_config(folder))
    if (folder / GENERATION_FILE).is_file():
        values |= {key: value for key, value in read_object(folder / GENERATION_FILE).items() if value is not None}
    single = [ids[0] for ids in values.get("bad_words_ids") or [] if len(ids) == 1]
    found: dict[str, Any] = {
        "end_ids": _ids(values.get("eos_token_id")),
        "sample": values.get("do_sample"),
        "temperature": values.get("temperature"),
        "top_k": values.get("top_k") or None,
        "top_p": values.get("top_p"),
        "min_p": values.get("min_p"),
        "repetition_penalty": values.get("repetition_penalty"),
        "no_repeat_ngram": values.get("no_repeat_ngram_size") or None,
        "forbidden_ids": tuple(single),
        "first_id": next(iter(_ids(values.get("forced_bos_token_id"))), None),
        "last_id": next(iter(_ids(values.get("forced_eos_token_id"))), None),
        "n_beams": values.get("num_beams"),
        "length_penalty": values.get("length_penalty"),
        "early_stopping": values.get("early_stopping"),
        "max_tokens": values.get("max_new_tokens"),
        "min_tokens": values.get("min_new_tokens"),
    }
    return GenerationConfig(**{key: value for key, value in found.items() if value is not None} | changes)


def _ids(value: Any) -> tuple[int, ...]:
    """One id, or several."""
    if value is None:
        return ()
    return tuple(value) if isinstance(value, list) else (int(value),)
