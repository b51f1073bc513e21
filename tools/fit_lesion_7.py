"""Train the built-in classifier `lesion-7`: two networks of `malignant-benign` with heads for seven diagnoses.

    python -m tools.fit_lesion_7 DATA PACKAGES OUT

OUT is that of `tools.fit_malignant_benign`, whose features are used; it gets `lesion-7/`. The Xception is left out: it
was trained on HAM10000, the only set with dermatofibromas and vascular lesions, so that nothing could be calibrated
for these. Lesions of the test splits are left out of the training and of the decision rule.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from benchmarks.rows import keep
from numpy.typing import NDArray
from tools.fit_malignant_benign import (
    SIZE,
    TASKS,
    about_data,
    auroc_row,
    features_of,
    fit_head,
    left_out,
    members,
    pooled,
    provenance_of,
    save_classifier,
)
from tools.lesion_sources import CLASSES, JUDGED, of_test_lesions

from nevus.bundle.decision import DecisionRule
from nevus.bundle.ensemble import EnsembleEngine
from nevus.data.cache import Cache
from nevus.data.decoded import decode_dataset
from nevus.data.manifest import Manifest
from nevus.data.readers.dispatch import read
from nevus.metrics.report import compute_metrics
from nevus.models.label_groups import LabelGroups
from nevus.training.decisions import fit_decision_rule, image_limits

NAME = "lesion-7"
SEVEN = LabelGroups.from_dict(
    {name: ["akiec", "scc"] if name == "akiec" else [name] for name in CLASSES if name != "scc"}, CLASSES
)
"""The diagnoses of HAM10000. Squamous cell carcinomas, which are not among them, count as their precursor, akiec."""
STRENGTH = 1e-3
"""As in `tools.fit_malignant_benign`; of 1e-4 and 1e-3 the one with the higher mean AUROC over sources left out."""
FEWEST = 20
"""Images of a diagnosis in a source that it is judged on there."""
ALL = "all diagnoses"


def source_rows(
    source: str, logits: NDArray[np.float64], y: NDArray[np.int64], manifest: Manifest
) -> list[dict[str, Any]]:
    """Return the metrics of one source: of melanomas and nevi, and of all diagnoses that it has enough images of.

    Args:
        source: its name.
        logits: of the ensemble, float64 (n, 7).
        y: true class, int64 (n,).
        manifest: n images.

    """
    own = (manifest.table["source"] == source).to_numpy(bool)
    mel, nv = (SEVEN.classes.index(name) for name in ("mel", "nv"))
    chosen = own & np.isin(y, [mel, nv])
    rows = [auroc_row(NAME, source, TASKS[0], (logits[:, mel] - logits[:, nv])[chosen], (y == mel)[chosen])]
    frequent = np.flatnonzero(np.bincount(y[own], minlength=len(SEVEN.classes)) >= FEWEST)
    if len(frequent) < 3:
        return rows
    chosen = own & np.isin(y, frequent)
    p = DecisionRule().probabilities(logits[chosen][:, frequent])
    names = tuple(SEVEN.classes[one] for one in frequent)
    metrics = compute_metrics(np.searchsorted(frequent, y[chosen]), p, names, manifest.groups[chosen])
    row: dict[str, Any] = {"classifier": NAME, "source": source, "task": ALL, "n": int(chosen.sum())}
    for name, key in (("auroc", "auroc_macro"), ("balanced_accuracy", "balanced_accuracy")):
        one = metrics[key]
        row |= {name: one.value, f"{name}_low": one.ci_low, f"{name}_high": one.ci_high}
    return [*rows, row]


def in_equal_shares(y: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return row numbers that have every class as often, int64: images of rare classes are repeated."""
    most = np.bincount(y).max()
    return np.concatenate([np.resize(np.flatnonzero(y == one), most) for one in np.unique(y)])


def main(data: Path, packages: Path, out: Path) -> None:
    """Fit, judge, and write."""
    with contextlib.closing(Cache()) as cache:
        everything = decode_dataset(read(out / "sources.parquet").with_classes(CLASSES), SIZE, cache)
        trained = ~of_test_lesions(data, everything.manifest)
        images = decode_dataset(everything.manifest.where(trained), SIZE, cache)
        manifest = images.manifest
        print(f"{trained.sum():,} of {len(trained):,} images; the others are of lesions of test splits")
        judged = manifest.table["source"].isin(JUDGED).to_numpy(bool)
        rows = manifest.where(judged)
        limits, kinds = image_limits(decode_dataset(rows, SIZE, cache))
        parts, each = [], []
        for member, network, about in members(packages)[:2]:
            features = features_of(member, network, everything, out / f"features-{member.name}.npy")[:, trained]
            path = out / f"left-out-{NAME}-{member.name}-{STRENGTH}.npy"
            if not path.exists():
                np.save(path, left_out(member, features, manifest, SEVEN, STRENGTH))
            each.append(np.load(path)[judged])
            parts.append(
                (member, network, about, fit_head(member, features.mean(0, dtype=np.float32), manifest, STRENGTH))
            )
    y, results = np.asarray(SEVEN.group_targets(rows.targets)), []
    # Without a source there would be too few of some diagnoses to calibrate on.
    plain = EnsembleEngine.logits(np.stack([DecisionRule().probabilities(one) for one in each])).astype(np.float64)
    for source in JUDGED:
        results += source_rows(source, plain, y, rows)
    # Most images are nevi. With the class shares of these data, four of five melanomas would be called otherwise.
    logits, calibrations = pooled(each, y, in_equal_shares(y), shift=False)
    rule = fit_decision_rule(logits, y, rows.groups, limits, kinds, shift=False)
    p = rule.probabilities(logits)
    print(pd.DataFrame(results).round(3).to_string())
    print(rule)
    keep(results, "sources", ["classifier", "source", "task"])
    fit = {name: one.as_dict() for name, one in compute_metrics(y, p, SEVEN.classes, rows.groups).items()}
    provenance = provenance_of(parts, manifest, rows, fit, STRENGTH)
    provenance["data"] |= about_data(out, images)
    provenance |= {
        "left_out": results,
        "left_out_note": (
            f"Of each source, the diagnoses with {FEWEST} images at least. The BiT learned without labels from images "
            "of HAM10000 and isic-malignant-benign. The metrics are those of the networks before calibration and "
            "before their weights were stored in 8 bits. All diagnoses weigh the same in the probabilities. "
            "The penalty was chosen on all images of these sources, those of test splits included, so the metrics are "
            "slightly optimistic."
        ),
    }
    save_classifier(parts, calibrations, rule, provenance, images, SEVEN, out / NAME)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
