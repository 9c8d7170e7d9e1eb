"""Train, validation and test, so that no test row was seen in training and the same split can be had again.

Rows that must not be separated are one block (see ``blocks``). Blocks of one row are dealt exactly, class by class;
larger ones go where most of their classes' rows are still wanted.
"""

import hashlib
import json
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from huiyan.core.errors import DataError
from huiyan.core.files import atomic_text
from huiyan.data.blocks import keys_of, rows_together
from huiyan.data.near import near_pairs

SPLITS = ("train", "validation", "test")
_TRAIN, _VALIDATION, _TEST = range(3)
_MIN_BLOCKS = 3
_NAMED_CLASSES = 10
_NOTED_DEVIATION = 0.2


@dataclass(frozen=True)
class Splits:
    """Row numbers of each split, ascending, and what the user should know about them."""

    train: list[int]
    validation: list[int]
    test: list[int]
    notes: list[str] = field(default_factory=list)


def split_rows(
    labels: Sequence[str],
    texts: Sequence[str],
    *,
    groups: Sequence[str] | None = None,
    alike: Sequence[str] | None = None,
    seed: int,
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1),
) -> Splits:
    """Split rows at random, each class in the same proportions, blocks kept together.

    A class of under 3 rows (or blocks) cannot be in every split: it goes to training only and is named in the notes.
    The result depends on the arguments alone, not on the process, the platform or the library versions; but for pairs
    at the very limit of being near duplicates, which another version of the MinHash library may miss or find.

    Args:
        labels: one a row.
        texts: one a row.
        groups: one a row; rows of equal group stay together.
        alike: one a row, equal for rows whose texts are the same or nearly so, where that has been looked for already;
            by default it is looked for.
        seed: of the random order.
        fractions: of train, validation and test, adding up to 1; a fraction of 0 gives an empty split.
    Raises:
        DataError: the blocks are too few or too large to fill a split that was asked for.
    """
    class_ids, class_names = _numbered(labels)
    blocks = _blocks(texts, groups, alike, seed)
    bound = _classes_for_training(class_ids, len(class_names), blocks)
    wanted = _wanted(class_ids, len(class_names), fractions, bound)
    split_of = _deal(class_ids, blocks, wanted, bound)
    _bring_classes_to_training(class_ids, len(class_names), blocks, split_of)
    rows = [[row for row, split in enumerate(split_of) if split == number] for number in range(3)]
    for number, fraction in enumerate(fractions):
        if fraction > 0 and not rows[number]:
            raise DataError(
                f"No row is left for the {SPLITS[number]} split: the {len(labels)} rows form only {len(blocks)} "
                "sets of rows that must stay together, since their texts are the same or nearly so"
                + (", or their groups." if groups is not None else "."),
                hint="Give that split rows of its own" + (", or leave out --group." if groups is not None else "."),
            )
    return Splits(rows[_TRAIN], rows[_VALIDATION], rows[_TEST], _notes(class_names, bound, rows, fractions))


def fold_rows(
    labels: Sequence[str],
    texts: Sequence[str],
    *,
    groups: Sequence[str] | None = None,
    alike: Sequence[str] | None = None,
    seed: int,
    folds: int,
) -> list[int]:
    """The fold of every row: each class in every fold in about the same proportion, blocks kept together.

    A class that is in one block only is in no fold, −1: a model that is to know it cannot be tested on it.

    Args:
        labels: one a row.
        texts: one a row.
        groups: as for ``split_rows``.
        alike: as for ``split_rows``.
        seed: of the random order.
        folds: how many.
    Raises:
        DataError: the blocks are too few to have one in each fold.
    """
    class_ids, class_names = _numbered(labels)
    blocks = _blocks(texts, groups, alike, seed)
    n_blocks = Counter(class_id for block in blocks for class_id in {class_ids[row] for row in block})
    rows_in, total = [[0] * folds for _ in class_names], [0] * folds
    fold_of = [-1] * len(labels)
    for block in sorted(blocks, key=len, reverse=True):
        counts = Counter(class_ids[row] for row in block)
        if any(n_blocks[class_id] == 1 for class_id in counts):
            continue
        # Where the block's classes have fewest rows so far; of equals, the smallest fold.
        fold = min(range(folds), key=lambda one: (sum(n * rows_in[c][one] for c, n in counts.items()), total[one]))
        for row in block:
            fold_of[row] = fold
            rows_in[class_ids[row]][fold] += 1
        total[fold] += len(block)
    if min(total) == 0:
        raise DataError(
            f"{len(labels)} rows in {len(blocks)} sets that must stay together cannot fill {folds} folds.",
            hint="Ask for fewer --folds.",
        )
    return fold_of


def _blocks(
    texts: Sequence[str], groups: Sequence[str] | None, alike: Sequence[str] | None, seed: int
) -> list[list[int]]:
    """Rows that must stay together, in random order."""
    if alike is None:
        blocks = rows_together(len(texts), keys_of(texts), groups, pairs=(pair[:2] for pair in near_pairs(texts)))
    else:
        blocks = rows_together(len(texts), alike, groups)
    # Sorting by random numbers, not shuffle(): only random() is promised to stay the same in later Pythons.
    generator = random.Random(seed)  # noqa: S311 - nothing secret hangs on it
    order = [(generator.random(), block) for block in blocks]
    return [block for _, block in sorted(order, key=lambda pair: pair[0])]


def text_sha256(text: str) -> str:
    """The SHA-256 of a text as it is, in hexadecimal: what a written split is checked with."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def write_splits(path: Path, assignments: Iterable[tuple[str, str, str]]) -> None:
    """Write which row went where, one JSON object a line, atomically.

    Args:
        path: the file.
        assignments: source (``file:line``), split, and ``text_sha256`` of the text, for each row.
    """
    with atomic_text(path) as file:
        for source, split, sha256 in assignments:
            file.write(json.dumps({"source": source, "split": split, "sha256": sha256}, ensure_ascii=False) + "\n")


def read_splits(path: Path) -> list[tuple[str, str, str]]:
    """What ``write_splits`` wrote.

    Raises:
        DataError: the file is not there or is no such file.
    """
    assignments: list[tuple[str, str, str]] = []
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                record = json.loads(line)
                if record["split"] not in SPLITS:
                    raise DataError(f"{path} names an unknown split {record['split']!r} on line {number}.")
                assignments.append((str(record["source"]), str(record["split"]), str(record["sha256"])))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is not a file of splits: line {len(assignments) + 1} is broken.") from error
    return assignments


def _numbered(labels: Sequence[str]) -> tuple[list[int], list[str]]:
    names = sorted(set(labels))
    number_of = {name: number for number, name in enumerate(names)}
    return [number_of[label] for label in labels], names


def _classes_for_training(class_ids: list[int], n_classes: int, blocks: list[list[int]]) -> set[int]:
    """Classes in so few blocks that they cannot be in every split."""
    n_blocks = [0] * n_classes
    for block in blocks:
        for class_id in {class_ids[row] for row in block}:
            n_blocks[class_id] += 1
    return {class_id for class_id, count in enumerate(n_blocks) if count < _MIN_BLOCKS}


def _wanted(
    class_ids: list[int], n_classes: int, fractions: tuple[float, float, float], bound: set[int]
) -> list[list[int]]:
    """Rows wanted of each class in each split: its share to within one row, at least one, the totals exact."""
    counts = Counter(class_ids)
    wanted = [[counts[class_id], 0, 0] for class_id in range(n_classes)]
    for split in (_VALIDATION, _TEST):
        exact = 0.0
        given = 0
        for class_id in range(n_classes):
            if class_id in bound or fractions[split] == 0:
                continue
            # Rounding the running sum keeps each class within one row and the whole split within half a row.
            exact += fractions[split] * counts[class_id]
            share = round(exact) - given
            given += share
            # Training keeps one as well, whatever the fractions.
            wanted[class_id][split] = min(max(1, share), wanted[class_id][_TRAIN] - 1)
            wanted[class_id][_TRAIN] -= wanted[class_id][split]
    return wanted


def _deal(class_ids: list[int], blocks: list[list[int]], wanted: list[list[int]], bound: set[int]) -> list[int]:
    """The split of every row."""
    split_of = [_TRAIN] * len(class_ids)
    need = [list(row) for row in wanted]
    total_need = [sum(row[split] for row in need) for split in range(3)]

    def put(block: list[int], split: int) -> None:
        total_need[split] -= len(block)
        for row in block:
            split_of[row] = split
            need[class_ids[row]][split] -= 1

    for block in blocks:
        if len(block) > 1:
            put(block, _split_for(block, class_ids, wanted, need, total_need, bound))
    for block in blocks:
        if len(block) == 1:
            left = need[class_ids[block[0]]]
            split = _TEST if left[_TEST] > 0 else _VALIDATION if left[_VALIDATION] > 0 else _TRAIN
            put(block, split)
    return split_of


def _split_for(
    block: list[int],
    class_ids: list[int],
    wanted: list[list[int]],
    need: list[list[int]],
    total_need: list[int],
    bound: set[int],
) -> int:
    """Where a block of several rows is wanted most: the split that lacks the largest share of the block's classes."""
    counts = Counter(class_ids[row] for row in block)
    if bound & counts.keys():
        return _TRAIN
    best, best_score = _TRAIN, float("-inf")
    for split in range(3):
        # A held-out split may run over by half a block, never by more: training would pay for it.
        if split != _TRAIN and total_need[split] < len(block) / 2:
            continue
        score = sum(count * need[c][split] / max(1, wanted[c][split]) for c, count in counts.items())
        if score > best_score:
            best, best_score = split, score
    return best


def _bring_classes_to_training(
    class_ids: list[int], n_classes: int, blocks: list[list[int]], split_of: list[int]
) -> None:
    """Move a block of each class that training would otherwise never see."""
    seen = {class_ids[row] for row, split in enumerate(split_of) if split == _TRAIN}
    if len(seen) == n_classes:
        return
    for block in blocks:
        classes = {class_ids[row] for row in block}
        if not classes <= seen:
            seen |= classes
            for row in block:
                split_of[row] = _TRAIN


def _notes(
    class_names: list[str], bound: set[int], rows: list[list[int]], fractions: tuple[float, float, float]
) -> list[str]:
    notes: list[str] = []
    if bound:
        names = [class_names[class_id] for class_id in sorted(bound)]
        shown = ", ".join(repr(name) for name in names[:_NAMED_CLASSES])
        more = f" and {len(names) - _NAMED_CLASSES} more" if len(names) > _NAMED_CLASSES else ""
        notes.append(
            f"Too few rows (under {_MIN_BLOCKS} that may be separated) to be in every split, so in training only "
            f"and never tested: {shown}{more}."
        )
    n_rows = sum(map(len, rows))
    for number in (_VALIDATION, _TEST):
        share = len(rows[number]) / max(1, n_rows)
        if abs(share - fractions[number]) > max(_NOTED_DEVIATION * fractions[number], 1.5 * len(class_names) / n_rows):
            notes.append(
                f"The {SPLITS[number]} split holds {share:.1%} of the rows rather than {fractions[number]:.0%}, "
                "because rows that belong together were not separated."
            )
    return notes
