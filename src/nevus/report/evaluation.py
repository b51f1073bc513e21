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
from nevus.bundle.wording import FLAGS, operating_point_sentence
from nevus.comparison.published import READERS
from nevus.data.walker import LeftOut
from nevus.errors import NevusError
from nevus.evaluation import Evaluation
from nevus.metrics.report import MetricEstimate
from nevus.report import plots
from nevus.report.evaluation_text import is_external, methods_paragraph, next_step, summary, warnings_of
from nevus.report.page import environment
from nevus.report.thumbnails import Tile, tile

WORST = 24
"""Largest number of mistakes of a class on the page."""


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
    if run.get("history") and not is_external(evaluation, classifier):
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
