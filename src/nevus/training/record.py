"""The record of a training: `fit.json`, and the bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nevus._io import write_json
from nevus._progress import console
from nevus.auditing.contamination import index_images
from nevus.bundle.bundle import Bundle, save_bundle
from nevus.bundle.image_check import image_kinds
from nevus.bundle.model_card import model_card
from nevus.bundle.wording import operating_point_sentence
from nevus.data.decoded import DecodedDataset
from nevus.data.manifest import Manifest
from nevus.licenses import license_of
from nevus.metrics.report import compute_metrics
from nevus.metrics.subgroups import subgroup_values
from nevus.models.handcrafted.classifier import Handcrafted
from nevus.models.model import ImageClassifier
from nevus.models.spec import ModelSpec
from nevus.runtime.device import device, machine
from nevus.runtime.engines import softmax
from nevus.runtime.feature_engine import features_in_bf16
from nevus.runtime.tta import TTAPolicy
from nevus.training.decisions import fit_decision_rule, image_limits
from nevus.training.fit import Fit, ViewLogits
from nevus.training.history import metrics_by_epoch
from nevus.training.linear_probe import validation_result
from nevus.training.run_dir import RunDir

VERSIONS = ("nevus", "torch", "timm", "numpy", "pillow", "scikit-learn", "opencv-python-headless", "scikit-image")
"""Packages whose versions are recorded."""
DESCRIBED = ("age_group", "sex", "anatom_site_general", "fitzpatrick_skin_type", "image_type", "diagnosis_confirm_type")
"""Columns whose counts are recorded."""
MAX_TRAIN_KINDS = 100
"""Training images, or up to twice as many, whose kind is recognized: for the whole set it would take as long as some
trainings."""


@dataclass(frozen=True)
class Predictions:
    """Logits for images whose classes are known.

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
    """A classifier at the end of its training.

    Attributes:
        spec: of the model.
        model: the network, or an estimator on handcrafted features.
        tta: test-time augmentation of the classifier.
        settings: of the run: `config`, `overrides`, `backbone_weights`, `seed`, `data` with the protocol of the split.
        manifest: the whole data set, with its splits.
        images: the training images.
        val_images: the validation images, in the order of `val`.
        train: predictions for training images.
        val: predictions for validation images.
        skipped: number of images that could not be used.
        seconds: by stage, of this process: a resumed run counts from where it went on.
        precision: of the arithmetic in training.
        license: of the weights, where the user states it.
        more: further entries of `fit.json`.

    """

    spec: ModelSpec
    model: ImageClassifier | Handcrafted
    tta: TTAPolicy
    settings: Mapping[str, Any]
    manifest: Manifest
    images: DecodedDataset
    val_images: DecodedDataset
    train: Predictions
    val: Predictions
    skipped: int
    seconds: Mapping[str, float]
    precision: str
    license: str = ""
    more: Mapping[str, Any] = field(default_factory=dict)


def save_result(
    fit: Fit, network: ImageClassifier, logits: ViewLogits, settings: Mapping[str, Any], license: str = ""
) -> None:
    """Write the record and the bundle of a trained network.

    Args:
        fit: the parts of the training.
        network: trained.
        logits: its logits of the fine classes by view.
        settings: of the run.
        license: of the weights; by default that of the data, as far as known.

    """
    spec, rows = fit.spec, fit.val.manifest
    targets, val_targets, more = logits.train_targets, rows.targets, {}
    train, val = logits.train, logits.val
    if spec.label_groups:
        groups = spec.label_groups
        fine = compute_metrics(val_targets, softmax(val.mean(0)), spec.fine_classes, rows.groups)
        more = {"fine_classes": {name: metric.as_dict() for name, metric in fine.items()}}
        # Of each view, before the mean, as the bundle does it: the log of a sum is not linear.
        train, val = (np.stack([groups.group_logits(view) for view in views]) for views in (train, val))
        targets, val_targets = groups.group_targets(targets), groups.group_targets(val_targets)
    precision = fit.config.precision
    bf16 = features_in_bf16(precision) if fit.config.tuning == "linear-probe" else device(precision).bf16
    write_result(
        FitResult(
            spec=spec,
            model=network.cpu(),
            tta=fit.config.tta,
            settings=settings,
            manifest=fit.manifest,
            images=fit.train,
            val_images=fit.val,
            train=Predictions(train.mean(0), targets, np.arange(len(targets))),
            val=Predictions(val.mean(0), val_targets, rows.groups),
            skipped=len(fit.train.faults) + len(fit.val.faults),
            seconds=fit.timer.seconds,
            precision="bf16" if bf16 else "fp32",
            license=license,
            more=more,
        ),
        fit.run,
    )


def write_result(result: FitResult, run: RunDir) -> None:
    """Write `fit.json` and the bundle."""
    limits, kinds = image_limits(result.val_images)
    manifest, settings, val = _with_image_types(result, kinds), result.settings, result.val
    manifest.save(run.folder / "manifest.parquet")
    rule = fit_decision_rule(val.logits, val.targets, val.groups, limits, kinds)
    validation = compute_metrics(val.targets, rule.probabilities(val.logits), result.spec.classes, val.groups)
    before = compute_metrics(val.targets, softmax(val.logits), result.spec.classes, val.groups)
    on_train = validation_result(result.train.logits, result.train.targets)
    fit = {
        "training_accuracy": on_train.score,
        "training_loss": on_train.loss,
        "training_n": len(result.train.targets),
        "validation": {name: metric.as_dict() for name, metric in validation.items()},
        "uncalibrated": {name: before[name].as_dict() for name in ("ece", "brier") if name in before},
        **result.more,
        "gap": on_train.score - validation["accuracy"].value,
        "seconds": result.seconds,
        "machine": {**machine(), "precision": result.precision},
    }
    write_json(run.folder / "fit.json", fit)
    counts = manifest.counts()
    provenance: dict[str, Any] = {
        "backbone_weights": settings["backbone_weights"],
        "config": settings["config"],
        "overrides": settings["overrides"],
        "seed": settings["seed"],
        "data": {
            "rows_digest": manifest.rows_digest,
            "sources": sorted(set(manifest.table["source"])),
            "counts": {str(s): {str(k): int(v) for k, v in row.items()} for s, row in counts.iterrows()},
            "columns": column_counts(manifest),
            "skipped": result.skipped,
            **settings["data"],
        },
        "fit": fit,
        "history": metrics_by_epoch(run.metrics()),
        "versions": {name: _version(name) for name in VERSIONS},
    }
    known = license_of([manifest.name, *provenance["data"]["sources"]], settings["backbone_weights"])
    license = f"{result.license}; {known}" if result.license and "not known" not in known else result.license or known
    bundle = Bundle(result.spec, provenance, license, result.tta, rule)
    card = model_card(bundle, fit["validation"])
    save_bundle(bundle, run.bundle, result.model, card, training_images=index_images(result.images))
    if rule.calibration is None:
        console.print("The probabilities are not calibrated: the validation split has too few images.")
    console.print(operating_point_sentence(rule, result.spec.classes[-1]), highlight=False)
    console.print(f"license of the weights: {license}", highlight=False)


def _with_image_types(result: FitResult, val_kinds: Sequence[str]) -> Manifest:
    """Add the kinds of validation images, and of a sample of the training images, where they are not known.

    Test images are not read. The kinds of training images are only described, for which a sample is enough.
    """
    manifest = result.manifest
    if "image_type" in manifest.table.columns and manifest.table["image_type"].fillna("").astype(str).all():
        return manifest
    every = slice(0, None, max(1, len(result.images.pixels) // MAX_TRAIN_KINDS))
    kinds = dict(zip(result.val_images.manifest.table["image"], val_kinds, strict=True))
    kinds |= zip(
        result.images.manifest.table["image"][every], image_kinds(result.images.pixels.subset(every)), strict=True
    )
    return manifest.with_image_type([kinds.get(image, "") for image in manifest.table["image"]])


def column_counts(manifest: Manifest) -> dict[str, dict[str, dict[str, int]]]:
    """Return the images by value and label of each column that describes patients or images; for the model card."""
    table, found = manifest.table, {}
    for column in DESCRIBED:
        if column in table.columns or (column == "age_group" and "age_approx" in table.columns):
            counts = pd.crosstab(subgroup_values(table, column), table["label"])
            if list(counts.index) != ["unknown"]:
                found[column] = {str(v): {str(k): int(n) for k, n in row.items()} for v, row in counts.iterrows()}
    return found


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
