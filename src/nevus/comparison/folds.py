"""A comparison by cross-validation: every method on the same folds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nevus._io import ensure_writable
from nevus._progress import console
from nevus.comparison.config import ComparisonConfig
from nevus.comparison.plan import make_trials
from nevus.comparison.trial import TRIALS, failure_path, mark_failed
from nevus.cross_validation import AVERAGED, CrossValidation, Fold, check_folder, cross_validate, say
from nevus.data.manifest import Manifest
from nevus.data.splits import By
from nevus.errors import NevusError
from nevus.metrics.significance import delong_difference, holm_correction
from nevus.training.preparation import Preparation


def compare_folds(
    manifest: Manifest,
    folds: Sequence[Fold],
    out: Path,
    config: ComparisonConfig,
    preparation: Preparation,
    by: By,
    *,
    replicates: int = 2000,
) -> pd.DataFrame:
    """Train and predict each method fold by fold; what is there already is used again.

    Args:
        manifest: all images that take part.
        folds: the same for all methods.
        out: folder; a cross-validation for each method in `trials/`.
        config: see `ComparisonConfig`; without a budget.
        preparation: of each training; without a duplicate check.
        by: what the folds keep together.
        replicates: number of bootstrap samples.

    Returns:
        A row for each method: trial, system, tuning, initialization, failure, reference; of each metric of
        `AVERAGED` the pooled value with its interval, NAME, NAME_low, NAME_high, and over the folds NAME_mean and
        NAME_worst; of two classes also DeLong's test of the pooled AUROC against BiT, auroc_difference, delong_p and
        delong_p_holm.

    Raises:
        NevusError: the settings cannot be used, or the folder holds other folds.

    """
    ensure_writable(out)
    trials, lacking = make_trials(config)
    for sentence in lacking:
        console.print(sentence, style="yellow", highlight=False)
    for trial in trials:
        check_folder(out / TRIALS / trial.name, manifest, folds, by)
    rows, found = [], {}
    for number, trial in enumerate(trials, 1):
        console.rule(f"{number} of {len(trials)}: {trial.name}")
        row = {"trial": trial.name, "system": trial.system, "tuning": trial.tuning, "failure": "", "reference": False}
        row |= {"initialization": trial.initialization, "seed": trial.seed}
        failure = failure_path(trial.name, out / TRIALS)
        failure.unlink(missing_ok=True)
        try:
            trainer = trial.trainer(preparation, config.overrides)
            folder = out / TRIALS / trial.name
            found[trial.name] = cross_validate(manifest, folds, trainer, folder, by, replicates=replicates, on_fold=say)
            row |= _metrics(found[trial.name])
        except Exception as error:  # whatever a method fails with is a row of the table
            reason = str(error) if isinstance(error, NevusError) else f"{type(error).__name__}: {error}"
            row["failure"] = reason
            mark_failed(trial, out / TRIALS, reason)
            console.print(f"{trial.name} failed: {reason}", style="red", highlight=False)
        rows.append(row)
    _add_tests(rows, found)
    return pd.DataFrame(rows)


def _metrics(found: CrossValidation) -> dict[str, float]:
    summary = found.summary()
    row: dict[str, float] = {}
    for name in AVERAGED:
        if name in found.pooled:
            one = found.pooled[name]
            row |= {name: one.value, f"{name}_low": one.ci_low, f"{name}_high": one.ci_high}
        if name in summary:
            row |= dict(zip((f"{name}_mean", f"{name}_worst"), summary[name], strict=True))
    return row


def _add_tests(rows: list[dict[str, object]], found: dict[str, CrossValidation]) -> None:
    """Compare the pooled AUROC of each method with that of the first BiT, on images that both could read."""
    reference = next((row for row in rows if row["system"] == "bit" and not row["failure"]), None)
    if reference is None or len(found[str(reference["trial"])].bundles[0].classes) != 2:
        return
    reference["reference"] = True
    tested = [row for row in rows if not row["failure"] and row is not reference]
    for row in tested:
        y, ours, theirs = _scores(found[str(reference["trial"])], found[str(row["trial"])])
        test = delong_difference(y, theirs, ours)
        row |= {
            "auroc_difference": test.difference,
            "auroc_difference_low": test.low,
            "auroc_difference_high": test.high,
            "delong_p": test.p,
        }
    corrected = holm_correction([float(str(row["delong_p"])) for row in tested])
    for row, p in zip(tested, corrected, strict=True):
        row["delong_p_holm"] = p


def _scores(
    ours: CrossValidation, theirs: CrossValidation
) -> tuple[NDArray[np.bool_], NDArray[np.float64], NDArray[np.float64]]:
    column = f"p_{ours.bundles[0].classes[1]}"
    tables = [one.table[one.table["error"].isna()].set_index("image") for one in (ours, theirs)]
    both = tables[0].index.intersection(tables[1].index)
    first, second = (table.loc[both] for table in tables)
    positive = (first["label"] == ours.bundles[0].classes[1]).to_numpy(bool)
    return positive, first[column].to_numpy(np.float64), second[column].to_numpy(np.float64)
