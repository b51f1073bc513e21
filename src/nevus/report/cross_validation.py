"""The report of a cross-validation: a page and its tables."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from nevus._io import write_text
from nevus.bundle.model_card import DISCLAIMER
from nevus.cross_validation import AT_POINT, AVERAGED, CrossValidation
from nevus.data.manifest import Manifest
from nevus.metrics.report import MetricEstimate
from nevus.report.page import environment


def write_cross_validation(found: CrossValidation, manifest: Manifest, out: Path) -> Path:
    """Write `crossval.html` and `metrics.csv`; returns the page's path.

    Args:
        found: the result.
        manifest: all images that took part.
        out: folder.

    Raises:
        NevusError: the folder cannot be written.

    """
    write_text(out / "metrics.csv", metrics_table(found).to_csv(index=False, lineterminator="\n"))
    names = [name for name in (*AVERAGED, *AT_POINT) if name in found.pooled]
    page = (
        environment()
        .get_template("cross_validation.html")
        .render(
            disclaimer=DISCLAIMER,
            cv=found,
            names=names,
            summary=found.summary(),
            manifest=manifest,
            groups=manifest.table["group"].nunique(),
            skipped=int(found.table["error"].notna().sum()),
        )
    )
    write_text(out / "crossval.html", page)
    return out / "crossval.html"


def metrics_table(found: CrossValidation) -> pd.DataFrame:
    """Return a row for each metric of each fold and of all together: fold, metric, value, interval, n."""
    parts: list[tuple[str, dict[str, MetricEstimate]]] = [(fold.name, fold.metrics) for fold in found.folds]
    return pd.DataFrame(
        [
            (fold, name, one.value, one.ci_low, one.ci_high, one.n)
            for fold, metrics in [*parts, ("pooled", found.pooled)]
            for name, one in metrics.items()
        ],
        columns=["fold", "metric", "value", "ci_low", "ci_high", "n"],
    )
