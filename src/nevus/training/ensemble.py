"""Several bundles made into one."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nevus.auditing.contamination import index_images
from nevus.bundle.bundle import TRAINING_IMAGES, Bundle, save_bundle
from nevus.bundle.ensemble import Ensemble, EnsembleEngine
from nevus.bundle.model_card import model_card
from nevus.bundle.training_overlap import OWN, training_overlap
from nevus.data.cache import Cache
from nevus.data.decoded import DecodedDataset, decode_dataset
from nevus.data.manifest import Manifest
from nevus.errors import NevusError
from nevus.evaluation import map_labels
from nevus.metrics.report import compute_metrics
from nevus.models.spec import ENSEMBLE, ModelSpec
from nevus.runtime.engines import run_batched
from nevus.training.decisions import fit_decision_rule, image_limits


def make_ensemble(bundles: Sequence[Bundle], manifest: Manifest, out: Path, cache: Cache) -> Bundle:
    """Make one bundle of several, with a decision rule of its own.

    Args:
        bundles: of the same classes, each with `model.onnx`.
        manifest: labeled images for the decision rule, on which none of them was trained.
        out: folder of the bundle, a new one.
        cache: of decoded images.

    Raises:
        NevusError: the bundles do not fit together, one of them was trained on these images, or the folder exists or
            cannot be written.

    """
    ensemble = Ensemble.of(bundles)
    for bundle in bundles:
        count = training_overlap(bundle, manifest).get(OWN, 0)
        if count:
            raise NevusError(
                f"Cannot fit the decision rule: {count:,} of the {len(manifest):,} images were used to train "
                f"{bundle.folder}. Give --split validation of its manifest, or other images."
            )
    rows = map_labels(manifest, bundles[0])
    images = decode_dataset(rows, largest_size(bundles), cache)
    logits = run_batched(EnsembleEngine(ensemble), images.pixels, what="predicting")
    return _save(bundles, ensemble, images, logits, out)


def ensemble_of_folds(
    bundles: Sequence[Bundle], manifest: Manifest, p: NDArray[np.float64], out: Path, cache: Cache
) -> Bundle:
    """Make one bundle of the folds of a cross-validation.

    The decision rule is fitted on the predictions out of fold: each image was predicted by the fold that was not
    trained on it, as in scikit-learn's `CalibratedClassifierCV`. The mean over the folds is less noisy than they are,
    so that thresholds and sets are rather too careful.

    Args:
        bundles: of the folds.
        manifest: the usable images that took part, with the labels of the bundles.
        p: calibrated probabilities out of fold, float64 (n, classes).
        out: folder of the bundle, a new one.
        cache: of decoded images.

    Raises:
        NevusError: the bundles do not fit together, or the folder exists or cannot be written.

    """
    images = decode_dataset(manifest, largest_size(bundles), cache)
    rows = pd.Series(range(len(manifest)), index=manifest.table["image"])
    logits = EnsembleEngine.logits(p[None])[rows[images.manifest.table["image"]].to_numpy()]
    return _save(bundles, Ensemble.of(bundles), images, logits, out, out_of_fold=True)


def largest_size(bundles: Sequence[Bundle]) -> int:
    """Return the image size of an ensemble: the largest of its networks, which resize the square to their own."""
    return max(bundle.spec.image_size for bundle in bundles)


def _save(
    bundles: Sequence[Bundle],
    ensemble: Ensemble,
    images: DecodedDataset,
    logits: NDArray[np.float32],
    out: Path,
    *,
    out_of_fold: bool = False,
) -> Bundle:
    first, rows = bundles[0], images.manifest
    spec = ModelSpec(ENSEMBLE, first.classes, image_size=largest_size(bundles))
    y, groups = rows.targets, rows.groups
    if len(np.unique(y)) < len(spec.classes):
        raise NevusError(f"Cannot fit the decision rule: {rows.name} has not all classes. Give other images.")
    rule = fit_decision_rule(logits, y, groups, *image_limits(images))
    validation = compute_metrics(y, rule.probabilities(logits), spec.classes, groups)
    fit = {name: metric.as_dict() for name, metric in validation.items()}
    data = dict(first.provenance["data"])
    provenance = {
        **first.provenance,
        "data": {**data, "name": " + ".join(dict.fromkeys(str(b.provenance["data"]["name"]) for b in bundles))},
        "fit": {**first.provenance.get("fit", {}), "validation": fit},
        "history": [],
        "members": [
            {"bundle": b.digest, "backbone": b.spec.backbone, "seed": b.provenance.get("seed")} for b in bundles
        ],
        "decision_data": {"name": rows.name, "digest": rows.digest, "n": len(rows), "out_of_fold": out_of_fold},
        "versions": {**first.provenance.get("versions", {}), "nevus": version("nevus")},
    }
    known = dict.fromkeys(part for b in bundles for part in b.license.split("; "))
    bundle = Bundle(spec, provenance, "; ".join(known), "none", rule)
    index = _training_images(bundles)
    card = model_card(bundle, fit)
    used = index_images(images)
    return save_bundle(bundle, out, ensemble, card, training_images=index, decision_images=used)


def _training_images(bundles: Sequence[Bundle]) -> pd.DataFrame | None:
    paths = [b.folder / TRAINING_IMAGES for b in bundles if b.folder is not None]
    tables = [pd.read_parquet(path) for path in paths if path.is_file()]
    return pd.concat(tables, ignore_index=True).drop_duplicates() if tables else None
