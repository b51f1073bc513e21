"""nevus: BiT (Big Transfer) transfer learning for images of skin lesions.

Research use only. Not a medical device.

The public API. Each name is loaded when it is first used, so `import nevus` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nevus.api import audit, evaluate, explain, export, find_duplicates, push_to_hub, train
    from nevus.bundle.bundle import Bundle
    from nevus.bundle.classifier import Classifier, load
    from nevus.data.manifest import Manifest
    from nevus.data.readers.dispatch import read
    from nevus.errors import ImageError, NevusError
    from nevus.models.spec import ModelSpec
    from nevus.sklearn import BiTClassifier
    from nevus.training.config import TrainConfig

_MODULES = {
    "BiTClassifier": "nevus.sklearn",
    "Bundle": "nevus.bundle.bundle",
    "Classifier": "nevus.bundle.classifier",
    "ImageError": "nevus.errors",
    "Manifest": "nevus.data.manifest",
    "ModelSpec": "nevus.models.spec",
    "NevusError": "nevus.errors",
    "TrainConfig": "nevus.training.config",
    "audit": "nevus.api",
    "evaluate": "nevus.api",
    "explain": "nevus.api",
    "export": "nevus.api",
    "find_duplicates": "nevus.api",
    "load": "nevus.bundle.classifier",
    "push_to_hub": "nevus.api",
    "read": "nevus.data.readers.dispatch",
    "train": "nevus.api",
}

__all__ = [
    "BiTClassifier",
    "Bundle",
    "Classifier",
    "ImageError",
    "Manifest",
    "ModelSpec",
    "NevusError",
    "TrainConfig",
    "audit",
    "evaluate",
    "explain",
    "export",
    "find_duplicates",
    "load",
    "push_to_hub",
    "read",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'nevus' has no attribute '{name}'")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
