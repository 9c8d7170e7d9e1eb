"""Labels in doubt: a linear model is cross-validated, and the rows are shown whose labels it believes to be others."""

from typing import Any

from huiyan.core.texts import plain
from huiyan.data.examples import Examples
from huiyan.data.labels import set_label, shown_label
from huiyan.evaluation.baselines import out_of_fold, out_of_fold_sets
from huiyan.evaluation.doubts import doubtful_labels, doubtful_sets
from huiyan.tasks.classify import class_indices
from huiyan.tasks.multilabel import MultiLabel
from huiyan.text.scripts import mostly_han

SHOWN_DOUBTS = 50
SHOWN_CHARACTERS = 300


def doubts_of(known: Examples, blocks: list[str], *, seed: int) -> dict[str, Any]:
    """The rows whose labels are probably wrong.

    Args:
        known: rows with a label, or a set of labels, each.
        blocks: a name for each row; rows of one name are seen by the model together or not at all.
        seed: of the folds.
    Returns:
        ``rows`` in doubt, ``of`` how many, ``accuracy`` (the share of rows that the model agrees with) and
        ``examples``, the surest first: each with its ``source``, ``text``, ``label`` and ``likely`` label as people
        read them, ``probability_of_label`` and ``probability_of_likely``. Of a set the probabilities are those of the
        one label in it that is doubted most.
    """
    rows, accuracy, examples = (_of_sets if known.kind == "multilabel" else _of_one)(known, blocks, seed)
    return {"rows": rows, "of": len(known), "accuracy": accuracy, "examples": examples}


def _of_one(known: Examples, blocks: list[str], seed: int) -> tuple[int, float, list[dict[str, Any]]]:
    classes = sorted(known.label_names())
    labels = class_indices(known.labels, classes)
    probabilities = out_of_fold(
        known.plain, labels, blocks, n_classes=len(classes), chinese=mostly_han(known.plain), seed=seed
    )
    found = doubtful_labels(labels, probabilities)
    examples = [
        _example(
            known,
            doubt.row,
            classes[doubt.label],
            classes[doubt.likely],
            (doubt.probability_of_label, doubt.probability_of_likely),
        )
        for doubt in found[:SHOWN_DOUBTS]
    ]
    return len(found), float((probabilities.argmax(1) == labels).mean()), examples


def _of_sets(known: Examples, blocks: list[str], seed: int) -> tuple[int, float, list[dict[str, Any]]]:
    classes = sorted(known.label_names())
    targets = MultiLabel(classes).targets(known.labels)
    probabilities = out_of_fold_sets(
        known.plain, targets, known.strata, blocks, chinese=mostly_han(known.plain), seed=seed
    )
    found = doubtful_sets(targets, probabilities)
    examples: list[dict[str, Any]] = []
    for doubt in found[:SHOWN_DOUBTS]:
        has = targets[doubt.row].astype(bool)
        likely = has.copy()
        likely[[*doubt.too_many, *doubt.missing]] ^= True
        label, other = (
            shown_label(set_label([name for name, said in zip(classes, one, strict=True) if said]), known.kind)
            for one in (has, likely)
        )
        examples.append(_example(known, doubt.row, label, other, (1 - doubt.probability, doubt.probability)))
    return len(found), float(((probabilities >= 0.5) == (targets > 0.5)).all(axis=1).mean()), examples


def _example(known: Examples, row: int, label: str, likely: str, probabilities: tuple[float, float]) -> dict[str, Any]:
    return {
        "source": known.sources[row],
        "text": plain(known.texts[row])[:SHOWN_CHARACTERS],
        "label": label,
        "likely": likely,
        "probability_of_label": probabilities[0],
        "probability_of_likely": probabilities[1],
    }
