"""The templates of pages, and numbers and names as people read them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

if TYPE_CHECKING:  # its import of scipy.stats would cost the service a second and 75 MB
    from nevus.metrics.report import MetricEstimate


def environment(package: str = "nevus.report") -> Environment:
    """Return the environment of the templates of a package; every value is escaped."""
    made = Environment(
        loader=PackageLoader(package),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["figure"] = format_metric
    made.filters["interval"] = format_interval
    made.filters["p_value"] = format_p
    made.filters["words"] = humanize
    return made


def format_interval(metric: MetricEstimate) -> str:
    """Return the ends of an interval, or an empty string where it is undefined."""
    if not np.isfinite([metric.ci_low, metric.ci_high]).all():
        return ""
    return f"{format_metric(metric.ci_low)} to {format_metric(metric.ci_high)}"


def format_p(p: float) -> str:
    """Return a p value with three digits."""
    return "< 0.001" if p < 0.001 else format_metric(p)


def format_metric(value: float | None) -> str:
    """Return a metric with three digits, or `undefined`."""
    return "undefined" if value is None or not np.isfinite(value) else f"{value:.3f}"


UPPER = {"auroc": "AUROC", "auprc": "AUPRC", "ppv": "PPV", "npv": "NPV", "f1": "F1", "mcc": "MCC", "ece": "ECE"}


def humanize(name: str) -> str:
    """Return a name for people: `balanced_accuracy` to `balanced accuracy`, `auroc:mel` to `AUROC of mel`."""
    kind, _, cls = name.partition(":")
    kind = " ".join(UPPER.get(part, part) for part in kind.split("_"))
    kind = kind.replace("brier", "Brier score")
    return f"{kind} of {cls}" if cls else kind
