"""Cross-validation: a training for each fold, and metrics on the images that were left out."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nevus._io import sha256_bytes, write_json, write_text
from nevus._progress import console, ignored_warnings, progress
from nevus.auditing.leakage import group_duplicates
from nevus.bundle.bundle import Bundle
from nevus.bundle.classifier import Classifier
from nevus.data.cache import Cache, CacheConfig
from nevus.data.manifest import Manifest
from nevus.data.splits import By
from nevus.errors import NevusError
from nevus.metrics.intervals import bootstrap
from nevus.metrics.report import MetricEstimate, compute_metrics, proportion
from nevus.metrics.scores import Floats, ratio
from nevus.training.ensemble import ensemble_of_folds

AVERAGED = ("accuracy", "balanced_accuracy", "auroc", "sensitivity", "specificity")
"""Metrics whose mean and worst value over the folds are given."""
AT_POINT = ("sensitivity_at_operating_point", "specificity_at_operating_point")
SETTINGS, PREDICTIONS = "crossval.json", "predictions.csv"


class Fits(Protocol):
    """A trainer, as `nevus.training.trainer.Trainer`."""

    def fit(self, manifest: Manifest, out: Path | str, *, resume: bool = False) -> Classifier:
        """Train on the split `train`, choose on `validation`."""
        ...


@dataclass(frozen=True)
class Fold:
    """One fold.

    Attributes:
        name: its number, or the source that is left out.
        manifest: the images to train on, and those that are left out, whose split is `test`.
        dropped: images that are left out of the training, since a lesion of theirs is in the fold.

    """

    name: str
    manifest: Manifest
    dropped: int = 0


@dataclass(frozen=True)
class FoldResult:
    """Metrics of a fold on the images that were left out of its training.

    Attributes:
        name: of the fold.
        n: number of usable images.
        metrics: by name; of two classes also those at the operating point, where the fold has one.

    """

    name: str
    n: int
    metrics: dict[str, MetricEstimate]


@dataclass(frozen=True)
class CrossValidation:
    """The result of a cross-validation.

    Attributes:
        by: what was kept together.
        folds: in order.
        pooled: metrics of all predictions out of fold; each fold's probabilities have their own calibration.
        table: the predictions: image, label, group, source, fold, p_<class>, called (the class at the
            threshold, or the most probable one), threshold, decision, set, flag, error.
        bundles: of the folds.

    """

    by: By
    folds: tuple[FoldResult, ...]
    pooled: dict[str, MetricEstimate]
    table: pd.DataFrame
    bundles: tuple[Bundle, ...]

    def summary(self) -> dict[str, tuple[float, float]]:
        """Return the mean and the worst value over the folds, by metric; folds where it is undefined do not count."""
        found = {}
        for name in (*AVERAGED, *AT_POINT):
            values = np.array([fold.metrics[name].value for fold in self.folds if name in fold.metrics])
            values = values[np.isfinite(values)]
            if len(values):
                found[name] = float(values.mean()), float(values.min())
        return found


def grouped_for_folds(manifest: Manifest, cache: CacheConfig, *, check_duplicates: bool) -> Manifest:
    """Leave the test split out, and join the groups of near-duplicates and same-lesion images.

    Args:
        manifest: a data set.
        cache: where decoded images are kept.
        check_duplicates: whether to search for them.

    Raises:
        NevusError: no image can be used.

    """
    test = (manifest.table["split"] == "test").to_numpy(bool)
    if test.any():
        console.print(f"{int(test.sum()):,} images of the test split are not used.", highlight=False)
        manifest = manifest.where(~test)
    manifest = manifest.with_table(manifest.table.assign(split=""))
    if check_duplicates:
        with contextlib.closing(Cache(cache)) as opened:
            manifest, _ = group_duplicates(manifest, opened)
    return manifest


def make_folds(manifest: Manifest, by: By, k: int, seed: int) -> list[Fold]:
    """Cut the folds; see `group_folds` and `source_folds`."""
    return group_folds(manifest, k, seed) if by == "group" else source_folds(manifest)


def group_folds(manifest: Manifest, k: int, seed: int) -> list[Fold]:
    """Cut k folds, whole groups, classes in proportion (`StratifiedGroupKFold`).

    Args:
        manifest: all images that take part.
        k: number of folds.
        seed: of the cut.

    Raises:
        NevusError: a class has fewer groups than folds.

    """
    from nevus.data.group_folds import GroupFolds

    counts = manifest.table.groupby("label")["group"].nunique()
    if k < 2 or counts.min() < k:
        raise NevusError(
            f"Cannot cut {k} folds: the class '{counts.idxmin()}' has {counts.min()} lesions or patients. Give "
            f"--folds from 2 to {max(2, int(counts.min()))}."
        )
    splitter = GroupFolds(k, shuffle=True, random_state=seed)
    rows = np.zeros(len(manifest))
    with ignored_warnings(UserWarning):
        return [
            Fold(str(number), _held(manifest, np.isin(np.arange(len(manifest)), held)))
            for number, (_, held) in enumerate(splitter.split(rows, manifest.targets, manifest.groups), 1)
        ]


def source_folds(manifest: Manifest) -> list[Fold]:
    """Leave one source out in turn; images of other sources that share a group with it are in no split.

    Raises:
        NevusError: there is one source only.

    """
    sources = manifest.table["source"].astype(str)
    names = sorted(set(sources))
    if len(names) < 2:
        raise NevusError(f"Cannot leave a source out: {manifest.name} has one source only. Use --by group.")
    folds = []
    for name in names:
        held = (sources == name).to_numpy(bool)
        shared = ~held & manifest.table["group"].isin(manifest.table.loc[held, "group"]).to_numpy(bool)
        kept = manifest.where(~shared)
        folds.append(Fold(name, _held(kept, held[~shared]), int(shared.sum())))
    return folds


def _held(manifest: Manifest, held: NDArray[np.bool_]) -> Manifest:
    return manifest.with_table(manifest.table.assign(split=np.where(held, "test", "train")))


def cross_validate(
    manifest: Manifest,
    folds: Sequence[Fold],
    trainer: Fits,
    out: Path,
    by: By,
    *,
    replicates: int = 2000,
    on_fold: Callable[[Fold], None] = lambda fold: None,
) -> CrossValidation:
    """Train and predict fold by fold; what is there already is used again.

    Args:
        manifest: all images that take part.
        folds: see `group_folds` and `source_folds`.
        trainer: whose preparation checks no duplicates: the groups are those of the manifest.
        out: folder; a run for each fold in `folds/`, and `predictions.csv`.
        by: what the folds keep together.
        replicates: number of bootstrap samples.
        on_fold: is called before each fold.

    Raises:
        NevusError: the folder holds a cross-validation with other data or folds, or a training fails.

    """
    check_folder(out, manifest, folds, by)
    parts, results, bundles = [], [], []
    for fold in folds:
        on_fold(fold)
        part, bundle = _predictions(fold, trainer, out / "folds" / _folder(fold.name))
        classes = bundle.classes
        parts.append(part)
        bundles.append(bundle)
        results.append(FoldResult(fold.name, int(part["error"].isna().sum()), _metrics(part, classes, replicates)))
    table = pd.concat(parts, ignore_index=True)
    pooled = _metrics(table, classes, replicates)
    write_text(out / PREDICTIONS, table.to_csv(index=False, lineterminator="\n"))
    return CrossValidation(by, tuple(results), pooled, table, tuple(bundles))


def check_folder(out: Path, manifest: Manifest, folds: Sequence[Fold], by: By) -> None:
    """Write which data and folds a folder is for, or check that it is for these.

    Raises:
        NevusError: it holds a cross-validation of other data or folds.

    """
    settings = {
        "by": by,
        "data": {"name": manifest.name, "rows_digest": manifest.rows_digest},
        "folds": {fold.name: fold.manifest.digest for fold in folds},
    }
    path = out / SETTINGS
    if not path.exists():
        write_json(path, settings)
        return
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    if found != settings:
        raise NevusError(
            f"Cannot go on in {out}: it holds a cross-validation of other data or folds. Choose another --out."
        )


def _folder(name: str) -> str:
    safe = "".join(c if c.isalnum() or c in "-_" else "_" for c in name)[:60]
    return safe if safe == name else f"{safe}-{sha256_bytes(name.encode())[:6]}"


def _predictions(fold: Fold, trainer: Fits, folder: Path) -> tuple[pd.DataFrame, Bundle]:
    classifier = trainer.fit(fold.manifest, folder, resume=(folder / "config.json").exists())
    rows = fold.manifest.split("test")
    done = folder / PREDICTIONS
    if not done.exists():
        write_text(done, pd.DataFrame(_rows(fold, classifier, rows)).to_csv(index=False, lineterminator="\n"))
    table = pd.read_csv(done, dtype={"image": str, "label": str, "group": str, "source": str, "fold": str, "flag": str})
    return table.assign(flag=table["flag"].fillna("")), classifier.bundle


def _rows(fold: Fold, classifier: Classifier, rows: Manifest) -> Iterator[dict[str, object]]:
    known = rows.table[["image", "label", "group", "source"]].to_dict("records")
    point = classifier.bundle.rule.operating_point
    with progress() as bar:
        task = bar.add_task(f"predicting fold {fold.name}", total=len(rows), note="")
        for row, one in zip(known, classifier.stream(rows.paths), strict=True):
            p = one.probabilities
            values = [None] * len(classifier.classes) if p is None else p.tolist()
            called = None if p is None else classifier.classes[int(classifier.bundle.rule.called(p[None])[0])]
            yield {
                **{str(key): value for key, value in row.items()},
                "fold": fold.name,
                **{f"p_{name}": value for name, value in zip(classifier.classes, values, strict=True)},
                "called": called,
                "threshold": point.threshold if point else None,
                "decision": one.decision or None,
                "set": "|".join(one.members),
                "flag": one.flag,
                "error": one.error,
            }
            bar.advance(task)


def _metrics(table: pd.DataFrame, classes: tuple[str, ...], replicates: int) -> dict[str, MetricEstimate]:
    """Return the metrics of the usable predictions; of two classes also those at the thresholds, if there are any."""
    good = table[table["error"].isna()]
    codes = {name: code for code, name in enumerate(classes)}
    y: NDArray[np.int64] = np.array([codes[label] for label in good["label"]], np.int64)
    p = good[[f"p_{name}" for name in classes]].to_numpy(np.float64)
    groups = pd.factorize(good["group"])[0].astype(np.int64)
    found = dict(compute_metrics(y, p, classes, groups, replicates=replicates))
    if len(classes) == 2 and good["threshold"].notna().all():
        called = good["called"].to_numpy(object)
        found |= _at_points(y, called == classes[1], groups, replicates)
    return found


def _at_points(
    y: NDArray[np.int64], positive: NDArray[np.bool_], groups: NDArray[np.int64], replicates: int
) -> dict[str, MetricEstimate]:
    """Return sensitivity and specificity of the decisions; a lesion with several images is resampled whole."""
    right = {name: (y == code, positive if code else ~positive) for name, code in zip(AT_POINT, (1, 0), strict=True)}
    found = {name: proportion(hits[rows]) for name, (rows, hits) in right.items()}
    if len(np.unique(groups)) == len(groups):
        return found

    def score(rows: NDArray[np.bool_], hits: NDArray[np.bool_]) -> Callable[[Floats], Floats]:
        return lambda w: ratio((w * (rows & hits)).sum(-1), (w * rows).sum(-1))

    ends = bootstrap({name: score(*pair) for name, pair in right.items()}, groups, replicates=replicates)
    return {
        name: replace(one, ci_low=ends[name][0], ci_high=ends[name][1], method="bootstrap")
        for name, one in found.items()
    }


def folds_ensemble(found: CrossValidation, manifest: Manifest, out: Path, cache: Cache) -> Bundle:
    """Make one bundle of the folds, with a decision rule that is fitted on the predictions out of fold.

    Args:
        found: the cross-validation.
        manifest: its images.
        out: folder of the bundle, a new one.
        cache: of decoded images.

    Raises:
        NevusError: the method has no `model.onnx`, or the folder exists or cannot be written.

    """
    classes = found.bundles[0].classes
    good = found.table[found.table["error"].isna()].set_index("image")
    rows = manifest.where(manifest.table["image"].isin(good.index).to_numpy(bool))
    p = good.loc[rows.table["image"], [f"p_{name}" for name in classes]].to_numpy(np.float64)
    return ensemble_of_folds(found.bundles, rows.with_classes(classes), p, out, cache)


def say(fold: Fold) -> None:
    """Say which fold begins."""
    n = int((fold.manifest.table["split"] == "test").sum())
    note = f"; {fold.dropped:,} images share a lesion with it and are not used" if fold.dropped else ""
    console.print(f"fold {fold.name}: {n:,} images are left out{note}", highlight=False)
