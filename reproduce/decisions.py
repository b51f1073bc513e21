"""Calibration, operating point, conformal sets and flags on the test split and on other sources.

    python -m reproduce.decisions DATA AUDIT OUT RUN [RUN ...]

DATA is the folder of the public data sets, AUDIT the `audit.json` of isic-malignant-benign with isic2017 as reference,
whose pairs say which images of isic2017 a classifier was trained on. Each RUN is a finished training on
isic-malignant-benign. OUT gets a page for each evaluation, results/decisions.csv a row.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.rows import keep

import nevus
from nevus.bundle.classifier import Classifier
from nevus.data.manifest import Manifest
from nevus.data.readers.dispatch import read
from nevus.evaluation import Evaluation, evaluate
from nevus.report.evaluation import write_evaluation

MELANOMA = {"melanoma": "malignant", "mel": "malignant"}
NEVUS = {"nevus": "benign", "nv": "benign", "nev": "benign"}


def melanocytic(manifest: Manifest, without: set[str]) -> Manifest:
    """Return the melanomas and nevi of a data set as malignant and benign, without some images."""
    names = MELANOMA | NEVUS
    table = manifest.table
    kept = (table["label"].isin(names) & ~table["image"].isin(without)).to_numpy()
    rows = manifest.where(kept)
    return rows.with_table(rows.table.assign(label=rows.table["label"].map(names))).with_classes(
        ("benign", "malignant")
    )


def other_sources(data: Path, audit: Path) -> dict[str, Manifest]:
    """Return the external test sets of a classifier that was trained on isic-malignant-benign."""
    pairs = json.loads(audit.read_text("utf-8"))["pairs"]
    seen = {
        name.removeprefix("isic2017/")
        for pair in pairs
        for name in (pair["a"], pair["b"])
        if name.startswith("isic2017/")
    }
    return {
        "isic2017, melanoma and nevus": melanocytic(read(data / "isic2017"), seen),
        "isic-other": melanocytic(read(data / "isic-other" / "labels.csv"), set()),
        "pad-ufes-20, melanoma and nevus": melanocytic(read(data / "pad-ufes-20"), set()),
    }


def row(name: str, data: str, found: Evaluation, classifier: Classifier) -> dict[str, Any]:
    """Return one evaluation as a row."""
    decisions, rule = found.decisions, classifier.bundle.rule
    point = rule.operating_point
    values: dict[str, Any] = {
        "classifier": name,
        "data": data,
        "n": len(found.y),
        "positives": int((found.y == 1).sum()),
        "seed": classifier.bundle.provenance["seed"],
        "bundle": classifier.bundle.digest,
        "data_digest": found.about["data"]["digest"],
        "threshold": point.threshold if point else None,
        "promised_sensitivity": point.sensitivity if point else None,
        "promised_coverage": 1 - rule.alpha,
        "not_sure": decisions.not_sure,
        "prevalence": float(np.mean(found.y == 1)),
    }
    metrics = {
        "auroc": found.metrics["auroc"],
        **{name: decisions.at_threshold.get(name) for name in ("sensitivity", "specificity", "ppv", "npv")},
        **{f"coverage_{name}": one for name, one in decisions.coverage.items()},
        "ece_before": decisions.before["ece"],
        "ece": decisions.after["ece"],
    }
    for metric, one in metrics.items():
        if one is not None:
            values |= {metric: one.value, f"{metric}_low": one.ci_low, f"{metric}_high": one.ci_high}
    for flag in ("foreign", "blurred", "unvalidated kind"):
        values[f"flagged_{flag.replace(' ', '_')}"] = float(np.mean([one == flag for one in found.flags]))
    return values


def tests(runs: list[Path], data: Path, audit: Path) -> Iterator[tuple[str, Path | str, str, Manifest, str]]:
    """Yield classifier, bundle, data set, images and split of each evaluation."""
    external = other_sources(data, audit)
    for run in runs:
        yield run.name, run / "bundle", "its test split", read(run / "manifest.parquet"), "test"
        for name, manifest in external.items():
            yield run.name, run / "bundle", name, manifest, "all"


def main() -> None:
    """Evaluate, write the pages and the rows."""
    data, audit, out, *runs = map(Path, sys.argv[1:])
    found = []
    for name, bundle, what, manifest, split in tests(runs, data, audit):
        classifier = nevus.load(bundle)
        evaluation = evaluate(classifier, manifest, split, by=("image_type",))
        write_evaluation(
            evaluation, classifier, out / name.replace(" ", "-") / what.replace(", ", "-").replace(" ", "-")
        )
        found.append(row(name, what, evaluation, classifier))
        print(json.dumps(found[-1]))
    keep(found, "decisions", ["classifier", "data"])


if __name__ == "__main__":
    main()
