"""What stands in the columns of a comparison's table, as text."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from nevus.comparison.table import ResultRow
from nevus.metrics.report import MetricEstimate
from nevus.report.evaluation import humanize

FIGURES = ("accuracy", "balanced_accuracy", "sensitivity", "specificity", "auroc", "auroc_macro")
"""In the table, where they are defined."""
DASH = "–"


def names(found: Sequence[ResultRow]) -> list[str]:
    """Figures that a row has."""
    return [name for name in FIGURES if any(row.metrics and name in row.metrics for row in found)]


def heads(found: Sequence[ResultRow]) -> dict[str, list[str]]:
    """Of the columns, after the system's name, by what they tell."""
    test = [f"{humanize(name)} %" for name in names(found)]
    away = ["AUROC elsewhere %", "accuracy elsewhere %"] if any(row.elsewhere for row in found) else []
    return {
        "On the test split": test,
        "Elsewhere, over seeds, and in training": [
            *away,
            "accuracy over seeds",
            "AUROC over seeds",
            "training accuracy %",
            "gap, points",
        ],
        "Against BiT, and the paper": [
            "McNemar p",
            "AUROC - BiT's, points",
            "DeLong p",
            "the paper's accuracy %",
        ],
        "What it takes": [
            "training s",
            "features s",
            "ms an image",
            "peak MB",
            "parameters M",
            "MB on disk",
            "looks",
            "starts from",
        ],
    }


def cells(row: ResultRow, found: Sequence[str], *, elsewhere: bool) -> list[str]:
    """Of a row, in the order of `heads`, one part after the other; what is undefined is a dash.

    Args:
        row: of the table.
        found: see `names`.
        elsewhere: whether there are columns for images from elsewhere.

    """
    own, away = row.metrics or {}, row.elsewhere or {}
    area = away.get("auroc") or away.get("auroc_macro")
    return [
        *(interval(own.get(name)) for name in found),
        *([interval(area), interval(away.get("accuracy"))] if elsewhere else []),
        _spread(row.accuracies),
        _spread(row.areas),
        _number(100 * row.training_accuracy, 1),
        _number(100 * row.gap, 1, sign=True),
        p_value(row.mcnemar_holm, row),
        _difference(row),
        p_value(row.delong_holm, row),
        _number(100 * row.paper, 2),
        taken(row.seconds, row),
        taken(row.feature_seconds, row),
        _number(row.milliseconds, 1),
        _number(row.peak_bytes / 1e6, 0),
        _number((row.parameters or math.nan) / 1e6, 2),
        _number(row.bytes / 1e6, 1),
        DASH if row.looks is None else str(row.looks),
        row.start,
    ]


def interval(figure: MetricEstimate | None) -> str:
    """In percent, with its interval."""
    if figure is None or not math.isfinite(figure.value):
        return DASH
    ends = f" ({100 * figure.ci_low:.1f}{DASH}{100 * figure.ci_high:.1f})" if math.isfinite(figure.ci_low) else ""
    return f"{100 * figure.value:.1f}{ends}"


def _spread(values: Sequence[float]) -> str:
    if len(values) < 2:
        return DASH
    return f"{100 * np.mean(values):.1f} ± {100 * np.std(values, ddof=1):.1f}, n {len(values)}"


def _number(value: float, digits: int, *, sign: bool = False) -> str:
    return f"{value:{'+' if sign else ''},.{digits}f}" if math.isfinite(value) else DASH


def taken(seconds: float, row: ResultRow) -> str:
    """Seconds; of a training that was interrupted those of its last part, marked with `>`."""
    shown = _number(seconds, 1)
    return f"> {shown}" if row.resumed and shown != DASH else shown


def p_value(value: float, row: ResultRow) -> str:
    """The p of a test against the reference."""
    if row.reference:
        return "reference"
    if not math.isfinite(value):
        return DASH
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _difference(row: ResultRow) -> str:
    if row.delong is None or not math.isfinite(row.delong.difference):
        return DASH
    ends = f" ({100 * row.delong.low:+.1f}{DASH}{100 * row.delong.high:+.1f})" if math.isfinite(row.delong.low) else ""
    return f"{100 * row.delong.difference:+.1f}{ends}"
