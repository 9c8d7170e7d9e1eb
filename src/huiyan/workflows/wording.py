"""Numbers and findings of a report in words, the same on the terminal, in the page and in the model card."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from huiyan.training.progress import clock

METRIC_NAMES = {
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "macro_precision": "macro precision",
    "macro_recall": "macro recall",
    "weighted_f1": "weighted F1",
    "weighted_precision": "weighted precision",
    "weighted_recall": "weighted recall",
    "micro_f1": "micro F1",
    "micro_precision": "micro precision",
    "micro_recall": "micro recall",
    "mcc": "MCC",
    "auroc": "AUROC",
    "exact_match": "all labels right",
    "label_accuracy": "label accuracy",
    "qwk": "weighted kappa",
    "mae": "mean error",
    "rmse": "RMSE",
    "within_one": "within one rank",
    "r2": "R²",
    "pearson": "Pearson correlation",
    "spearman": "Spearman correlation",
}

METRIC_MEANINGS = {
    "accuracy": "The share of texts given the right label.",
    "macro_f1": "For each class, the balance of precision and recall; then the plain mean, so a rare class counts as "
    "much as a frequent one. 1 is perfect.",
    "macro_precision": "Of the texts given a label, the share that deserved it; the mean over the classes.",
    "macro_recall": "Of the texts of a class, the share that was found; the mean over the classes.",
    "weighted_f1": "F1 averaged over the classes by how frequent they are.",
    "weighted_precision": "Precision averaged over the classes by how frequent they are.",
    "mcc": "Correlation of answers and truth: 1 is perfect, 0 is guessing, below 0 is worse than guessing.",
    "micro_f1": "F1 over all labels of all texts together, so a frequent label counts more.",
    "exact_match": "The share of texts that get all of their labels and no other.",
    "label_accuracy": "Of all single answers, whether a text has a label, the share that are right.",
    "qwk": "Agreement beyond chance, large errors counting more (quadratic weighted kappa): 1 is perfect, 0 is chance.",
    "mae": "How far off an answer is on average: in ranks for ordered labels, else in the unit of the number.",
    "rmse": "As the mean error, but a large error counts more.",
    "within_one": "The share of answers that are off by one rank at most.",
    "r2": "The share of the numbers' variance that the answers explain: 1 is perfect, 0 is always saying the mean.",
    "pearson": "How well answers and numbers lie on one line: 1 is perfect, 0 is no relation.",
    "spearman": "How well answers bring texts into the right order: 1 is perfect, 0 is no relation.",
    "auroc": "How well probabilities rank the texts of a class above the others: 1 is perfect, 0.5 is guessing.",
}

# Above this many classes the terminal, the page and the card show only the worst.
MAX_CLASSES_SHOWN = 50
N_WORST = 20

NO_VALUE = "–"

# Unprintable by themselves, but emoji and several scripts are written with them.
_JOINERS = "\u200c\u200d"


def metric_name(metric: str) -> str:
    """What a reader calls the metric."""
    return METRIC_NAMES.get(metric, metric.replace("_", " "))


def score(value: float | None) -> str:
    """Three decimals, a true minus sign, and a dash when there is no value."""
    return NO_VALUE if value is None else f"{value:.3f}".replace("-", "−")


def percent(value: float | None) -> str:
    """A share as a percentage with one decimal."""
    return NO_VALUE if value is None else f"{100 * value:.1f} %"


def count(value: float | None) -> str:
    """A number of things, thousands set apart."""
    return NO_VALUE if value is None else f"{value:,.0f}"


def duration(seconds: float | None) -> str:
    """Seconds as a person says them: ``45 s``, ``4 min 47 s``, ``2 h 05 min``."""
    if seconds is None:
        return NO_VALUE
    return "under 1 s" if round(seconds) < 1 else clock(seconds)


def size(n_bytes: float | None) -> str:
    """Bytes in the unit that keeps the number short."""
    if n_bytes is None:
        return NO_VALUE
    step = min(4, int(math.log(n_bytes, 1000))) if n_bytes >= 1 else 0
    return f"{n_bytes / 1000**step:.3g} {('B', 'kB', 'MB', 'GB', 'TB')[step]}"


def energy(watt_hours: float | None) -> str:
    """An estimate of energy as one says it: ``about 5 Wh``."""
    return NO_VALUE if watt_hours is None else f"about {watt_hours:.2g} Wh"


def printable(text: str) -> str:
    """The text on one line, without the characters that steer a terminal or hide (escape codes, bidi overrides)."""
    return "".join(map(_printable, text))


def _printable(char: str) -> str:
    if char.isprintable() or char in _JOINERS:
        return char
    return " " if char.isspace() else "\N{REPLACEMENT CHARACTER}"


def result_sentence(report: Mapping[str, Any]) -> str:
    """The result in one sentence: how often the model was right on texts it had not seen."""
    test, lead = report["test"], lead_metric(report["test"]["metrics"])
    found = test["metrics"].get(lead) or {"value": None, "low": None, "high": None}
    if found["value"] is None:
        return "The model was not scored."
    rows, shown = f"{count(test['rows'])} test texts", score if lead == "micro_f1" else percent
    sentence = {
        "accuracy": f"The model gives the right label to {shown(found['value'])} of {rows}",
        "micro_f1": f"Over the labels of {rows} the model reaches an F1 of {shown(found['value'])}",
        "r2": f"The model's numbers explain {shown(found['value'])} of the variance of those of {rows}",
    }[lead]
    if found["low"] is not None and found["high"] is not None:
        sentence += f" (95 % interval: {shown(found['low'])} to {shown(found['high'])})"
    if lead == "micro_f1":
        sentence += f"; {percent(test['metrics']['exact_match']['value'])} of them get all of their labels and no other"
    if lead == "r2":
        sentence += f"; on average they are off by {quantity(test['metrics']['mae']['value'])}"
    return f"{sentence}."


def lead_metric(metrics: Mapping[str, Any]) -> str:
    """The figure that most is said of, for the kind of label that has these."""
    return next((name for name in ("accuracy", "micro_f1", "r2") if name in metrics), "accuracy")


def quantity(value: float | None) -> str:
    """A number in its own unit, with three digits."""
    return NO_VALUE if value is None else f"{value:.3g}".replace("-", "−")


def early_exit_sentence(record: Mapping[str, Any]) -> str:
    """What leaving early brought on the test rows, in one sentence; ``record`` is that of ``early_exit.json``."""
    layers, patience = record["layers"], record["patience"]
    if patience >= layers:
        return (
            f"On the validation rows no patience kept the accuracy of full depth, so texts go through all {layers} "
            "layers unless a patience is asked for."
        )
    chosen, full = record["test"]["curve"][patience - 1], record["test"]["curve"][-1]
    return (
        f"With patience {patience} a test text used {chosen['mean_layers']:.1f} of {layers} layers on "
        f"average, answers came {chosen['times_as_fast']:.2f} times as fast, and {percent(chosen['accuracy'])} of them "
        f"were right instead of {percent(full['accuracy'])}."
    )


def scripts(shares: Mapping[str, float]) -> str:
    """The scripts that at least one letter in 200 is written in."""
    return ", ".join(f"{name} {share:.0%}" for name, share in shares.items() if share >= 0.005) or "no letters"


def length_bars(tokens: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The histogram of ``tokens``: span, rows, share of the tallest, and whether such texts are cut."""
    edges, rows = tokens["histogram"]["edges"], tokens["histogram"]["rows"]
    return [
        {
            "span": f"{low}–{high - 1}" if high - 1 > low else f"{low}",
            "rows": count,
            "share": count / max(rows),
            "cut": low > tokens["max_length"],
        }
        for low, high, count in zip(edges, edges[1:], rows, strict=False)
    ]


def leak_sentences(leak: Mapping[str, Any]) -> list[str]:
    """What a later part of the data shares with an earlier one; ``leak`` has the fields of ``Leak``."""
    said: list[str] = []
    shared = leak["exact"] + leak["near"]
    if shared:
        nearly = f", {leak['near']:,} nearly" if leak["near"] else ""
        said.append(
            f"{leak['part'].capitalize()} texts that are among the {leak['of']} texts as well: {shared:,} of "
            f"{leak['rows']:,}{nearly}. The {leak['part']} figures flatter the model; take them out of one of the two."
        )
    if leak["groups"]:
        said.append(f"Groups with rows in the {leak['part']} and in the {leak['of']} file: {leak['groups']:,}.")
    return said


def repeated_sentences(report: Mapping[str, Any]) -> list[str]:
    """What several trainings say that one cannot, and which model is kept; nothing after one training."""
    repeated = report.get("repeated")
    if repeated is None:
        return []
    lead, n = next(iter(repeated["spread"])), len(repeated["trainings"])
    spread, name, shown = repeated["spread"][lead], metric_name(lead), percent if lead == "accuracy" else score
    figures = (
        f"{shown(spread['low'])} to {shown(spread['high'])}, {shown(spread['mean'])} on average, standard "
        f"deviation {shown(spread['sd'])}"
    )
    if repeated["kind"] == "seeds":
        said = (
            f"Trained with {n} seeds, the {name} on the test rows is {figures}. Kept is the model of seed "
            f"{repeated['kept']}, the best on the validation rows."
        )
    else:
        said = (
            f"Every row was answered by a model that was not trained on it: {n} folds; {name} {figures}. "
            "The model that is kept was trained once more, on all of them."
        )
    return [said]


_FEW_ANSWERS = 20
_SLIGHTLY = 0.01


def answered_sentence(calibration: Mapping[str, Any] | None) -> str:
    """How many texts get an answer and how many of those are right, in one sentence; empty when all get one."""
    answered = calibration.get("answered") if calibration else None
    if answered is None:
        return ""
    if answered["accuracy"] is None:
        return "No text is answered: on none of them the model is sure enough."
    few = " These are too few answers to rely on." if answered["rows"] < _FEW_ANSWERS else ""
    return (
        f"Sure enough to be answered are {percent(answered['coverage'])} of the test texts; of those answers "
        f"{percent(answered['accuracy'])} are right (95 % interval: {percent(answered['low'])} to "
        f"{percent(answered['high'])}). The others get no answer, and the likeliest label beside it.{few}"
    )


def calibration_remark(calibration: Mapping[str, Any]) -> str:
    """What to say where the temperature made probabilities fit worse; empty where it did not."""
    before, after = (calibration[which]["ece"] for which in ("before", "after"))
    if after <= before + _SLIGHTLY:
        return ""
    return (
        "On these test rows the calibrated probabilities fit worse than those as trained: the temperature was found on "
        "other rows, and on few of them it is a guess."
    )


def strongest_baseline(report: Mapping[str, Any]) -> dict[str, Any] | None:
    """The baseline that scores best in the metric it was compared in; None without baselines."""

    def reached(baseline: Mapping[str, Any]) -> float:
        value = baseline["metrics"].get(baseline["comparison"]["metric"], {}).get("value")
        return -math.inf if value is None else value

    return max(report["baselines"], key=reached, default=None)


def verdict_in_short(report: Mapping[str, Any]) -> tuple[str, str]:
    """A verdict ("better", "worse", "undecided", or "" without baselines) and a few words that say it."""
    baseline = strongest_baseline(report)
    if baseline is None:
        return "", ""
    verdict = baseline["comparison"]["verdict"]
    words = {
        "better": f"Better than {baseline['name']}",
        "worse": f"Worse than {baseline['name']}",
        "undecided": f"Not shown to be better than {baseline['name']}",
    }
    return verdict, words[verdict]


def worst_classes(per_class: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """All classes while they are at most 50, else the 20 of lowest F1 among those that have test rows."""
    if len(per_class) <= MAX_CLASSES_SHOWN:
        return list(per_class)
    return sorted((row for row in per_class if row["support"]), key=lambda row: row["f1"])[:N_WORST]
