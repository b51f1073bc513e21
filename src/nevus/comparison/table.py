"""The table of a comparison: one DataFrame, which every report is made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nevus.baselines.methods import METHODS
from nevus.comparison.published import ACCURACY, READERS, SECONDS, SUPPORT, ReaderStudy
from nevus.comparison.trial import TRIALS, load_predictions, read_trials
from nevus.metrics.significance import delong_difference, holm_correction, mcnemar
from nevus.training.history import TRAINING_STAGES

METRICS = ("accuracy", "balanced_accuracy", "sensitivity", "specificity", "auroc", "auroc_macro")
"""Metrics of the table, where they are defined. Each has columns NAME, NAME_low, NAME_high (the 95 % interval) and
NAME_n; those on external test images begin with `external_`."""
INITIALIZATIONS = {
    "pretrained": "Networks with pretrained weights",
    "random": "Networks from random weights, with the same time limit",
    "features": "Handcrafted features",
    "readers": "Dermatologists, on other images (context, not a comparison)",
}
"""Initialization groups and their titles, in the order of the table."""
COLUMNS = (
    *("trial", "system", "title", "tuning", "initialization", "weights", "reference", "failure", "note"),
    *("epochs", "seeds", "accuracy_mean", "accuracy_sd", "auroc_mean", "auroc_sd", "training_accuracy", "gap"),
    *("seconds", "feature_seconds", "resumed", "ms_per_image", "peak_bytes", "parameters", "bytes"),
    *("mcnemar_p", "mcnemar_p_holm", "auroc_difference", "auroc_difference_low", "auroc_difference_high"),
    *("delong_p", "delong_p_holm", "paper_accuracy", "paper_seconds", "test_evaluations"),
)
"""Columns besides the metrics. `failure` is why there is no result; `note` is why a result is no comparison (trained
for less than an epoch, or one class predicted for every image): such a row is in no test and no figure. `gap` is the
training accuracy less that on validation; `seconds` is the time of training with its features, without decoding."""
Row = dict[str, Any]


def comparison_table(out: Path) -> pd.DataFrame:
    """Make the table of a comparison, finished or not.

    Of several seeds a row has the results of the first, and mean and standard deviation over all. Rows are in the
    order of `INITIALIZATIONS` and of the methods. McNemar's and DeLong's tests are against the BiT of the same
    initialization, and of handcrafted features against the pretrained BiT; Holm's correction counts all rows with
    the same reference.

    Args:
        out: folder of the comparison.

    Returns:
        Columns `COLUMNS`, and those of `METRICS`.

    Raises:
        NevusError: a file is damaged.

    """
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for name, record in read_trials(out / TRIALS).items():
        trial = record["trial"]
        key = trial["initialization"], trial["system"], trial["tuning"]
        groups.setdefault(key, []).append({**record, "name": name})
    initializations, methods = list(INITIALIZATIONS), list(METHODS)
    # The linear probe first: which BiT is the reference must not depend on what is added later.
    order = sorted(
        groups, key=lambda key: (initializations.index(key[0]), methods.index(key[1]), key[2] != "linear-probe")
    )
    rows = [_row(groups[key]) for key in order]
    _add_tests(rows, out / TRIALS)
    if any("sensitivity" in row for row in rows):
        rows += [_reader_row(study) for study in READERS]
    metrics = [
        f"{prefix}{name}{part}"
        for prefix in ("", "external_")
        for name in METRICS
        if any(f"{prefix}{name}" in row for row in rows)
        for part in ("", "_low", "_high", "_n")
    ]
    table = pd.DataFrame(rows, columns=[*COLUMNS, *metrics])
    text = ["trial", "system", "title", "tuning", "initialization", "weights", "failure", "note"]
    return table.assign(
        **{name: table[name].astype(object).where(table[name].notna(), "") for name in text},
        **{name: table[name].eq(True) for name in ("reference", "resumed")},
    )


def is_ranked(row: Mapping[str, Any]) -> bool:
    """Return whether a row has a result that may be compared."""
    return not row["failure"] and not row["note"] and row["initialization"] != "readers"


def _reader_row(study: ReaderStudy) -> Row:
    title = f"{study.readers} dermatologists ({study.study}; {study.images})"
    row = {"trial": title, "system": "dermatologists", "title": title, "initialization": "readers"}
    return {
        **row,
        "sensitivity": study.sensitivity,
        "sensitivity_n": study.readers,
        "specificity": study.specificity,
        "specificity_n": study.readers,
    }


def _row(records: Sequence[Row]) -> Row:
    records = sorted(records, key=lambda one: ("reason" in one, one["trial"]["seed"]))
    first, complete = records[0], [one for one in records if "reason" not in one]
    trial = first["trial"]
    method = METHODS[trial["system"]]
    row: Row = {
        "trial": first["name"],
        "system": trial["system"],
        "title": f"{method.title} ({trial['backbone']})" if trial["backbone"] in method.near else method.title,
        "tuning": trial["tuning"],
        "initialization": trial["initialization"],
        "weights": first.get("weights", trial["weights"]),
    }
    if not complete:
        return {**row, "failure": first["reason"]}
    fit, tests = first["fit"], [one["metrics"]["test"] for one in complete]
    notes = [_degenerate(first), *(f"seed {one['trial']['seed']}: {one['reason']}" for one in records[len(complete) :])]
    area = "auroc" if "auroc" in tests[0] else "auroc_macro"
    for prefix, metrics in (("", tests[0]), ("external_", first["metrics"].get("external", {}))):
        for name in METRICS:
            if name in metrics:
                one = metrics[name]
                low, high = one["ci_low"], one["ci_high"]
                values = {"": one["value"], "_low": low, "_high": high, "_n": one["n"]}
                row |= {f"{prefix}{name}{part}": value for part, value in values.items()}
    for name, metric in (("accuracy", "accuracy"), ("auroc", area)):
        seeds = np.array([test[metric]["value"] for test in tests], float)
        row |= {f"{name}_mean": seeds.mean(), f"{name}_sd": seeds.std(ddof=1) if len(seeds) > 1 else np.nan}
    if tuple(first["support"]) == SUPPORT:
        row |= {"paper_accuracy": ACCURACY.get(trial["system"]), "paper_seconds": SECONDS.get(trial["system"])}
    per_image = first["seconds_per_image"]
    return {
        **row,
        "note": "; ".join(filter(None, notes)),
        "epochs": first["epochs"],
        "seeds": len(complete),
        "training_accuracy": fit["training_accuracy"],
        "gap": fit["gap"],
        "seconds": sum(seconds for stage, seconds in fit["seconds"].items() if stage in TRAINING_STAGES),
        "feature_seconds": fit["seconds"].get("features"),
        "resumed": first["resumed"],
        "ms_per_image": None if per_image is None else 1000 * per_image,
        **{name: first[name] for name in ("peak_bytes", "parameters", "bytes", "test_evaluations")},
    }


def _degenerate(record: Row) -> str:
    """Return why a result is no comparison; empty where it is one."""
    if record["trial"]["tuning"] and record["epochs"] is not None and record["epochs"] < 1:
        return f"trained for {record['epochs']:.2g} epochs only"
    return "predicts one class for every image" if record["constant"] else ""


def _add_tests(rows: Sequence[Row], trials: Path) -> None:
    references = {
        initialization: next(
            (
                row
                for row in rows
                if (row["system"], row["initialization"]) == ("bit", initialization)
                and not row.get("failure")
                and not row.get("note")
            ),
            None,
        )
        for initialization in ("pretrained", "random")
    }
    references["features"] = references["pretrained"] or references["random"]
    tested: dict[str, list[Row]] = {}
    for row in rows:
        reference = references[row["initialization"]]
        if reference is None or row.get("failure") or row.get("note"):
            continue
        if row is reference:
            row["reference"] = True
        else:
            row |= _tests(row["trial"], reference["trial"], trials)
            tested.setdefault(reference["trial"], []).append(row)
    for group in tested.values():
        for name in ("mcnemar_p", "delong_p"):
            corrected = holm_correction([row.get(name, np.nan) for row in group])
            for row, p in zip(group, corrected, strict=True):
                row[f"{name}_holm"] = p


def _tests(name: str, reference: str, trials: Path) -> Row:
    """Compare two trials on the images that both could read."""
    y, p, images = load_predictions(trials / reference, "test")
    _, other, other_images = load_predictions(trials / name, "test")
    _, first, second = np.intersect1d(images, other_images, return_indices=True)
    found = {"mcnemar_p": mcnemar(y[first], other[second].argmax(1), p[first].argmax(1)).p}
    if p.shape[1] == 2:
        delong = delong_difference(y[first] == 1, other[second][:, 1], p[first][:, 1])
        found |= {
            "auroc_difference": delong.difference,
            "auroc_difference_low": delong.low,
            "auroc_difference_high": delong.high,
            "delong_p": delong.p,
        }
    return found
