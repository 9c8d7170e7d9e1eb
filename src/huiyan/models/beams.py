"""Beam search: the likeliest texts that a search of limited width finds.

Source: the usual form, as in `transformers`, whose texts these are; groups that differ: Vijayakumar et al. 2018.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from huiyan.models.generate import Allowed, Stop, Written, ask_next, begun, why_ended
from huiyan.models.generation_config import GenerationConfig
from huiyan.models.scores import Rules, check_score
from huiyan.models.writes import Writes


@dataclass
class _Beam:
    """A text that may go on."""

    score: float
    tokens: list[int] = field(default_factory=list[int])
    log_probabilities: list[float] = field(default_factory=list[float])


@dataclass
class _Group:
    """The beams of one prompt, or those of them that search together.

    Args:
        text: the number of the prompt.
        width: beams at most.
        room: tokens there is room for.
        beams: that go on, the likeliest first; none where the search has ended.
        finished: texts that have ended, the best first.
    """

    text: int
    width: int
    room: int
    beams: list[_Beam] = field(default_factory=lambda: [_Beam(0.0)])
    finished: list[Written] = field(default_factory=list[Written])

    def advance(
        self,
        scores: Float[Tensor, "k v"],
        log_probabilities: Float[Tensor, "k v"],
        config: GenerationConfig,
        stop: Stop | None,
    ) -> list[int]:
        """One token more for every beam.

        Args:
            scores: log-probabilities of what follows on each beam, under the rules.
            log_probabilities: those of the model.
            config: of the search.
            stop: another rule that ends a text.
        Returns:
            For each beam that goes on, the one that it came from.
        """
        size = scores.shape[1]
        so_far = torch.tensor([beam.score for beam in self.beams], device=scores.device)
        summed = (scores + so_far[:, None]).flatten()
        # Enough for as many beams as before, should each of the best end.
        best = summed.topk(min(max(2, 1 + len(config.end_ids)) * self.width, len(summed)))
        going: list[tuple[int, _Beam]] = []
        ended: list[Written] = []
        for rank, (score, place) in enumerate(zip(best.values.tolist(), best.indices.tolist(), strict=True)):
            if rank == 0 or math.isnan(score):
                check_score(score)
            if score == -torch.inf:
                break
            source, token = divmod(place, size)
            beam, own = self.beams[source], float(log_probabilities[source, token])
            longer = _Beam(score, [*beam.tokens, token], [*beam.log_probabilities, own])
            stops = stop is not None and stop(self.text, longer.tokens)
            why = why_ended(longer.tokens, config, self.room, stops=stops)
            if why is None:
                going.append((source, longer))
            elif rank < self.width:
                normed = score / len(longer.tokens) ** config.length_penalty
                ended.append(Written(longer.tokens, longer.log_probabilities, why, normed))
        self.finished = sorted([*self.finished, *ended], key=_score, reverse=True)[: self.width]
        self.beams = [beam for _, beam in going[: self.width]]
        if self.beams and self._cannot_improve(config):
            self.beams = []
        return [source for source, _ in going[: len(self.beams)]]

    def _cannot_improve(self, config: GenerationConfig) -> bool:
        if len(self.finished) < self.width:
            return False
        if config.early_stopping is True:
            return True
        length = len(self.beams[0].tokens)
        if config.early_stopping == "never" and config.length_penalty > 0:
            length = min(config.max_tokens, self.room)
        return self.beams[0].score / length**config.length_penalty <= _score(self.finished[-1])


def search_beams(
    model: Writes,
    prompts: Sequence[Sequence[int]],
    config: GenerationConfig,
    *,
    begin: Sequence[Sequence[int]] | None = None,
    allowed: Allowed | None = None,
    stop: Stop | None = None,
) -> list[list[Written]]:
    """The ``config.n_best`` likeliest texts found for each prompt; the arguments are those of ``generate_tokens``."""
    start = begun(model, prompts, begin)
    if not start.texts:
        return []
    width = config.n_beams // config.n_groups
    searches = [[_Group(text, width, room) for _ in range(config.n_groups)] for text, room in enumerate(start.room)]
    cache = model.fresh_cache()
    rules = Rules(config, start.texts, [min(room, config.max_tokens) for room in start.room])
    logits = start.ask(model, cache)
    chosen = [text for text in range(len(searches)) for _ in range(config.n_groups)]
    if config.n_groups > 1:
        cache.select(torch.tensor(chosen))
        rules.select(chosen)
        logits = logits[torch.tensor(chosen, device=logits.device)]
    while True:
        log_probabilities = logits.log_softmax(dim=-1)
        going = [(group.text, beam.tokens) for search in searches for group in search for beam in group.beams]
        allowances = [None if allowed is None else allowed(text, tokens) for text, tokens in going]
        scores = rules.applied(log_probabilities, [tokens for _, tokens in going], allowances)
        chosen = _advance(searches, scores, log_probabilities, config, stop)
        if not chosen:
            break
        step = [beam.tokens[-1] for search in searches for group in search for beam in group.beams]
        cache.select(torch.tensor(chosen))
        rules.select(chosen)
        rules.taken(step)
        logits = ask_next(model, step, cache)
    found = [[text for group in search for text in group.finished] for search in searches]
    return [sorted(texts, key=_score, reverse=True)[: config.n_best] for texts in found]


def _advance(
    searches: list[list[_Group]],
    scores: Float[Tensor, "n v"],
    log_probabilities: Float[Tensor, "n v"],
    config: GenerationConfig,
    stop: Stop | None,
) -> list[int]:
    """One token more for every beam; the row that each one came from."""
    chosen: list[int] = []
    first = 0
    for search in searches:
        taken: list[int] = []  # by the groups before
        for group in search:
            own = slice(first, first + len(group.beams))
            first = own.stop
            if not group.beams:
                continue
            ranked = scores[own]
            if taken and config.diversity:
                counts = torch.bincount(torch.tensor(taken, device=scores.device), minlength=scores.shape[1])
                ranked = ranked - config.diversity * counts
            chosen += [own.start + source for source in group.advance(ranked, log_probabilities[own], config, stop)]
            taken += [beam.tokens[-1] for beam in group.beams]
    return chosen


def _score(text: Written) -> float:
    return text.score or 0.0
