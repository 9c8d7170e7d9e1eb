"""Labels in doubt: a linear model is cross-validated, and the rows are shown whose labels it believes to be others."""

from typing import Any

import numpy as np

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


def doubts_of(known: Examples, blocks: list[str], *, seed: int) -> dict[str, Any] | None:
    """The rows whose labels are probably wrong; None where a model can judge none of them.

    Args:
        known: rows with a label, or a set of labels, each.
        blocks: a name for each row; rows of one name are seen by the model together or not at all.
        seed: of the folds.
    Returns:
        ``rows`` in doubt, ``of`` how many the model could judge, ``accuracy`` (the share of those that it agrees with)
        and ``examples``, the surest first: each with its ``source``, ``text``, ``label`` and ``likely`` label as people
        read them, ``probability_of_label`` and ``probability_of_likely``. Of a set the probabilities are those of the
        one label in it that is doubted most.
    """
    return (_of_sets if known.kind == "multilabel" else _of_one)(known, blocks, seed)


def _of_one(known: Examples, blocks: list[str], seed: int) -> dict[str, Any] | None:
    classes = sorted(known.label_names())
    labels = class_indices(known.labels, classes)
    probabilities = out_of_fold(
        known.plain, labels, blocks, n_classes=len(classes), chinese=mostly_han(known.plain), seed=seed
    )
    judged = np.flatnonzero(np.isfinite(probabilities).all(axis=1))
    if not len(judged):
        return None
    found = doubtful_labels(labels[judged], probabilities[judged])
    examples = [
        _example(
            known,
            int(judged[doubt.row]),
            classes[doubt.label],
            classes[doubt.likely],
            (doubt.probability_of_label, doubt.probability_of_likely),
        )
        for doubt in found[:SHOWN_DOUBTS]
    ]
    agreed = probabilities[judged].argmax(axis=1) == labels[judged]
    return {"rows": len(found), "of": len(judged), "accuracy": float(agreed.mean()), "examples": examples}


def _of_sets(known: Examples, blocks: list[str], seed: int) -> dict[str, Any] | None:
    classes = sorted(known.label_names())
    targets = MultiLabel(classes).targets(known.labels) > 0.5
    probabilities = out_of_fold_sets(
        known.plain, targets, known.strata, blocks, chinese=mostly_han(known.plain), seed=seed
    )
    said = np.isfinite(probabilities)
    judged = said.any(axis=1)
    if not judged.any():
        return None
    found = doubtful_sets(targets, probabilities)
    examples: list[dict[str, Any]] = []
    for doubt in found[:SHOWN_DOUBTS]:
        likely = targets[doubt.row].copy()
        likely[[*doubt.too_many, *doubt.missing]] ^= True
        label, other = (
            shown_label(set_label([name for name, has in zip(classes, one, strict=True) if has]), known.kind)
            for one in (targets[doubt.row], likely)
        )
        examples.append(_example(known, doubt.row, label, other, (1 - doubt.probability, doubt.probability)))
    agreed = (~said | ((probabilities > 0.5) == targets)).all(axis=1)[judged]
    return {"rows": len(found), "of": int(judged.sum()), "accuracy": float(agreed.mean()), "examples": examples}


def _example(known: Examples, row: int, label: str, likely: str, probabilities: tuple[float, float]) -> dict[str, Any]:
    return {
        "source": known.sources[row],
        "text": plain(known.texts[row])[:SHOWN_CHARACTERS],
        "label": label,
        "likely": likely,
        "probability_of_label": probabilities[0],
        "probability_of_likely": probabilities[1],
    }
