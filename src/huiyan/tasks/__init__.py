"""How rows become a batch, the head, the loss, and how outputs become answers; and the folder a model is saved in."""

from typing import TYPE_CHECKING

from huiyan.core.lazy import lazy_exports

if TYPE_CHECKING:
    from huiyan.tasks.artifact import Artifact
    from huiyan.tasks.classify import ClassificationObjective
    from huiyan.tasks.manifest import Manifest

__all__ = ["Artifact", "ClassificationObjective", "Manifest"]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "Artifact": "huiyan.tasks.artifact",
        "ClassificationObjective": "huiyan.tasks.classify",
        "Manifest": "huiyan.tasks.manifest",
    },
)
