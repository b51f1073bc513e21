"""The report of an evaluation: a page, tables, figures and a methods paragraph."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from nevus._io import ensure_writable, write_json, write_text
from nevus.bundle.classifier import Classifier
from nevus.bundle.decision import CANNOT_JUDGE, DecisionRule
from nevus.bundle.model_card import DISCLAIMER
from nevus.bundle.test_log import read_test_log
from nevus.bundle.training_overlap import RULE
from nevus.bundle.wording import FLAGS, operating_point_sentence
from nevus.comparison.published import READERS
from nevus.data.walker import LeftOut
from nevus.errors import NevusError
from nevus.evaluation import Evaluation
from nevus.metrics.report import MetricEstimate
from nevus.report import plots
from nevus.report.page import environment
from nevus.report.thumbnails import Tile, tile

WORST = 24
"""Largest number of mistakes of a class on the page."""
MANY_FLAGGED = 0.15
"""Share of flagged images from which a data set counts as unlike the validation images."""
MISCALIBRATED = 0.05
"""Calibration error, in the lower end of its interval, from which the page warns."""
FEW_IMAGES = 30
"""Images of a class below which the page warns of wide intervals."""


def check_output_dir(out: Path, digest: str) -> None:
    """Make sure that an evaluation may be written into a folder.

    Args:
        out: the folder; an earlier evaluation of the same bundle gives way.
        digest: of the bundle.

    Raises:
        NevusError: another bundle's evaluation, or a file of another program with such a name, is there; or the
            folder cannot be written.

    """
    ensure_writable(out)
    there = [name for name in ("evaluation.json", "predictions.csv", "evaluation.html") if (out / name).exists()]
    if not there:
        return
    try:
        ours = json.loads((out / "evaluation.json").read_text(encoding="utf-8"))["bundle"]["digest"] == digest
    except (OSError, ValueError, KeyError, TypeError):
        ours = False
    if not ours:
        raise NevusError(
            f"Cannot write to {out}: {there[0]} there is of another bundle or program. Choose another --out."
        )


METHODS = {"wilson": "Wilson", "delong": "DeLong", "bootstrap": "bootstrap by group"}


def write_evaluation(evaluation: Evaluation, classifier: Classifier, out: Path) -> Path:
    """Write the report of an evaluation; returns the page's path.

    `evaluation.json`, `predictions.csv`, `skipped.txt`, `metrics.csv`, `metrics.tex`, `methods.txt`, each plot as svg
    and pdf in `figures/`, and `evaluation.html`.

    Raises:
        NevusError: the folder cannot be written.

    """
    ensure_writable(out)
    write_json(out / "evaluation.json", {**evaluation.as_dict(), "warnings": warnings_of(evaluation, classifier)})
    table = evaluation.manifest.table[["image", "label"]].copy()
    table["predicted"] = [classifier.classes[c] for c in evaluation.p.argmax(1)]
    for index, name in enumerate(classifier.classes):
        table[f"p_{name}"] = evaluation.p[:, index]
    rule = classifier.bundle.rule
    member, called = rule.sets(evaluation.p), rule.called(evaluation.p)
    table["decision"] = [
        CANNOT_JUDGE if flag else classifier.classes[c] for flag, c in zip(evaluation.flags, called, strict=True)
    ]
    if member is not None:
        table["set"] = ["|".join(n for n, m in zip(classifier.classes, row, strict=True) if m) for row in member]
    table["flag"] = evaluation.flags
    lines = [*LeftOut(list(evaluation.manifest.left_out)).lines(), *evaluation.skipped]
    write_text(out / "skipped.txt", "".join(f"{line}\n" for line in lines))
    write_text(out / "predictions.csv", table.to_csv(index=False, lineterminator="\n"))
    metrics = metrics_table(evaluation)
    write_text(out / "metrics.csv", metrics.to_csv(index=False, lineterminator="\n"))
    write_text(out / "metrics.tex", metrics.round(4).to_latex(index=False, escape=True))
    if evaluation.subgroups:
        write_text(out / "subgroups.csv", subgroup_table(evaluation).to_csv(index=False, lineterminator="\n"))
    paragraph = methods_paragraph(evaluation, classifier)
    write_text(out / "methods.txt", paragraph + "\n")
    figures = _figures(evaluation, classifier)
    for name, figure in figures.items():
        for suffix in (".svg", ".pdf"):
            plots.save(figure, out / "figures" / f"{name.lower().replace(' ', '-')}{suffix}")
    page = (
        environment()
        .get_template("evaluation.html")
        .render(
            disclaimer=DISCLAIMER,
            e=evaluation,
            n_groups=evaluation.manifest.table["group"].nunique(),
            summary=summary(evaluation),
            warnings=warnings_of(evaluation, classifier),
            next_step=next_step(evaluation),
            methods=METHODS,
            flag_counts=[(flag, FLAGS[flag], n) for flag, n in Counter(f for f in evaluation.flags if f).most_common()],
            operating_point=operating_point_sentence(rule, classifier.classes[-1]),
            rule=rule,
            published=READERS,
            paragraph=paragraph,
            bundle=classifier.bundle,
            test_evaluations=len(read_test_log(classifier.bundle)) if classifier.bundle.folder else 0,
            plots=[(name, plots.data_uri(figure)) for name, figure in figures.items()],
            sheets=worst_mistakes(evaluation, link_from=out),
        )
    )
    path = out / "evaluation.html"
    write_text(path, page)
    return path


def decided_metrics(evaluation: Evaluation) -> dict[str, MetricEstimate]:
    """Return the metrics at the operating point, as `sensitivity_at_operating_point`, and `coverage:<class>`."""
    at = {f"{name}_at_operating_point": one for name, one in evaluation.decisions.at_threshold.items()}
    return at | {f"coverage:{name}": one for name, one in evaluation.decisions.coverage.items()}


def metrics_table(evaluation: Evaluation) -> pd.DataFrame:
    """Return a row for each metric: its name, value, interval, method and n; those of decisions come last."""
    return pd.DataFrame(
        [
            (name, one.value, one.ci_low, one.ci_high, METHODS[one.method], one.n)
            for name, one in {**evaluation.metrics, **decided_metrics(evaluation)}.items()
        ],
        columns=["metric", "value", "ci_low", "ci_high", "method", "n"],
    )


def subgroup_table(evaluation: Evaluation) -> pd.DataFrame:
    """Return a row for each subgroup: n, positives, each metric with its interval, the gap of the AUROC and its p."""
    rows = []
    for one in evaluation.subgroups:
        row: dict[str, object] = {"column": one.column, "value": one.value, "n": one.n, "positives": one.positives}
        for name, metric in one.metrics.items():
            row |= {name: metric.value, f"{name}_low": metric.ci_low, f"{name}_high": metric.ci_high}
        rows.append(row | {"auroc_gap": one.gap, "p": one.p, "few": one.few})
    return pd.DataFrame(rows)


def summary(evaluation: Evaluation) -> str:
    """Return the result in a sentence or two."""
    counts, classes, n = evaluation.counts, evaluation.manifest.classes, len(evaluation.y)
    flagged = sum(map(bool, evaluation.flags))
    first = f"{flagged:,} of {n:,} images cannot be judged. " if flagged else ""
    if counts is None:
        right = int(evaluation.matrix.trace())
        return f"{first}{right:,} of {n:,} images are classified correctly."
    y, called = evaluation.y, evaluation.called
    positives, missed = int((y == 1).sum()), int(((y == 1) & (called == 0)).sum())
    negatives, alarms = int((y == 0).sum()), int(((y == 0) & (called == 1)).sum())
    where = "At the operating point" if evaluation.decisions.at_threshold else "At threshold 0.5"
    return first + (
        f"{where}: {positives - missed:,} of {positives:,} {classes[1]} images found, {missed:,} missed; {alarms:,} of "
        f"{negatives:,} {classes[0]} images called {classes[1]} (false alarms)."
    )


def warnings_of(evaluation: Evaluation, classifier: Classifier) -> list[str]:
    """Return what a reader of the metrics has to know, one sentence each."""
    trained = classifier.bundle.provenance["data"]
    warnings = []
    about, audit = evaluation.about, trained.get("audit") or {}
    if about["on_training_images"]:
        warnings.append("Training images are among these images. The metrics do not apply to new images.")
    elif _is_external(evaluation, classifier):
        warnings.append(
            f"{about['data']['name']} is another data set than {trained['name']}, on which the classifier was trained. "
            "If it is of another source, this is an external test, and the threshold may not suit it."
        )
    for name, count in about["training_overlap"].items():
        verb = "was fitted" if name == RULE else "was trained"
        warnings.append(
            f"{name[0].upper()}{name[1:]} {verb} on {count:,} of these {len(evaluation.y):,} images, by file, "
            "ISIC id or lesion id. Metrics on them do not apply to new images."
        )
    leaks = audit.get("train", 0) and not audit.get("dropped") and not about["leaks_dropped"]
    if evaluation.split == "test" and leaks and not _is_external(evaluation, classifier):
        warnings.append(
            f"The training found leakage: training images that share a lesion with test images: {audit['train']:,}; "
            f"such test images: {audit['test']:,}. These metrics are optimistic. Add --drop-leaks to exclude them."
        )
    warnings += unlike_training(evaluation, classifier)
    if evaluation.split == "validation":
        warnings.append("The weights were chosen on the validation split. These metrics are slightly optimistic.")
    if about["earlier_test_evaluations"]:
        warnings.append(
            f"Earlier evaluations of this bundle on test splits: {about['earlier_test_evaluations']:,}. A setting that "
            "is chosen by them makes the metrics optimistic."
        )
    few = [
        name for code, name in enumerate(evaluation.manifest.classes) if int((evaluation.y == code).sum()) < FEW_IMAGES
    ]
    if few:
        warnings.append(f"Fewer than {FEW_IMAGES} images of {' and of '.join(few)}: the intervals are wide.")
    return warnings


def unlike_training(evaluation: Evaluation, classifier: Classifier) -> list[str]:
    """Return the signs that the images are unlike those that the bundle was validated on."""
    rule, decisions, n = classifier.bundle.rule, evaluation.decisions, len(evaluation.flags)
    found = []
    counts = Counter(evaluation.flags)
    if counts["foreign"] > MANY_FLAGGED * n:
        found.append(f"Images that do not look like skin lesions: {counts['foreign'] / n:.0%}.")
    if counts["unvalidated kind"] > MANY_FLAGGED * n:
        found.append(f"Images of a kind that the bundle was not validated on: {counts['unvalidated kind'] / n:.0%}.")
    point = rule.operating_point
    reached = decisions.at_threshold.get("sensitivity")
    if point and reached and reached.ci_high < point.sensitivity:
        found.append(
            f"The operating point promises a sensitivity of {point.sensitivity:.0%}; on these images it is "
            f"{reached.value:.1%} ({reached.ci_low:.1%} to {reached.ci_high:.1%})."
        )
    for name, one in decisions.coverage.items():
        if one.ci_high < 1 - rule.alpha:
            found.append(
                f"The sets promise to contain {name} in {1 - rule.alpha:.0%} of its images; on these images they do in "
                f"{one.value:.1%} ({one.ci_low:.1%} to {one.ci_high:.1%})."
            )
    error = decisions.after["ece"]
    if error.ci_low > MISCALIBRATED:
        found.append(
            f"The probabilities are off by {error.value:.2f} on average ({error.ci_low:.2f} to {error.ci_high:.2f})."
        )
    return [f"Unlike the validation images. {sentence}" for sentence in found]


def next_step(evaluation: Evaluation) -> str:
    """Return what to do with an evaluation."""
    if evaluation.about["on_training_images"]:
        return "Evaluate on the test split: give manifest.parquet of the run."
    return "Look at the mistakes, the most confident first. Then evaluate on images of another clinic or camera."


def _is_external(evaluation: Evaluation, classifier: Classifier) -> bool:
    trained = classifier.bundle.provenance["data"]
    return str(evaluation.about["data"]["name"]) != str(trained["name"])


def methods_paragraph(evaluation: Evaluation, classifier: Classifier) -> str:
    """Return a paragraph for the methods section of a paper: data, groups, split, training, seed, versions, digests."""
    bundle, about, table = classifier.bundle, evaluation.about, evaluation.manifest.table
    provenance, size = bundle.provenance, bundle.spec.image_size
    config, trained = provenance.get("config", {}), provenance["data"]
    counts = ", ".join(
        f"{int((evaluation.y == code).sum()):,} {name}" for code, name in enumerate(evaluation.manifest.classes)
    )
    names = [name for name in ("preset", "tuning", "steps", "batch_size") if name in config]
    training = "".join(f", {name.replace('_', ' ')} {config[name]}" for name in names)
    versions = provenance.get("versions", {})
    named = ", ".join(f"{name} {versions[name]}" for name in ("nevus", "torch", "timm") if versions.get(name))
    return " ".join(
        [
            f"A {bundle.spec.backbone} classifier was trained on {trained['name']} (manifest "
            f"{trained.get('digest', '')}) with {named or 'nevus'}{training}, seed {provenance.get('seed', 0)}; "
            f"initial weights: {provenance.get('backbone_weights', 'not known')}.",
            f"Images were resized to {size} x {size} pixels; test-time augmentation: {about['tta']}.",
            f"It was evaluated on the split {evaluation.split} of {about['data']['name']} (manifest "
            f"{about['data']['digest']}; protocol of the training: {trained.get('protocol', 'not known')}): "
            f"{len(table):,} images ({counts}) in {table['group'].nunique():,} groups.",
            "Intervals are 95 % intervals: Wilson for proportions, DeLong for AUROC; for all other metrics, and where",
            f"a group has several images, a bootstrap over groups with {about['bootstrap']['replicates']:,} samples.",
            _decision_methods(evaluation, bundle.rule),
            f"Bundle {about['bundle']['digest']}.",
        ]
    )


def _points(evaluation: Evaluation) -> list[plots.Point]:
    return [(one.name, one.reader["sensitivity"].value, one.reader["specificity"].value) for one in evaluation.readers]


def published_points(evaluation: Evaluation) -> list[plots.Point]:
    """Return published means of readers, for the plot, where readers were given. They are of other images."""
    if not evaluation.readers:
        return []
    return [
        (
            f"{one.readers} dermatologists, other images ({one.study.split(' et al.')[0]} {one.study[-4:]})",
            one.sensitivity,
            one.specificity,
        )
        for one in READERS
    ]


def _decision_methods(evaluation: Evaluation, rule: DecisionRule) -> str:
    parts = []
    if rule.calibration is not None:
        with_shift = "Platt scaling" if len(rule.calibration.shift) == 2 else "vector scaling"
        kind = with_shift if any(rule.calibration.shift) else "temperature scaling"
        parts.append(f"Probabilities were calibrated by {kind}.")
    point = rule.operating_point
    if point is not None and point.threshold is not None:
        parts.append(
            f"The operating point is a threshold of {point.threshold:.4f}, chosen on {point.positives:,} positive "
            f"cases for a sensitivity of at least {point.sensitivity:.0%} with {point.confidence:.0%} confidence."
        )
    if rule.set_thresholds:
        parts.append(f"Prediction sets are class-conditional conformal sets with a coverage of {1 - rule.alpha:.0%}.")
    if evaluation.decisions.prevalence is not None:
        parts.append(
            f"PPV, NPV and net benefit of decisions are for a prevalence of {evaluation.decisions.prevalence}."
        )
    return " ".join(parts)


def _figures(evaluation: Evaluation, classifier: Classifier) -> dict[str, Figure]:
    y, p, classes = evaluation.y, evaluation.p, classifier.classes
    figures = {
        "ROC curve": plots.roc(y, p, classes, readers=_points(evaluation), published=published_points(evaluation)),
        "Precision-recall curve": plots.precision_recall(y, p, classes),
        "Confusion matrix": plots.confusion(evaluation.matrix, classes),
        "Histogram of scores": plots.histogram(y, p, classes),
        "Calibration": plots.calibration(y, DecisionRule().probabilities(evaluation.logits), p),
    }
    if evaluation.decisions.curve:
        figures["Decision curve"] = plots.decision_curve(evaluation.decisions.curve)
    run = classifier.bundle.provenance
    if run.get("history") and not _is_external(evaluation, classifier):
        figures["Training and validation by epoch"] = plots.training_curves(run["history"], run["fit"])
    return figures


def worst_mistakes(
    evaluation: Evaluation, most: int = WORST, link_from: Path | None = None
) -> list[tuple[str, list[Tile]]]:
    """Return contact sheets of wrong decisions, one for each true class, sorted by decreasing confidence.

    Of two classes the positive one comes first: its mistakes are missed.
    """
    predicted, classes = evaluation.called, evaluation.manifest.classes
    order = [1, 0] if len(classes) == 2 else list(range(len(classes)))
    sheets = []
    for cls in order:
        wrong = np.flatnonzero((evaluation.y == cls) & (predicted != cls))
        worst = wrong[np.argsort(-evaluation.p[wrong, predicted[wrong]], kind="stable")][:most]
        tiles = []
        for row in worst:
            other = classes[predicted[row]]
            made = tile(
                evaluation.manifest.paths[row],
                evaluation.manifest.table["image"].iloc[row],
                f"predicted {other} ({evaluation.p[row, predicted[row]]:.0%})",
                link_from=link_from,
            )
            if made:
                tiles.append(made)
        total = int((evaluation.y == cls).sum())
        kind = {1: "Missed ", 0: "False alarms, true "}[cls] if len(classes) == 2 else "Wrong, true "
        sheets.append((f"{kind}{classes[cls]}: {len(wrong):,} of {total:,}", tiles))
    return sheets
