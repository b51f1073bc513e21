"""nevus: BiT (Big Transfer) transfer learning for images of skin lesions.

Research use only. Not a medical device.

The public API; each name is loaded when it is first used, so that `import nevus` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nevus.bundle.bundle import Bundle, load_bundle, save_bundle
    from nevus.bundle.classifier import Classifier, Prediction, load
    from nevus.data.images import decode
    from nevus.data.manifest import Manifest
    from nevus.data.preprocess import Preprocess
    from nevus.data.readers.dispatch import DataConfig, read
    from nevus.data.splits import SplitConfig, with_splits
    from nevus.errors import ImageError, NevusError
    from nevus.evaluation import Evaluation, evaluate
    from nevus.metrics.report import MetricEstimate, compute_metrics
    from nevus.sklearn import BiTClassifier
    from nevus.training.config import TrainConfig
    from nevus.training.overrides import Overrides
    from nevus.training.trainer import BiT

_WHERE = {
    "BiT": "nevus.training.trainer",
    "BiTClassifier": "nevus.sklearn",
    "Bundle": "nevus.bundle.bundle",
    "Classifier": "nevus.bundle.classifier",
    "DataConfig": "nevus.data.readers.dispatch",
    "Evaluation": "nevus.evaluation",
    "Figure": "nevus.metrics.report",
    "ImageError": "nevus.errors",
    "Manifest": "nevus.data.manifest",
    "NevusError": "nevus.errors",
    "Prediction": "nevus.bundle.classifier",
    "Preprocess": "nevus.data.preprocess",
    "Recipe": "nevus.training.config",
    "RecipeChanges": "nevus.training.overrides",
    "SplitConfig": "nevus.data.splits",
    "decode": "nevus.data.images",
    "evaluate": "nevus.evaluation",
    "figures": "nevus.metrics.report",
    "load": "nevus.bundle.classifier",
    "load_bundle": "nevus.bundle.bundle",
    "read": "nevus.data.readers.dispatch",
    "save_bundle": "nevus.bundle.bundle",
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
