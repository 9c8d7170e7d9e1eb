"""How rows become a batch, the head, the loss, and how outputs become answers; and the folder a model is saved in."""

from typing import TYPE_CHECKING

from huiyan.core.lazy import lazy_exports

if TYPE_CHECKING:
    from huiyan.tasks.artifact import Artifact
    from huiyan.tasks.manifest import Manifest
    from huiyan.tasks.task import Task

__all__ = ["Artifact", "Manifest", "Task"]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "Artifact": "huiyan.tasks.artifact",
        "Manifest": "huiyan.tasks.manifest",
        "Task": "huiyan.tasks.task",
    },
)
