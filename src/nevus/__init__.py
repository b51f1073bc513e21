"""nevus: BiT (Big Transfer) transfer learning for images of skin lesions.

Research use only. Not a medical device.

The public API; each name is loaded when it is first used, so that `import nevus` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nevus.bundle import Bundle, load_bundle, save_bundle
    from nevus.classifier import Classifier, Prediction, load
    from nevus.data.images import decode
    from nevus.data.manifest import Manifest
    from nevus.data.preprocess import Preprocess
    from nevus.data.reading import DataConfig, read
    from nevus.data.splits import SplitConfig, with_splits
    from nevus.errors import ImageError, NevusError
    from nevus.evaluation.evaluation import Evaluation, evaluate
    from nevus.methods.bit import BiT
    from nevus.methods.estimator import BiTClassifier
    from nevus.metrics.figures import Figure, figures
    from nevus.training.changes import RecipeChanges
    from nevus.training.recipe import Recipe

_WHERE = {
    "BiT": "nevus.methods.bit",
    "BiTClassifier": "nevus.methods.estimator",
    "Bundle": "nevus.bundle",
    "Classifier": "nevus.classifier",
    "DataConfig": "nevus.data.reading",
    "Evaluation": "nevus.evaluation.evaluation",
    "Figure": "nevus.metrics.figures",
    "ImageError": "nevus.errors",
    "Manifest": "nevus.data.manifest",
    "NevusError": "nevus.errors",
    "Prediction": "nevus.classifier",
    "Preprocess": "nevus.data.preprocess",
    "Recipe": "nevus.training.recipe",
    "RecipeChanges": "nevus.training.changes",
    "SplitConfig": "nevus.data.splits",
    "decode": "nevus.data.images",
    "evaluate": "nevus.evaluation.evaluation",
    "figures": "nevus.metrics.figures",
    "load": "nevus.classifier",
    "load_bundle": "nevus.bundle",
    "read": "nevus.data.reading",
    "save_bundle": "nevus.bundle",
    "with_splits": "nevus.data.splits",
}

__all__ = [
    "BiT",
    "BiTClassifier",
    "Bundle",
    "Classifier",
    "DataConfig",
    "Evaluation",
    "Figure",
    "ImageError",
    "Manifest",
    "NevusError",
    "Prediction",
    "Preprocess",
    "Recipe",
    "RecipeChanges",
    "SplitConfig",
    "decode",
    "evaluate",
    "figures",
    "load",
    "load_bundle",
    "read",
    "save_bundle",
    "with_splits",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'nevus' has no attribute '{name}'")
    return getattr(import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
