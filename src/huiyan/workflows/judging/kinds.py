"""The judge of every kind of label."""

from huiyan.tasks.task import Task
from huiyan.workflows.judging.classes import ClassJudge, OrdinalJudge
from huiyan.workflows.judging.judge import Judge
from huiyan.workflows.judging.numbers import NumberJudge
from huiyan.workflows.judging.sets import SetJudge

_JUDGES: dict[str, type[Judge]] = {
    "classify": ClassJudge,
    "multilabel": SetJudge,
    "ordinal": OrdinalJudge,
    "regression": NumberJudge,
}


def judge_of(task: Task) -> Judge:
    """Who judges the answers of a task."""
    return _JUDGES[task.kind](task)
