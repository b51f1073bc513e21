"""The record of a fit: `fit.json`, and the bundle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from nevus._io import write_json
from nevus._progress import console
from nevus.bundle.bundle import Bundle, license_of, save_bundle
from nevus.bundle.model_card import model_card
from nevus.data.manifest import Manifest
from nevus.data.preprocess import Preprocess
from nevus.metrics.report import compute_metrics
from nevus.models.handcrafted.classifier import Handcrafted
from nevus.models.label_groups import LabelGroups
from nevus.runtime.device import machine
from nevus.runtime.engines import softmax
from nevus.training.history import metrics_by_epoch
from nevus.training.linear_probe import validation_result
from nevus.training.run_dir import RunDir


@dataclass(frozen=True)
class Predictions:
    """What a classifier says of images whose classes are known.

    Attributes:
        logits: float32 (n, classes).
        targets: true class, int64 (n,).
        groups: code of each image's group, int64 (n,).

    """

    logits: NDArray[np.float32]
    targets: NDArray[np.int64]
    groups: NDArray[np.int64]


@dataclass(frozen=True)
class FitResult:
    """A classifier at the end of its fit.

    Attributes:
        trunk: see `Bundle`; likewise `network`, `preprocess`, `classes`, `taps`, `spread`, `answer`.
        manifest: the whole data set, with its splits.
        recipe: plain values: `name`, `mode`, and what else decided the result.
        seed: of everything random.
        begun: what is known from before: weights, changes, the protocol of the split.
        shown: what it says of training images.
        held: likewise, validation.
        skipped: how many images could not be used.
        seconds: by stage, of this process: a resumed run counts from where it went on.
        precision: of the arithmetic in training.
        more: for `fit.json`.

    """

    backbone: str
    network: nn.Module | Handcrafted
    preprocess: Preprocess
    classes: tuple[str, ...]
    manifest: Manifest
    recipe: Mapping[str, Any]
    seed: int
    begun: Mapping[str, Any]
    shown: Predictions
    held: Predictions
    skipped: int
    seconds: Mapping[str, float]
    precision: str
    taps: int = 0
    spread: bool = False
    answer: LabelGroups | None = None
    more: Mapping[str, Any] = field(default_factory=dict)


def write_result(trained: FitResult, run: RunDir) -> None:
    """Write `fit.json` and the bundle."""
    manifest, begun, held = trained.manifest, trained.begun, trained.held
    validation = compute_metrics(held.targets, softmax(held.logits), trained.classes, held.groups)
    on_train = validation_result(trained.shown.logits, trained.shown.targets)
    fit = {
        "training_accuracy": on_train.score,
        "training_loss": on_train.loss,
        "training_n": len(trained.shown.targets),
        "validation": {name: figure.as_dict() for name, figure in validation.items()},
        **trained.more,
        "gap": on_train.score - validation["accuracy"].value,
        "seconds": trained.seconds,
        "machine": {**machine(), "precision": trained.precision},
    }
    write_json(run.folder / "fit.json", fit)
    counts = manifest.counts()
    provenance: dict[str, Any] = {
        "weights": begun["weights"],
        "recipe": dict(trained.recipe),
        "changes": begun["changes"],
        "seed": trained.seed,
        "data": {
            "name": manifest.name,
            "digest": manifest.digest,
            "rows_digest": manifest.rows_digest,
            "sources": sorted(set(manifest.table["source"])),
            "counts": {str(s): {str(k): int(v) for k, v in row.items()} for s, row in counts.iterrows()},
            "skipped": trained.skipped,
            **begun["protocol"],
        },
        "fit": fit,
        "history": metrics_by_epoch(run.metrics()),
        "versions": {name: version(name) for name in VERSIONS},
    }
    license = license_of([manifest.name, *provenance["data"]["sources"]], begun["weights"])
    card = model_card(
        backbone=trained.backbone,
        classes=trained.classes,
        side=trained.preprocess.side,
        license=license,
        provenance=provenance,
        validation=fit["validation"],
        answer=trained.answer,
    )
    bundle = Bundle(
        backbone=trained.backbone,
        classes=trained.classes,
        preprocess=trained.preprocess,
        network=trained.network,
        provenance=provenance,
        license=license,
        taps=trained.taps,
        spread=trained.spread,
        answer=trained.answer,
        views=trained.recipe.get("mean_of", 1),
    )
    save_bundle(bundle, run.bundle, card)
    console.print(f"license of the weights: {license}", highlight=False)


VERSIONS = ("nevus", "torch", "timm", "numpy", "pillow", "scikit-learn", "opencv-python-headless", "scikit-image")
"""Of what a fit was computed with."""
