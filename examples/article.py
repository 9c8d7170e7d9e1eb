"""The classic BERT fine-tuning tutorial, done with Huiyan in 20 lines: python examples/article.py.

The program that many first articles on BERT print has three mistakes. None of them stops it from looking fine.

1. ``torch.argmax(logits, dim=2)``. The logits of a sequence classifier are two-dimensional, sequences × classes, so
   there is no dimension 2: it raises an IndexError. (``dim=2`` is for tagging, sequences × tokens × classes.) It has
   to be ``dim=1``, or ``dim=-1``; here ``predict`` does it, and gives the names of the classes, not their numbers.
2. ``predictions == labels`` with two Python lists. That is one True or False for the whole lists, and its "mean" is
   0 or 1. Elements are compared by arrays: ``np.array(predictions) == np.array(labels)``.
3. ``np.mean(predictions != labels)`` printed as "precision". It is the error rate, the share of wrong answers, so a
   better model shows a *lower* "precision". The precision of a class is how many of the answers "this class" are right.
"""

import csv
from pathlib import Path
from random import Random

import numpy as np
from sklearn.metrics import precision_score

import huiyan

DATA = Path(__file__).parent / "data"


def read(name: str, n: int) -> tuple[list[str], list[str]]:
    with (DATA / name).open(encoding="utf-8", newline="") as file:
        rows = Random(0).sample(list(csv.DictReader(file)), n)
    return [f"{row['title']}\n{row['review']}" for row in rows], [row["sentiment"] for row in rows]


def main(n_train: int = 600, n_test: int = 200) -> None:
    texts, labels = read("reviews.train.csv", n_train)
    test_texts, test_labels = read("reviews.test.csv", n_test)
    model = huiyan.TextClassifier(epochs=2).fit(texts, labels)
    predictions = model.predict(test_texts)  # mistake 1 cannot be made: names come back, one a text
    right = predictions == np.array(test_labels)  # mistake 2: arrays, so one True or False a text
    print(f"accuracy    {right.mean():.3f}")
    print(f"error rate  {(~right).mean():.3f}  (mistake 3: the tutorial calls this 'precision')")
    for name, value in zip(model.classes_, precision_score(test_labels, predictions, average=None), strict=True):
        print(f"precision of {name:9} {value:.3f}")


if __name__ == "__main__":
    main()
