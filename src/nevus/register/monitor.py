"""What a register shows over time: volume, drift of inputs and scores, and results where diagnoses are known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import ks_2samp

from nevus.bundle.decision import CANNOT_JUDGE
from nevus.errors import NevusError
from nevus.metrics.calibration import expected_calibration_error
from nevus.metrics.report import MetricEstimate, proportion
from nevus.metrics.significance import holm_correction
from nevus.register.period import PeriodLength

CODES = {"day": "D", "week": "W-SUN", "month": "M"}
"""Periods of pandas; a week begins on Monday."""
REFERENCE = 200
"""First images of a model, which later ones are compared with."""
MIN_TESTED = 30
"""Images of a period from which it is tested for drift."""
DRIFT_P = 0.01
"""Corrected p value from which on a difference counts as drift."""
INPUTS = ("foreign", "photograph", "sharpness")


@dataclass(frozen=True)
class Period:
    """The predictions of one period.

    Attributes:
        start: its first day, ISO 8601.
        images: that were sent.
        errors: that could not be used.
        not_judged: share of the usable ones whose decision is `cannot judge`.
        positive: share of the judged ones that are decided as the positive class, of two; else NaN.
        score: mean probability of the positive class, of two; else of the most probable class.
        drift: p value by quantity, corrected over all periods and quantities; NaN where it was not tested.

    """

    start: str
    images: int
    errors: int
    not_judged: MetricEstimate
    positive: MetricEstimate
    score: float
    drift: Mapping[str, float]
    results: Results


@dataclass(frozen=True)
class Results:
    """Results on images whose diagnosis is known.

    Attributes:
        known: number of usable images with a diagnosis.
        not_judged: of these.
        sensitivity: of the decisions that were made, of two classes; else NaN.
        specificity: in the same way.
        accuracy: of the most probable class.
        ece: calibration error of the probabilities; NaN for fewer than `MIN_TESTED` images.

    """

    known: int
    not_judged: int
    sensitivity: MetricEstimate
    specificity: MetricEstimate
    accuracy: MetricEstimate
    ece: float


@dataclass(frozen=True)
class Monitoring:
    """The state of a register for one model.

    Attributes:
        model: digest.
        classes: of the model; of two, the second is positive.
        others: predictions of other models, by digest.
        periods: by ascending time.
        results: of all periods together.
        warnings: what to look at, one sentence each.

    """

    model: str
    classes: tuple[str, ...]
    others: Mapping[str, int]
    periods: tuple[Period, ...]
    results: Results
    warnings: tuple[str, ...]


def monitor(table: pd.DataFrame, length: PeriodLength = "week", model: str | None = None) -> Monitoring:
    """Summarize a register.

    Drift: the distribution of the scores of the image check and of the probability in each period is compared with
    that of the first `REFERENCE` usable images, by a two-sample Kolmogorov-Smirnov test, with Holm's correction.

    Args:
        table: what `Register.frame` returns.
        length: of the periods.
        model: digest of the bundle; by default that of the last prediction.

    Raises:
        NevusError: the register has no prediction, or none of that model.

    """
    if table.empty:
        raise NevusError("Cannot monitor: the register has no prediction yet. Predict with nevus serve first.")
    counts = table["model_digest"].value_counts()
    chosen = str(table["model_digest"].iloc[-1]) if model is None else model
    if chosen not in counts.index:
        raise NevusError(
            f"Cannot monitor {chosen}: the register has predictions of {', '.join(map(str, counts.index))}."
        )
    rows, left_out = _comparable(table[table["model_digest"] == chosen])
    usable = rows["error"].isna() & rows["probabilities"].notna()
    classes = _classes(rows[usable])
    scores = _quantities(rows, usable.to_numpy(bool), classes)
    labels = rows["time"].dt.to_period(CODES[length])
    drift = _drift(scores, labels, usable.to_numpy(bool))
    periods = []
    for period in sorted(labels.unique()):
        part = (labels == period).to_numpy(bool)
        good = rows[part & usable.to_numpy(bool)]
        judged = good[good["decision"] != CANNOT_JUDGE]
        two = len(classes) == 2
        periods.append(
            Period(
                start=str(period.start_time.date()),
                images=int(part.sum()),
                errors=int((part & ~usable.to_numpy(bool)).sum()),
                not_judged=proportion((good["decision"] == CANNOT_JUDGE).to_numpy(bool)),
                positive=proportion((judged["decision"] == classes[-1]).to_numpy(bool) if two else np.zeros(0, bool)),
                score=float(scores["probability"][part & usable.to_numpy(bool)].mean()) if len(good) else float("nan"),
                drift=drift[period],
                results=_results(good, classes),
            )
        )
    found = _results(rows[usable], classes)
    others = {str(name): int(n) for name, n in counts.items() if name != chosen}
    result = Monitoring(chosen, classes, others, tuple(periods), found, ())
    return replace(result, warnings=(*left_out, *_warnings(result)))


def _comparable(rows: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Keep what was predicted at one threshold and prevalence, each image once; return why others are left out."""
    notes = []
    last = rows.iloc[-1]
    for column, name in (("sensitivity", "threshold"), ("prevalence", "prevalence")):
        usable = rows["error"].isna()
        most = rows.loc[usable, column].mode(dropna=False) if column == "sensitivity" else None
        value = most.iloc[0] if most is not None and len(most) else last[column]
        same = rows[column].isna() if pd.isna(value) else rows[column] == value
        other = int((usable & ~same).sum())
        rows = rows[~usable | same]
        if other:
            notes.append(f"{other:,} predictions at another {name} are left out.")
    again = rows.duplicated("image_digest", keep="last")
    if again.any():
        notes.append(f"{int(again.sum()):,} predictions of an image that came again are left out.")
    return rows[~again].reset_index(drop=True), notes


def _classes(usable: pd.DataFrame) -> tuple[str, ...]:
    return tuple(usable["probabilities"].iloc[-1]) if len(usable) else ()


def _quantities(
    rows: pd.DataFrame, usable: NDArray[np.bool_], classes: tuple[str, ...]
) -> dict[str, NDArray[np.float64]]:
    """Return each quantity that may drift, float64 (n,), NaN for images that cannot be used."""
    found = {name: np.full(len(rows), np.nan) for name in ("probability", *INPUTS)}
    for row in np.flatnonzero(usable).tolist():
        p, scores = rows["probabilities"].iloc[row], rows["scores"].iloc[row]
        found["probability"][row] = p[classes[-1]] if len(classes) == 2 else max(p.values())
        for name in INPUTS:
            found[name][row] = scores.get(name, np.nan)
    return found


def _drift(
    scores: Mapping[str, NDArray[np.float64]], labels: pd.Series[pd.Period], usable: NDArray[np.bool_]
) -> dict[pd.Period, dict[str, float]]:
    periods = sorted(labels.unique())
    order = np.flatnonzero(usable)
    reference, later = order[:REFERENCE], np.zeros(len(labels), bool)
    later[order[REFERENCE:]] = True
    tests: list[tuple[pd.Period, str, float]] = []
    for period in periods:
        rows = later & (labels == period).to_numpy(bool)
        for name, values in scores.items():
            p = float("nan")
            if rows.sum() >= MIN_TESTED and np.isfinite(values[rows]).all():
                p = float(ks_2samp(values[reference], values[rows]).pvalue)
            tests.append((period, name, p))
    found: dict[pd.Period, dict[str, float]] = {period: {} for period in periods}
    for (period, name, _), p in zip(tests, holm_correction([p for *_, p in tests]), strict=True):
        found[period][name] = p
    return found


def _results(good: pd.DataFrame, classes: tuple[str, ...]) -> Results:
    known = good[good["outcome"].notna()]
    judged = known[known["decision"] != CANNOT_JUDGE]
    hits = {
        name: (judged["decision"] == name).to_numpy(bool)[(judged["outcome"] == name).to_numpy(bool)]
        for name in classes
    }
    none = proportion(np.zeros(0, bool))
    two = len(classes) == 2
    ece = float("nan")
    if len(known) >= MIN_TESTED:
        y = known["outcome"].map({name: code for code, name in enumerate(classes)}).to_numpy(np.int64)
        p = np.array([[row[name] for name in classes] for row in known["probabilities"]])
        ece = float(expected_calibration_error(y.astype(np.int64), p, np.ones((1, len(y))))[0])
    return Results(
        known=len(known),
        not_judged=len(known) - len(judged),
        sensitivity=proportion(hits[classes[1]]) if two else none,
        specificity=proportion(hits[classes[0]]) if two else none,
        accuracy=proportion((known["label"] == known["outcome"]).to_numpy(bool)),
        ece=ece,
    )


def _warnings(found: Monitoring) -> list[str]:
    warnings = []
    for period in found.periods:
        moved = [name for name, p in period.drift.items() if p < DRIFT_P]
        if moved:
            warnings.append(
                f"Drift in the period from {period.start}, compared with the first {REFERENCE} images: "
                f"{', '.join(moved)}. Check camera, software and patients."
            )
    if found.others:
        n = sum(found.others.values())
        warnings.append(f"{n:,} predictions of other models are left out; --model chooses one of them.")
    if not found.results.known:
        warnings.append("No diagnosis is known yet: sensitivity and specificity cannot be computed.")
    return warnings
