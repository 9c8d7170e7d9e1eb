"""Adaptive input and softmax: rare words have narrower rows, and are reached through a cluster.

Words are numbered by frequency. The first ``cutoffs[0]`` form the shortlist; each further cut-off begins a cluster.

Source: Grave et al. 2017 (softmax), Baevski and Auli 2019 (input), in the form of Transformer-XL's published code.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from huiyan.core.config import require


class AdaptiveEmbedding(nn.Module):
    """Rows of words, the rarer the narrower, brought to one width; times √width.

    Args:
        vocab_size: `v`.
        width: `m`, of what comes out.
        embedding_width: of the most frequent words; None is ``width``.
        cutoffs: where clusters begin; none is one table for all words.
        div_value: each cluster is so many times narrower than the one before. 1 is one table for all, of one width.
    Raises:
        ConfigError: cut-offs that do not ascend within the vocabulary, or a cluster without width.
    """

    def __init__(
        self,
        vocab_size: int,
        width: int,
        *,
        embedding_width: int | None = None,
        cutoffs: Sequence[int] = (),
        div_value: int = 1,
    ) -> None:
        super().__init__()
        self.ends = ends_of(vocab_size, cutoffs)
        self.width, self.vocab_size = width, vocab_size
        self.widths = widths_of(embedding_width or width, len(self.ends), div_value)
        if div_value == 1:
            self.tables = nn.ModuleList([nn.Embedding(vocab_size, self.widths[0])])
            projected = self.widths[0] != width
        else:
            sizes = _sizes(self.ends)
            self.tables = nn.ModuleList([nn.Embedding(*shape) for shape in zip(sizes, self.widths, strict=True)])
            projected = True
        shapes = [(width, table.embedding_dim) for table in self._tables()] if projected else []
        self.projections = nn.ParameterList([torch.empty(shape) for shape in shapes])
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw rows from N(0, 0.02²) and projections from N(0, 0.01²), as the published code."""
        for table in self._tables():
            nn.init.normal_(table.weight, std=0.02)
        for projection in self.projections:
            nn.init.normal_(projection, std=0.01)

    def reset_to_unit(self) -> None:
        """Draw rows and projections so that what comes out has variance 1."""
        for table in self._tables():
            nn.init.normal_(table.weight, std=self.width**-0.5)
        for projection in self.projections:
            nn.init.normal_(projection, std=projection.shape[1] ** -0.5)

    def forward(self, tokens: Int[Tensor, "*n"]) -> Float[Tensor, "*n m"]:
        """`…` → `… m`."""
        tables = self._tables()
        if len(tables) == 1:
            rows = self._wide(0, tables[0](tokens))
        else:
            flat, weight = tokens.flatten(), tables[0].weight
            rows = weight.new_zeros(len(flat), self.width)
            for number, (table, first, end) in enumerate(zip(tables, (0, *self.ends), self.ends, strict=False)):
                places = ((flat >= first) & (flat < end)).nonzero()[:, 0]
                own = self._wide(number, table(flat.index_select(0, places) - first))
                rows = rows.index_copy(0, places, own.to(rows.dtype))
            rows = rows.unflatten(0, tokens.shape)
        return rows * self.width**0.5

    @property
    def dtype(self) -> torch.dtype:
        """Of the rows."""
        return self._tables()[0].weight.dtype

    def _wide(self, number: int, rows: Tensor) -> Tensor:
        return functional.linear(rows, self.projections[number]) if len(self.projections) else rows

    def _tables(self) -> list[nn.Embedding]:
        return [table for table in self.tables if isinstance(table, nn.Embedding)]


class AdaptiveSoftmax(nn.Module):
    """The probability of words: of the shortlist and of each cluster at once, then within the cluster.

    Its word rows are those of an ``AdaptiveEmbedding``, or its own.

    Args:
        embedding: whose cut-offs and widths it has.
        tied_words: whether its rows are the embedding's.
        tied_projections: for each cluster, the shortlist first, whether its projection is the embedding's; False is
            none.
    Raises:
        ConfigError: a number of answers that is not that of the clusters.
    """

    def __init__(
        self, embedding: AdaptiveEmbedding, *, tied_words: bool = True, tied_projections: bool | Sequence[bool] = False
    ) -> None:
        super().__init__()
        self.ends, self.width, n = embedding.ends, embedding.width, len(embedding.ends)
        tied = [tied_projections] * n if isinstance(tied_projections, bool) else list(tied_projections)
        require(len(tied) == n, "tied_projections", f"an answer for each of {n} clusters", tied_projections)
        tables = [table.weight for table in embedding.tables if isinstance(table, nn.Embedding)]
        self.words = nn.ParameterList(tables if tied_words else [torch.empty_like(table) for table in tables])
        self.biases = nn.ParameterList([torch.empty(len(table)) for table in tables])
        n_clusters, widest = n - 1, embedding.widths[0]
        self.cluster_weight = nn.Parameter(torch.empty(n_clusters, widest)) if n_clusters else None
        self.cluster_bias = nn.Parameter(torch.empty(n_clusters)) if n_clusters else None
        self.projections = nn.ParameterList()
        if len(embedding.projections):
            # One table for all may still be brought to the width by a projection for each cluster.
            shared = [embedding.projections[min(number, len(tables) - 1)] for number in range(n)]
            self.projections.extend(
                one if is_tied else nn.Parameter(torch.empty_like(one))
                for one, is_tied in zip(shared, tied, strict=True)
            )
        self._borrowed = {id(parameter) for parameter in embedding.parameters()}
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw what is its own, as the published code: N(0, 0.02²), projections N(0, 0.01²), biases 0."""
        for parameters, deviation in ((self.words, 0.02), (self.projections, 0.01), (self.biases, 0.0)):
            for parameter in parameters:
                if id(parameter) not in self._borrowed:
                    nn.init.normal_(parameter, std=deviation)
        if self.cluster_weight is not None and self.cluster_bias is not None:
            nn.init.normal_(self.cluster_weight, std=0.02)
            nn.init.zeros_(self.cluster_bias)

    def forward(self, rows: Float[Tensor, "t m"], targets: Int[Tensor, " t"]) -> Float[Tensor, " t"]:
        """−log p of each target. Of the clusters only those are computed that a target lies in."""
        head = self._head(rows)
        if len(self.ends) == 1:
            return functional.nll_loss(head, targets, reduction="none")
        found = rows.new_zeros(len(rows), dtype=head.dtype)
        for number, (first, end) in enumerate(zip((0, *self.ends), self.ends, strict=False)):
            places = ((targets >= first) & (targets < end)).nonzero()[:, 0]
            own, near = targets.index_select(0, places) - first, head.index_select(0, places)
            if number:
                within = self._tail(number, rows.index_select(0, places))
                scores = near[:, -number] + within.gather(1, own[:, None])[:, 0]
            else:
                scores = near.gather(1, own[:, None])[:, 0]
            found = found.index_copy(0, places, -scores)
        return found

    def log_probabilities(self, rows: Float[Tensor, "t m"]) -> Float[Tensor, "t v"]:
        """log p of every word."""
        head = self._head(rows)
        parts = [head[:, : self.ends[0]]]
        parts += [head[:, -number, None] + self._tail(number, rows) for number in range(1, len(self.ends))]
        return torch.cat(parts, dim=1)

    def _head(self, rows: Tensor) -> Tensor:
        """The shortlist, then the clusters, the last one first: so does the published code."""
        weight, bias = self._of(0)
        if self.cluster_weight is not None and self.cluster_bias is not None:
            weight, bias = torch.cat((weight, self.cluster_weight)), torch.cat((bias, self.cluster_bias))
        return self._scores(0, rows, weight, bias)

    def _tail(self, number: int, rows: Tensor) -> Tensor:
        return self._scores(number, rows, *self._of(number))

    def _scores(self, number: int, rows: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        if len(self.projections):
            rows = functional.linear(rows, self.projections[number].t())
        return _precise(functional.linear(rows, weight, bias)).log_softmax(dim=-1)

    def _of(self, number: int) -> tuple[Tensor, Tensor]:
        """Rows and biases of a cluster."""
        if len(self.words) > 1 or len(self.ends) == 1:
            return self.words[number], self.biases[number]
        first, end = (0, *self.ends)[number], self.ends[number]
        return self.words[0][first:end], self.biases[0][first:end]


def ends_of(vocab_size: int, cutoffs: Sequence[int]) -> tuple[int, ...]:
    """Where each cluster ends, the shortlist first."""
    require(vocab_size > 0, "vocab_size", "at least 1", vocab_size)
    bounds = (0, *cutoffs, vocab_size)
    ascending = all(a < b for a, b in pairwise(bounds))
    require(ascending, "cutoffs", f"ascending, from 1 to {vocab_size - 1}", tuple(cutoffs))
    return bounds[1:]


def widths_of(width: int, n: int, div_value: int) -> list[int]:
    """Of each cluster's rows."""
    require(div_value > 0, "div_value", "at least 1", div_value)
    widths = [width // div_value**number for number in range(n)]
    require(
        widths[-1] > 0, "div_value", f"small enough to leave {n} clusters of width {width} a number each", div_value
    )
    return widths


def _sizes(ends: Sequence[int]) -> list[int]:
    return [end - first for first, end in zip((0, *ends), ends, strict=False)]


def _precise(scores: Tensor) -> Tensor:
    return scores.float() if scores.dtype in (torch.float16, torch.bfloat16) else scores
