"""What stands between a model's logits and the token that is taken: rules, and what is drawn from."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from huiyan.core.errors import ConfigError, WeightsError
from huiyan.models.generation_config import GenerationConfig


class Rules:
    """Rules of repetition, length and what is allowed, for a batch that changes.

    Args:
        config: the rules.
        texts: what each begins with, which counts as written for the repetition rules.
        most: tokens that each may write.
    """

    def __init__(self, config: GenerationConfig, texts: Sequence[Sequence[int]], most: Sequence[int]) -> None:
        self.config, self.most = config, list(most)
        self.before = [list(text) for text in texts]
        self._seen: Tensor | None = None

    def applied(
        self,
        scores: Float[Tensor, "b v"],
        written: Sequence[list[int]],
        allowed: Sequence[Sequence[int] | None],
    ) -> Float[Tensor, "b v"]:
        """Scores under the rules: what must not come has −∞.

        Args:
            scores: logits, or log-probabilities.
            written: tokens of each text.
            allowed: of each text, what may follow; None is all.
        Raises:
            ConfigError: nothing may follow on a text, or what is no token.
        """
        config, given = self.config, scores
        if config.repetition_penalty != 1.0:
            seen = self._seen_in(scores)
            less = torch.where(scores < 0, scores * config.repetition_penalty, scores / config.repetition_penalty)
            scores = torch.where(seen, less, scores)
        size = scores.shape[1]
        bans = [{token for token in self._banned(row, own) if 0 <= token < size} for row, own in enumerate(written)]
        if any(bans) or any(ids is not None for ids in allowed):
            scores = scores.clone() if scores is given else scores
            for row, banned in enumerate(bans):
                if banned:
                    scores[row, torch.tensor(sorted(banned), device=scores.device)] = -torch.inf
            for row, ids in enumerate(allowed):
                if ids is not None:
                    scores[row] = _only(scores[row], ids)
        for row, tokens in enumerate(written):
            forced = self._forced(row, tokens)
            if forced is not None:
                scores = scores.clone() if scores is given else scores
                scores[row] = _only(torch.zeros_like(scores[row]), [forced])
        return scores

    def taken(self, tokens: Sequence[int]) -> None:
        """One more token of every text."""
        for before, token in zip(self.before, tokens, strict=True):
            before.append(token)
        if self._seen is not None:
            columns = torch.tensor(tokens, device=self._seen.device)
            self._seen = self._seen.scatter(1, columns[:, None], value=True)

    def select(self, rows: Sequence[int]) -> None:
        """Go on with these texts."""
        self.before = [list(self.before[row]) for row in rows]
        self.most = [self.most[row] for row in rows]
        if self._seen is not None:
            self._seen = self._seen[torch.tensor(list(rows), device=self._seen.device)]

    def _seen_in(self, scores: Tensor) -> Tensor:
        if self._seen is None:
            self._seen = torch.zeros(scores.shape, dtype=torch.bool, device=scores.device)
            for row, before in enumerate(self.before):
                self._seen[row, torch.tensor(before, device=scores.device)] = True
        return self._seen

    def _banned(self, row: int, written: list[int]) -> set[int]:
        config = self.config
        banned = set(config.forbidden_ids)
        if len(written) < config.min_tokens:
            banned |= set(config.end_ids)
        if config.no_repeat_ngram is not None:
            banned |= _repeated(self.before[row], config.no_repeat_ngram)
        return banned

    def _forced(self, row: int, written: list[int]) -> int | None:
        config = self.config
        if not written and config.first_id is not None:
            return config.first_id
        return config.last_id if len(written) + 1 >= self.most[row] else None


def check_score(score: float) -> None:
    """Stop where the token that was taken has a score that no token should have.

    Raises:
        WeightsError: it is not a number.
        ConfigError: it is −∞: the rules leave no token.
    """
    if math.isnan(score):
        raise WeightsError(
            "The model's scores are not numbers (NaN): its weights are damaged, or the precision is too low for them.",
            hint="Try precision fp32; if that does not help, fetch the model again.",
        )
    if score == -math.inf:
        raise ConfigError(
            "The rules leave no token that may follow.", hint="Look at forbidden_ids, min_tokens, no_repeat_ngram."
        )


def drawn_from(scores: Float[Tensor, "b v"], config: GenerationConfig) -> Float[Tensor, "b v"]:
    """The probabilities that a token is drawn with: temperature, then the three cuts, one after the other.

    The likeliest token always stays.
    """
    scores = scores / config.temperature
    if config.top_k is not None and config.top_k < scores.shape[-1]:
        least = scores.topk(config.top_k, dim=-1).values[:, -1:]
        scores = scores.masked_fill(scores < least, -torch.inf)
    if config.top_p < 1:
        ordered, order = scores.sort(dim=-1)
        tail = ordered.softmax(dim=-1).cumsum(dim=-1) <= 1 - config.top_p
        tail[:, -1] = False
        scores = scores.masked_fill(tail.scatter(1, order, tail), -torch.inf)
    if config.min_p > 0:
        shares = scores.softmax(dim=-1)
        scores = scores.masked_fill(shares < config.min_p * shares.amax(dim=-1, keepdim=True), -torch.inf)
    return scores.softmax(dim=-1)


def draw_token(probabilities: Float[Tensor, " v"], generator: torch.Generator) -> Int[Tensor, ""]:
    """One token, by the inverse of the cumulative distribution: one number of the generator each.

    Drawn so, it does not depend on which other texts are in the batch.
    """
    at = torch.rand((), generator=generator, dtype=torch.float64)
    summed = probabilities.double().cumsum(dim=0)
    place = torch.searchsorted(summed, (at * summed[-1].cpu()).to(summed.device), right=True)
    return place.clamp(max=int(probabilities.nonzero()[-1]))


def _only(scores: Float[Tensor, " v"], ids: Sequence[int]) -> Float[Tensor, " v"]:
    if not ids:
        raise ConfigError(
            "Nothing is allowed to follow.", hint="Let `allowed` give at least one token, or None for all."
        )
    if min(ids) < 0 or max(ids) >= len(scores):
        raise ConfigError(f"Allowed tokens are numbers from 0 to {len(scores) - 1}. Got {min(ids)} to {max(ids)}.")
    kept = torch.tensor(list(ids), device=scores.device)
    return torch.full_like(scores, -torch.inf).index_copy(0, kept, scores[kept])


def _repeated(text: list[int], n: int) -> set[int]:
    """Tokens that would complete a run of n tokens that stands in the text already."""
    if len(text) < n:
        return set()
    last = text[len(text) - n + 1 :]
    return {text[at + n - 1] for at in range(len(text) - n + 1) if text[at : at + n - 1] == last}
