"""The three splits of a run, from one to three files, with everything that was set aside and why."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from huiyan.core.errors import DataError
from huiyan.core.texts import plain
from huiyan.data.examples import Examples, read_examples
from huiyan.data.labels import LabelReader, names_in
from huiyan.data.overlap import Overlap, overlap_of
from huiyan.data.quality import check_usable
from huiyan.data.rejected import RejectedRows
from huiyan.data.splits import Splits, split_rows, text_sha256, write_splits
from huiyan.data.tables import open_table
from huiyan.workflows import wording
from huiyan.workflows.config import DataConfig, TrainRun
from huiyan.workflows.run_folder import REJECTED

SPLITS = "splits.jsonl"
OWN_SPLITS = (0.8, 0.1, 0.1)
"""Training, validation and test when one file is all there is."""
VALIDATION_ONLY = (0.9, 0.1, 0.0)
"""When the test rows are given and the validation rows are not."""
TEST_ONLY = (0.9, 0.0, 0.1)
"""When the validation rows are given and the test rows are not."""


@dataclass
class Tables:
    """Training, validation and test rows, and what happened on the way to them.

    Args:
        splits: the rows of ``train``, ``validation`` and ``test``.
        read: what was told about each file, by name.
        rejected: the rows set aside, in a temporary file until ``write`` puts it into the run's folder.
        warnings: what the reader of the report should know.
        overlap: texts that the files, as they were given, have twice.
    """

    splits: dict[str, Examples]
    read: dict[str, Examples]
    rejected: RejectedRows
    warnings: list[str]
    overlap: Overlap

    @property
    def train(self) -> Examples:
        """Rows to learn from."""
        return self.splits["train"]

    @property
    def validation(self) -> Examples:
        """Rows that pick the best checkpoint."""
        return self.splits["validation"]

    @property
    def test(self) -> Examples:
        """Rows that are looked at once, at the end."""
        return self.splits["test"]

    def warn(self, text: str, say: Callable[[str], None]) -> None:
        """Say a warning, and keep it for the report."""
        self.warnings.append(text)
        say(f"warning: {text}")

    def write(self, out: Path) -> None:
        """Write down which row went to which split, and the rejected rows if there are any."""
        write_splits(
            out / SPLITS,
            (
                (source, name, text_sha256(text))
                for name, examples in self.splits.items()
                for source, text in zip(examples.sources, examples.plain, strict=True)
            ),
        )
        if self.rejected.path is not None and self.rejected.count:
            shutil.copyfile(self.rejected.path, out / REJECTED)

    def describe(self, run: TrainRun) -> dict[str, Any]:
        """Where the rows came from, for the ``data`` part of the report."""
        return {
            "files": {"train": run.file, "validation": run.data.validation, "test": run.data.test},
            "text_columns": list(run.data.text),
            "text_pair_columns": list(run.data.text_pair),
            "label_column": run.data.label,
            "group_column": run.data.group,
            "encodings": {
                name: examples.encoding.name for name, examples in self.read.items() if examples.encoding is not None
            },
            "rows_read": sum(examples.rows_read for examples in self.read.values()),
            "rows_used": sum(len(examples) for examples in self.splits.values()),
            "rows_rejected": self.rejected.count,
            "rejected_reasons": dict(self.rejected.reasons),
        }


def read_tables(
    file: str, data: DataConfig, *, seed: int, folder: Path, say: Callable[[str], None], tested: bool = True
) -> Tables:
    """Read FILE and the files given for validation and test, and split what is not given.

    Args:
        file: the table to learn from.
        data: columns, further files, encoding.
        seed: of the split.
        folder: where the rejected rows are kept for the time being.
        say: told, line by line, what was found.
        tested: whether to set test rows apart; without, ``test`` is not among the splits.
    Raises:
        DataError: a file or a column cannot be used, or too few rows can.
    """
    _refuse_one_file_twice(file, data)
    for path in (data.validation, data.test):
        if path is not None and path != "-" and not Path(path).exists():
            open_table(path).close()  # says what is wrong, before the main file is read
    given: dict[str, Examples] = {}
    labels = data.label_reader()
    with RejectedRows(folder / REJECTED) as rejected:
        read = {file: read_file(file, data, labels, rejected, say)}
        known = read[file]
        warnings = check_usable(known, label_column=data.label, order=data.label_order)
        for name, path in (("validation", data.validation), ("test", data.test)):
            if path is not None:
                read[path] = read_file(path, data, labels, rejected, say)
                given[name] = with_known_labels(read[path], known.label_names(), rejected, path)
                left_out = len(read[path]) - len(given[name])
                if left_out:
                    warnings.append(
                        f"{left_out} of {len(read[path])} {name} rows have a label that no training row has. The model "
                        f"would get every one of them wrong, and they are not in the {name} figures."
                    )
    # Looked for once, in the files as they are: what splits of our own must keep together, and what given files share.
    overlap = overlap_of({"train": known} | given)
    splits = _split(known, given, overlap.keys_of(known), seed=seed, warnings=warnings, tested=tested)
    for name in splits:
        if len(splits[name]) == 0:
            raise DataError(
                f"No {name} rows are left.",
                hint=f"Give more rows for each label in {file}, or a file with --{name}.",
            )
    for leak in overlap.leaks:
        warnings += wording.leak_sentences(asdict(leak))
    if rejected.count:
        reasons = ", ".join(f"{reason} ({count})" for reason, count in rejected.reasons.most_common())
        say(f"set aside {rejected.count} rows that cannot be used, listed in {REJECTED}: {reasons}")
    say(", ".join(f"{name} {len(examples):,} rows" for name, examples in splits.items()))
    for warning in warnings:
        say(f"warning: {warning}")
    return Tables(splits, read, rejected, warnings, overlap)


def read_file(
    path: str, data: DataConfig, labels: LabelReader, rejected: RejectedRows, say: Callable[[str], None]
) -> Examples:
    """The usable rows of one file, with a line for each thing worth telling.

    Raises:
        DataError: the file or a column cannot be used.
    """
    examples = read_examples(
        path,
        text=data.text,
        text_pair=data.text_pair,
        label=data.label,
        labels=labels,
        group=data.group,
        encoding=data.encoding,
        rejected=rejected,
    )
    encoding = examples.encoding
    described = "" if encoding is None else f", {encoding.name} ({encoding.reason})"
    if encoding is not None and encoding.runner_up is not None:
        described += f"; runner-up {encoding.runner_up}"
    say(f"read {path}: {examples.rows_read:,} rows{described}")
    for note in examples.notes:
        say(f"note: {note}")
    return examples


def with_known_labels(examples: Examples, known: set[str], rejected: RejectedRows, path: str) -> Examples:
    """Set aside rows with a label that the model cannot learn, since no training row has it."""
    kept: list[int] = []
    for row, label in enumerate(examples.labels):
        strange = next((name for name in names_in(label, examples.kind) if name not in known), None)
        if strange is None:
            kept.append(row)
            continue
        line = int(examples.sources[row].rpartition(":")[2])
        text = plain(examples.texts[row])
        rejected.add(path, line, f"label not among the training rows: {strange!r}", {"text": text})
    return examples.take(kept)


def _split(
    known: Examples, given: dict[str, Examples], alike: Sequence[str], *, seed: int, warnings: list[str], tested: bool
) -> dict[str, Examples]:
    if "validation" in given and "test" in given:
        return {"train": known, **given}
    if "validation" in given:
        fractions = TEST_ONLY
    else:
        fractions = OWN_SPLITS if tested and "test" not in given else VALIDATION_ONLY
    splits = split_rows(known.strata, known.plain, groups=known.groups, alike=alike, seed=seed, fractions=fractions)
    warnings.extend(splits.notes)
    splits = _learnable(known, splits, alike)
    own = {
        "train": known.take(splits.train),
        "validation": known.take(splits.validation),
        **({"test": known.take(splits.test)} if tested else {}),
    }
    return own | given


def _learnable(known: Examples, splits: Splits, alike: Sequence[str]) -> Splits:
    """Every name of a set of labels has a training row: a held-out row with a name that has none goes over.

    Rows that must stay with it go too. One of several labels needs none of this, its strata are its names.
    """
    if known.kind != "multilabel":
        return splits
    names = [names_in(label, known.kind) for label in known.labels]
    groups = known.groups or known.sources
    together = [{("text", text), ("group", group)} for text, group in zip(alike, groups, strict=True)]
    train, held = set(splits.train), {*splits.validation, *splits.test}
    while True:
        learned = {name for row in train for name in names[row]}
        strange = {key for row in held if not learned.issuperset(names[row]) for key in together[row]}
        if not strange:
            break
        moved = {row for row in held if together[row] & strange}
        train, held = train | moved, held - moved
    parts = {name: [row for row in getattr(splits, name) if row in held] for name in ("validation", "test")}
    return replace(splits, train=sorted(train), **parts)


def _refuse_one_file_twice(file: str, data: DataConfig) -> None:
    named = {"FILE": file, "--validation": data.validation, "--test": data.test}
    seen: dict[Path, str] = {}
    for option, name in named.items():
        if name is None:
            continue
        path = Path(name).resolve()
        if path in seen:
            raise DataError(
                f"{seen[path]} and {option} are the same file, {name}: a model must not be tested on rows it learned "
                "from or was picked by.",
                hint="Leave one out, and its rows are taken from FILE.",
            )
        seen[path] = option


def joined(first: Examples, second: Examples) -> Examples:
    """The rows of both, the first's first."""
    return replace(
        first,
        texts=first.texts + second.texts,
        labels=first.labels + second.labels,
        groups=None if first.groups is None or second.groups is None else first.groups + second.groups,
        sources=first.sources + second.sources,
    )
