"""Which projections of a trained model get which rank: by the rows given, and nothing else."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import nn

from huiyan.core.config import require
from huiyan.core.errors import ConfigError
from huiyan.data.examples import Examples
from huiyan.data.sample import spread
from huiyan.models.low_rank import Factors, factorise, input_moments, largest_saving_rank, projections
from huiyan.tasks.artifact import Artifact
from huiyan.tasks.classify import class_indices
from huiyan.tasks.logits import logits_of, packed_batches

CALIBRATION_ROWS = 512
"""Activations are gathered on so many rows: tens of thousands of tokens, for matrices of some hundred columns."""
N_TRIALS = 8
LOSING = (1e-4, 0.7)
"""Between these shares of the energy the search looks for the one to give up."""


@dataclass(frozen=True)
class Trial:
    """One choice of ranks and what it gives on the rows chosen by.

    Args:
        ranks: of the projections that are factorised; the others stay whole.
        parameters: of the model with these ranks.
        accuracy: a share.
        probability: what the right labels are given, on average.
        error: the standard error of how far that is from the full model's, row by row.
        lost: the share of each matrix's energy that was given up; None where the ranks were fixed.
    """

    ranks: dict[str, int]
    parameters: int
    accuracy: float
    probability: float
    error: float
    lost: float | None = None

    def holds(self, original: "Trial", allowed_loss: float) -> bool:
        """Whether this loses at most so many points against the full model.

        Accuracy moves by whole rows, and the luckiest of several trials looks better than it is. What the right labels
        are given moves smoothly: it must not fall by more either, with a standard error to spare.
        """
        in_accuracy = original.accuracy - self.accuracy
        in_probability = original.probability - self.probability + self.error
        return 100 * max(in_accuracy, in_probability) <= allowed_loss + 1e-9


def choose_ranks(
    artifact: Artifact, rows: Examples, *, rank: str | float, allowed_loss: float, say: Callable[[str], None]
) -> list[Trial]:
    """Try ranks on a model, and leave it with the ones chosen.

    Args:
        artifact: the model; it is changed.
        rows: what activations are gathered from and accuracy is measured on.
        rank: "auto", a rank, or a share of the full rank; a matrix that it makes no smaller stays whole.
        allowed_loss: points that "auto" may lose (see ``Trial.holds``).
        say: told of every trial.
    Returns:
        The full model, then what was tried, the ranks chosen last.
    Raises:
        ConfigError: the rank saves nothing anywhere, or none that was tried keeps the accuracy.
    """
    encoder, full = artifact.model.encoder, projections(artifact.model.encoder)
    fixed = None if rank == "auto" else _fixed_ranks(full, rank)
    ids = artifact.tokenizer.encode_batch(rows.texts, max_length=artifact.manifest.max_length)
    labels = class_indices(rows.labels, artifact.manifest.classes)
    calibration = spread(ids, CALIBRATION_ROWS)
    say(f"gathering activations of {len(calibration):,} rows, and factorising {len(full)} matrices")
    with torch.inference_mode(), input_moments(encoder) as moments:
        # The encoder by itself: the head may need few of the last layer's rows, and those tell less of its inputs.
        for _, packed in packed_batches(encoder, calibration):
            encoder(packed)
    factors = {name: factorise(layer, moments[name]) for name, layer in full.items()}
    accuracy, of_full = _given_to(labels, artifact, ids)
    original = Trial({}, _size_of(artifact), accuracy, float(of_full.mean()), error=0.0)
    say(f"full: {_said(original, original)}")

    def attempt(ranks: dict[str, int], lost: float | None = None) -> Trial:
        _put(encoder, full, factors, ranks)
        accuracy, given = _given_to(labels, artifact, ids)
        error = float(np.std(given - of_full)) / len(given) ** 0.5
        return Trial(ranks, _size_of(artifact), accuracy, float(given.mean()), error, lost)

    if fixed is None:
        trials = _search(factors, attempt, original, allowed_loss, say)
        chosen = _smallest_that_holds(original, trials, allowed_loss)
        trials = [*(trial for trial in trials if trial is not chosen), chosen]
    else:
        trials = [chosen := attempt(fixed)]
        say(f"rank {rank}: {_said(chosen, original)}")
    _put(encoder, full, factors, chosen.ranks)
    encoder.config = replace(encoder.config, ranks=chosen.ranks)
    artifact.model.config = replace(artifact.model.config, encoder=encoder.config)
    return [original, *trials]


def _given_to(
    labels: Int[np.ndarray, " n"], artifact: Artifact, ids: list[list[int]]
) -> tuple[float, Float[np.ndarray, " n"]]:
    """The accuracy, and the probability given to each right label, `n`."""
    probabilities = artifact.manifest.decision.outputs(logits_of(artifact.model, ids)).astype(np.float64)
    right = probabilities.argmax(axis=1) == labels
    return float(right.mean()), probabilities[np.arange(len(labels)), labels]


def _size_of(artifact: Artifact) -> int:
    return sum(parameter.numel() for parameter in artifact.model.parameters())


def _search(
    factors: Mapping[str, Factors],
    attempt: Callable[[dict[str, int], float | None], Trial],
    original: Trial,
    allowed_loss: float,
    say: Callable[[str], None],
) -> list[Trial]:
    """Halve, again and again, the range of the share of energy that every matrix may lose."""
    low, high = np.log10(LOSING).tolist()
    trials: dict[tuple[int, ...], Trial] = {}
    for _ in range(N_TRIALS):
        middle = (low + high) / 2
        ranks = _ranks_losing(factors, 10**middle)
        key = tuple(ranks.get(name, 0) for name in factors)
        if ranks and key not in trials:
            trials[key] = attempt(ranks, 10**middle)
            say(f"losing {100 * 10**middle:.3g} % of the energy: {_said(trials[key], original)}")
        if not ranks or trials[key].holds(original, allowed_loss):
            low = middle
        else:
            high = middle
    return list(trials.values())


def _ranks_losing(factors: Mapping[str, Factors], share: float) -> dict[str, int]:
    wanted = {name: parts.rank_losing(share) for name, parts in factors.items()}
    return {name: rank for name, rank in wanted.items() if rank <= factors[name].saving_rank}


def _fixed_ranks(full: Mapping[str, nn.Linear], rank: str | float) -> dict[str, int]:
    ranks: dict[str, int] = {}
    ranges: list[tuple[int, int]] = []  # the largest rank that saves, and the full one
    for name, layer in full.items():
        widths = layer.in_features, layer.out_features
        ranges.append((largest_saving_rank(*widths), min(widths)))
        wanted = rank if isinstance(rank, int) else max(1, round(float(rank) * min(widths)))
        if wanted <= ranges[-1][0]:
            ranks[name] = wanted
    most, whole = max(ranges)
    expected = f"at most {most} of {whole}, or as a share {most / whole:.2f}, to make any matrix of this model smaller"
    require(bool(ranks), "rank", expected, rank)
    return ranks


def _put(
    encoder: nn.Module, full: Mapping[str, nn.Linear], factors: Mapping[str, Factors], ranks: Mapping[str, int]
) -> None:
    """Give each projection its rank, or make it whole again."""
    for name, whole in full.items():
        module = factors[name].layer(ranks[name]).to(whole.weight.device) if name in ranks else whole
        encoder.set_submodule(name, module)


def _smallest_that_holds(original: Trial, trials: list[Trial], allowed_loss: float) -> Trial:
    holding = [trial for trial in trials if trial.holds(original, allowed_loss)]
    if not holding:
        closest = max(trials, key=lambda trial: (trial.probability, -trial.parameters), default=original)
        raise ConfigError(
            f"No rank that was tried makes the model smaller and loses at most {allowed_loss:g} points for certain. "
            f"The closest: {_said(closest, original)}.",
            hint="Allow more with --max-loss, give a larger table, or name a --rank.",
        )
    return min(holding, key=lambda trial: trial.parameters)


def _said(trial: Trial, original: Trial) -> str:
    size = f"{trial.parameters:,} parameters"
    if trial is original:
        return f"{size}, accuracy {100 * trial.accuracy:.2f} %"
    points, given = 100 * (trial.accuracy - original.accuracy), 100 * (trial.probability - original.probability)
    changes = f"accuracy {points:+.2f} points, the right labels' probability {given:+.2f} ± {100 * trial.error:.2f}"
    return f"{size}, {changes.replace('-', '−')}"
