"""The Evaluation: the metrics of a Classifier on a Manifest, each with its interval."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nevus._progress import console, progress
from nevus.bundle.bundle import Bundle
from nevus.bundle.classifier import Classifier
from nevus.bundle.decision import DecisionRule
from nevus.bundle.test_log import log_test_evaluation, log_test_result, read_test_log
from nevus.bundle.training_overlap import training_overlap
from nevus.data.manifest import Manifest
from nevus.data.reader_study import Reader, read_reader_study
from nevus.errors import NevusError
from nevus.metrics import scores
from nevus.metrics.decision import DecisionMetrics, decision_metrics
from nevus.metrics.intervals import REPLICATES
from nevus.metrics.reader_study import ReaderComparison, compare_reader, corrected, known_reader
from nevus.metrics.report import ConfusionCounts, MetricEstimate, compute_metrics, counts
from nevus.metrics.subgroups import Subgroup, subgroup_metrics, subgroup_values


@dataclass(frozen=True)
class Evaluation:
    """Metrics of a classifier on a set of images.

    Attributes:
        manifest: the rows that could be read, with the classifier's class order.
        split: `train`, `validation`, `test` or `all`.
        y: true class, int64 (n,).
        p: probabilities, float64 (n, classes).
        metrics: by name, see `nevus.metrics.report`.
        counts: TP, TN, FP, FN for two classes; None for more.
        matrix: confusion matrix, int (classes, classes): rows are true, columns are predicted.
        skipped: one sentence for each image that cannot be used.
        about: bundle, data, versions.
        logits: before calibration, float64 (n, classes).
        flags: reason not to judge each image, or an empty string.
        decisions: calibration, operating point, conformal sets and net benefit.
        subgroups: metrics by the values of columns; of two classes.
        readers: the classifier beside readers; of two classes.
        threshold: of the operating point; None without one.

    """

    manifest: Manifest
    split: str
    y: NDArray[np.int64]
    p: NDArray[np.float64]
    metrics: Mapping[str, MetricEstimate]
    counts: ConfusionCounts | None
    matrix: NDArray[np.int64]
    skipped: tuple[str, ...]
    about: Mapping[str, Any]
    logits: NDArray[np.float64]
    flags: tuple[str, ...]
    decisions: DecisionMetrics
    subgroups: tuple[Subgroup, ...] = ()
    readers: tuple[ReaderComparison, ...] = ()
    threshold: float | None = None

    @property
    def called(self) -> NDArray[np.int64]:
        """Class by the decision rule, int64 (n,): at the operating point of two classes, else the most probable."""
        return np.asarray(self.p.argmax(1) if self.threshold is None else self.p[:, 1] >= self.threshold, np.int64)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for `evaluation.json`."""
        return {
            **self.about,
            "split": self.split,
            "n": len(self.manifest),
            "n_groups": int(self.manifest.table["group"].nunique()),
            "skipped": list(self.skipped),
            "counts": asdict(self.counts) if self.counts else None,
            "confusion": self.matrix.tolist(),
            "metrics": {name: metric.as_dict() for name, metric in self.metrics.items()},
            "flags": dict(Counter(flag for flag in self.flags if flag)),
            "decisions": self.decisions.as_dict(),
            "subgroups": [one.as_dict() for one in self.subgroups],
            "readers": [one.as_dict() for one in self.readers],
        }


def map_labels(manifest: Manifest, bundle: Bundle) -> Manifest:
    """Return a data set with the classes of a classifier; its labels may be the fine classes of label groups."""
    groups = bundle.spec.label_groups
    if groups:
        manifest = manifest.with_table(
            manifest.table.assign(label=groups.group_labels(manifest.table["label"].tolist()))
        )
    return manifest.with_classes(bundle.classes)


def evaluate(
    classifier: Classifier,
    manifest: Manifest,
    split: str = "test",
    *,
    replicates: int = REPLICATES,
    seed: int = 0,
    leaks_dropped: int = 0,
    by: Sequence[str] = (),
    prevalence: float | None = None,
    readers: Path | None = None,
) -> Evaluation:
    """Evaluate a classifier on one split of a data set.

    An evaluation on a test split, or on all of a data set that it was not trained on, is logged in the bundle before
    the metrics are known.

    Args:
        classifier: a trained one.
        manifest: labeled images.
        split: `train`, `validation`, `test`, or `all`.
        replicates: of the bootstrap.
        seed: of the bootstrap.
        leaks_dropped: number of test images that were left out because of leakage; it is recorded.
        by: columns of the data set whose values are evaluated apart; `age_group` is made of `age_approx`, and
            `image_type` is recognized where it is not known.
        prevalence: of the positive class where the classifier is used, for PPV, NPV and net benefit; by default that of
            the images.
        readers: csv file of readers' decisions, see `nevus.data.reader_study.read_reader_study`.

    Raises:
        NevusError: there is no such split, a label is none of the classifier's classes, no image can be
            used, or the bundle's log cannot be written.

    """
    if seed < 0 or replicates < 100:
        raise NevusError(
            "Cannot bootstrap: there must be at least 100 samples and a seed of 0 or more. Correct --bootstrap-samples "
            "or --seed."
        )
    rows = map_labels(manifest, classifier.bundle).split(split)
    _check_columns(rows, by, len(classifier.classes))
    study = _read_study(readers, rows)
    if prevalence is not None and len(classifier.classes) != 2:
        raise NevusError("Cannot use a prevalence: the bundle has more than two classes. Leave it out.")
    y = rows.targets
    trained_on = classifier.bundle.provenance["data"]
    # All or the training split of the data set that it was trained on: no test.
    own = trained_on.get("rows_digest") == manifest.rows_digest and split in ("all", "train")
    if own:
        console.print(
            f"Images of {manifest.name} were used for training: metrics on them are no estimate for new images. Give "
            "the run's manifest.parquet and --split test.",
            style="yellow",
        )
    on_test = "test" in rows.splits() or (split == "all" and not own)
    about = {
        "bundle": {
            "digest": classifier.bundle.digest,
            "backbone": classifier.bundle.spec.backbone,
            "trained_on": trained_on,
            "license": classifier.bundle.license,
        },
        "data": {"name": manifest.name, "digest": rows.digest},
        "engine": classifier.running_engine,
        "tta": classifier.tta,
        "classes": list(classifier.classes),
        "on_training_images": own,
        "training_overlap": {} if own else training_overlap(classifier.bundle, rows, copies=True),
        "leaks_dropped": leaks_dropped,
        "earlier_test_evaluations": 0,
        "bootstrap": {"replicates": replicates, "seed": seed, "unit": "group"},
        "nevus": version("nevus"),
    }
    if on_test:
        about["earlier_test_evaluations"] = len(read_test_log(classifier.bundle))
        log_test_evaluation(
            classifier.bundle,
            {key: about[key] for key in ("data", "tta", "nevus")} | {"split": split, "n": len(rows)},
        )
    rule, k = classifier.bundle.rule, len(classifier.classes)
    good, flags, kinds = np.zeros(len(rows), bool), [""] * len(rows), [""] * len(rows)
    p, logits = np.zeros((len(rows), k)), np.zeros((len(rows), k))
    skipped = []
    with progress() as bar:
        task = bar.add_task(f"evaluating {split}", total=len(rows), note="")
        for index, prediction in enumerate(classifier.stream(rows.paths)):
            if prediction.probabilities is None:
                skipped.append(str(prediction.error))
            else:
                good[index], p[index], logits[index] = True, prediction.probabilities, prediction.logits
                flags[index], kinds[index] = prediction.flag, prediction.kind
            bar.advance(task)
    if not good.any():
        raise NevusError(f"Cannot use any of the {len(rows)} images of {manifest.name}. The first: {skipped[0]}")
    if skipped:
        console.print(f"{len(skipped)} of {len(rows)} images cannot be used. The first: {skipped[0]}")
    kept = rows.with_image_type(kinds).where(good)
    y, p = y[good], p[good]
    point = rule.operating_point
    threshold = point.threshold if point else None
    subgroups = [
        group
        for column in by
        for group in subgroup_metrics(column, subgroup_values(kept.table, column), y, p, threshold)
    ]
    matrix = scores.confusion(y, p.argmax(1), k, np.ones(len(y))).astype(np.int64)
    result = Evaluation(
        manifest=kept,
        split=split,
        y=y,
        p=p,
        metrics=compute_metrics(y, p, classifier.classes, kept.groups, replicates=replicates, seed=seed),
        counts=counts(y, p) if k == 2 else None,
        matrix=matrix,
        skipped=tuple(skipped),
        about=about,
        logits=logits[good],
        flags=tuple(flag for flag, usable in zip(flags, good, strict=True) if usable),
        decisions=decision_metrics(
            y,
            p,
            DecisionRule().probabilities(logits[good]),
            classifier.classes,
            kept.groups,
            threshold=threshold,
            member=rule.sets(p),
            prevalence=prevalence,
            at_use=rule.probabilities(logits[good], prevalence),
            replicates=replicates,
            seed=seed,
        ),
        subgroups=tuple(subgroups),
        readers=_compared(study, rows, good, p, 0.5 if threshold is None else threshold),
        threshold=threshold,
    )
    if on_test:
        _log_result(classifier, result)
    return result


def _log_result(classifier: Classifier, result: Evaluation) -> None:
    """Log what the operating point cost, for `nevus predict`; of two classes that are both among the images."""
    at, point = result.decisions.at_threshold, classifier.bundle.rule.operating_point
    if point and "sensitivity" in at and "specificity" in at and 0 < int(result.y.sum()) < len(result.y):
        log_test_result(
            classifier.bundle,
            {
                "data": result.about["data"]["name"],
                "digest": result.about["data"]["digest"],
                "split": result.split,
                "n": len(result.y),
                "positives": int(result.y.sum()),
                "guaranteed": point.sensitivity,
                **{
                    name: {"value": at[name].value, "ci_low": at[name].ci_low, "ci_high": at[name].ci_high}
                    for name in ("sensitivity", "specificity")
                },
            },
        )


def _read_study(path: Path | None, rows: Manifest) -> list[Reader]:
    if path is None:
        return []
    if len(rows.classes) != 2:
        raise NevusError("Cannot compare with readers: the bundle has more than two classes. Leave --readers out.")
    return read_reader_study(path, rows)


def _compared(
    study: list[Reader], rows: Manifest, good: NDArray[np.bool_], p: NDArray[np.float64], threshold: float
) -> tuple[ReaderComparison, ...]:
    """Compare with each reader on the images that could be used; `p` is of these, (usable, 2)."""
    y, place = rows.targets, np.cumsum(good) - 1
    found = []
    for reader in study:
        if reader.sensitivity is not None and reader.specificity is not None:
            found.append(known_reader(reader.name, reader.sensitivity, reader.specificity))
            continue
        usable = good[reader.rows]
        of = reader.rows[usable]
        found.append(compare_reader(reader.name, y[of], reader.decisions[usable], p[place[of], 1], threshold))
    return tuple(corrected(found))


def _check_columns(manifest: Manifest, by: Sequence[str], classes: int) -> None:
    known = {*manifest.table.columns, "image_type"} | (
        {"age_group"} if "age_approx" in manifest.table.columns else set()
    )
    for column in by:
        if column not in known:
            raise NevusError(
                f"Cannot evaluate by '{column}': {manifest.name} has no such column. Choose from "
                f"{', '.join(sorted(known))}."
            )
    if by and classes != 2:
        raise NevusError("Cannot evaluate by subgroup: the bundle has more than two classes. Leave --by out.")
