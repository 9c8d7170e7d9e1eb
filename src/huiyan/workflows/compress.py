"""`huiyan compress`: a trained model made smaller by factorising its projections, and what that costs."""

import shlex
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from huiyan.core.config import Config, require
from huiyan.core.devices import pick_device
from huiyan.core.errors import ArtifactError, ConfigError, DataError, OutputError
from huiyan.core.files import write_json
from huiyan.data.examples import Examples, read_examples
from huiyan.data.rejected import RejectedRows
from huiyan.data.sample import spread
from huiyan.data.splits import split_rows
from huiyan.tasks.artifact import Artifact
from huiyan.workflows import run_folder
from huiyan.workflows.compressed import compare_models, write_compressed
from huiyan.workflows.evaluate import seen_in_training
from huiyan.workflows.fit import with_precision_checks
from huiyan.workflows.provenance import describe_run
from huiyan.workflows.rank_search import CALIBRATION_ROWS, choose_ranks
from huiyan.workflows.tables import SPLITS, with_known_labels

MAX_LOSS = 0.5
"""Accuracy points that ``auto`` may lose where nothing else is said."""
CHOOSING_ROWS = 2000
"""Every rank that is tried is measured on these; more would only make the search slower."""
FEW_ROWS = 200


@dataclass(frozen=True, kw_only=True)
class CompressConfig(Config):
    """How far a model is compressed.

    Attributes:
        rank: auto, a rank for every projection, or a share of the full rank such as 0.25.
        max_loss: Accuracy points that auto may lose on the rows it chooses by; 0.5 when not given.
    """

    rank: str | float = "auto"
    max_loss: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "rank", _read_rank(self.rank))
        if self.max_loss is not None:
            require(0 <= self.max_loss <= 100, "max_loss", "from 0 to 100 accuracy points", self.max_loss)
            if self.rank != "auto":
                raise ConfigError("--max-loss goes with --rank auto; a fixed rank was given.", hint="Leave one away.")

    @property
    def allowed_loss(self) -> float:
        """Accuracy points that ``auto`` may lose."""
        return MAX_LOSS if self.max_loss is None else self.max_loss


def compress(
    run: Path,
    file: str,
    config: CompressConfig | None = None,
    *,
    out: Path | None = None,
    overwrite: bool = False,
    encoding: str | None = None,
    device: str = "auto",
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Factorise the projections of a trained model, and write the smaller model as a run folder of its own.

    Half of the rows of ``file`` give the activations and choose the ranks; what the report says of accuracy is
    measured on the other half.

    Args:
        run: the folder of a trained model; column names are read from it.
        file: a table with known labels; ``-`` is standard input.
        config: which ranks.
        out: the folder to write; None is that of the run with "-compressed" after its name.
        overwrite: replace a run that is in ``out``.
        encoding: of a text file; None recognises it.
        device: where to compute.
        say: told how it goes.
    Returns:
        The report, as ``report.json`` holds it.
    Raises:
        ArtifactError: ``run`` is no model folder, or a compressed one.
        ConfigError: the rank saves nothing, or no rank keeps the accuracy.
        DataError: the table cannot be read, lacks a column the model was trained on, or has too few usable rows.
        OutputError: ``out`` is taken or cannot be written.
    """
    config, out = config or CompressConfig(), out or default_out(run)
    where = pick_device(device)
    before, after = (Artifact.load(run, device=where) for _ in range(2))
    if before.manifest.task != "classify":
        raise ArtifactError(f"{run} is for the task {before.manifest.task}; compress knows classify.")
    if before.model.config.encoder.ranks:
        raise ArtifactError(
            f"{run} is compressed already.",
            hint="Compress the run it was made from.",
        )
    _check_out(out, [file, str(run)], overwrite=overwrite)
    halves = _read_halves(run, file, before, config, encoding=encoding, say=say)
    with run_folder.made_whole(out) as fresh:
        trials = choose_ranks(after, halves.choosing, rank=config.rank, allowed_loss=config.allowed_loss, say=say)
        texts = halves.choosing.texts
        after = with_precision_checks(after, where, calibrating=texts[::2], checking=texts[1::2])
        after.save(fresh)
        if (run / SPLITS).is_file():
            # `evaluate` tells by it which texts the model was trained on.
            shutil.copyfile(run / SPLITS, fresh / SPLITS)
        say(f"comparing both on the other {len(halves.reporting):,} rows")
        report = _described(run, file, out, config, where) | {"data": halves.data}
        report |= compare_models(before, after, halves.reporting, trials, folders=(run, fresh))
        findings = _findings(report, config, has_exits=before.exits is not None)
        for warning in findings:
            say(f"warning: {warning}")
        report["warnings"] = [*halves.warnings, *findings]
        write_json(fresh / run_folder.RUN, report["run"])
        write_compressed(fresh, report, name=out.name)
    return report


def default_out(run: Path) -> Path:
    """The folder beside ``run`` with "-compressed" after its name."""
    named = run if run.name not in ("", "..") else run.resolve()
    return named.with_name(f"{named.name}-compressed")


def _read_rank(rank: str | float) -> str | float:
    expected = "auto, a whole number of at least 1, or a share between 0 and 1"
    value = rank
    if isinstance(rank, str) and rank != "auto":
        try:
            value = int(rank) if rank.isdecimal() else float(rank)
        except ValueError as error:
            raise ConfigError(f"The rank option must be {expected}. Got {rank!r} instead.") from error
    if isinstance(value, int | float):
        fits = value >= 1 if isinstance(value, int) else 0 < value < 1
        require(fits and not isinstance(value, bool), "rank", expected, rank)
    return value


def _check_out(out: Path, inputs: list[str], *, overwrite: bool) -> None:
    if out.is_dir() and any(out.iterdir()) and not overwrite:
        raise OutputError(
            f"--out {out} exists already.", hint="Use --overwrite to replace it, or name another folder with --out."
        )
    run_folder.check_out(out, inputs, resume=False, overwrite=overwrite)


@dataclass
class _Halves:
    """The two halves of a table, and what there is to tell of it."""

    choosing: Examples
    reporting: Examples
    data: dict[str, Any]
    warnings: list[str]


def _read_halves(
    run: Path,
    file: str,
    artifact: Artifact,
    config: CompressConfig,
    *,
    encoding: str | None,
    say: Callable[[str], None],
) -> _Halves:
    manifest = artifact.manifest
    with RejectedRows() as aside:
        read = read_examples(
            file,
            text=manifest.text_columns,
            text_pair=manifest.text_pair_columns,
            label=manifest.label_column,
            encoding=encoding,
            rejected=aside,
        )
        rows = with_known_labels(read, set(manifest.classes), aside, file)
    if aside.count:
        why = ", ".join(f"{reason} ({count})" for reason, count in aside.reasons.items())
        say(f"set aside {aside.count} rows: {why}; `huiyan evaluate --rejected FILE` lists them")
    if len(rows) < 2:
        raise DataError(
            f"{file} must have rows for two halves. Got {len(rows)} that can be used instead.",
            hint=f"Give a larger table; the model knows the labels {', '.join(manifest.classes)}.",
        )
    try:
        # Texts that are nearly alike stay on one side, or the half reported on would not be unseen.
        split = split_rows(rows.labels, rows.plain, seed=0, fractions=(0.5, 0.0, 0.5))
    except DataError as error:
        raise DataError(error.message, hint="Give a larger table, whose texts differ more.") from error
    choosing, reporting = rows.take(spread(split.train, CHOOSING_ROWS)), rows.take(split.test)
    seen = seen_in_training(run, rows.plain)
    data: dict[str, Any] = {
        "file": file,
        "rows_read": rows.rows_read,
        "rows_used": len(rows),
        "rejected_reasons": dict(aside.reasons),
        "choosing_rows": len(choosing),
        "calibration_rows": min(len(choosing), CALIBRATION_ROWS),
        "reporting_rows": len(reporting),
        "seen_in_training": seen,
    }
    say(f"read {file}: {len(choosing):,} rows to choose the ranks by, {len(reporting):,} others to report on")
    warnings = [*split.notes, *_cautions(len(choosing), config)]
    if seen:
        warnings.append(f"The model was trained on {seen} of these {len(rows)} texts, so the figures flatter it.")
    for warning in warnings:
        say(f"warning: {warning}")
    return _Halves(choosing, reporting, data, warnings)


def _cautions(n_rows: int, config: CompressConfig) -> list[str]:
    """What to say of how many rows the ranks are chosen by."""
    if n_rows < FEW_ROWS:
        few = f"Only {n_rows} rows to choose by: one of them is {100 / n_rows:.1f} accuracy points, and so few texts"
        return [f"{few} say little of the activations. Give a larger table."]
    if config.rank == "auto" and config.allowed_loss < 100 / n_rows:
        return [f"One of the {n_rows} rows to choose by is {100 / n_rows:.1f} accuracy points: none may be lost."]
    return []


def _findings(report: Mapping[str, Any], config: CompressConfig, *, has_exits: bool) -> list[str]:
    """What a reader of the result must not overlook."""
    findings: list[str] = []
    lost = -100 * report["comparisons"][0]["difference"]
    if config.rank == "auto" and lost > config.allowed_loss + 1e-9:
        findings.append(
            f"On the rows reported on accuracy fell by {lost:.2f} points, more than the {config.allowed_loss:g} "
            "that were kept to on the rows chosen by."
        )
    speed = report["speed"]["rows_per_second"]
    if speed["after"] <= speed["before"]:
        findings.append("The smaller model was not faster on this machine.")
    if has_exits:
        findings.append("The early exits are those of the full model, and so is their patience: measure them again.")
    return findings


def _described(run: Path, file: str, out: Path, config: CompressConfig, device: torch.device) -> dict[str, Any]:
    words = ["huiyan", "compress", str(run), "--data", file, "--rank", str(config.rank)]
    words += ["--max-loss", f"{config.allowed_loss:g}"] if config.rank == "auto" else []
    command = shlex.join([*words, "--out", str(out)])
    created = datetime.now(UTC).isoformat(timespec="seconds")
    return {
        "format": 1,
        "task": "compress",
        "created": created,
        "compressed_from": str(run),
        "options": {"rank": config.rank, "max_loss": config.allowed_loss if config.rank == "auto" else None},
        "reproduce": command,
        "run": {"created": created, "command": command, "config": config.to_dict(), "status": "finished"}
        | describe_run(device),
    }
