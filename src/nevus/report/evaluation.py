"""Self-contained HTML pages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from nevus._io import atomic_path, ensure_writable, write_json, write_text
from nevus.bundle.classifier import Classifier
from nevus.bundle.model_card import DISCLAIMER
from nevus.bundle.test_log import read_test_log
from nevus.data.walker import LeftOut
from nevus.errors import NevusError
from nevus.evaluation import Evaluation
from nevus.report import plots
from nevus.report.thumbnails import Tile, tile

WORST = 24


def environment() -> Environment:
    """Templates with their filters; every value is escaped."""
    made = Environment(
        loader=PackageLoader("nevus.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["figure"] = format_metric
    made.filters["words"] = humanize
    return made


def format_metric(value: float | None) -> str:
    """A figure with four digits, or `undefined`."""
    return "undefined" if value is None or not np.isfinite(value) else f"{value:.4f}"


UPPER = {"auroc": "AUROC", "auprc": "AUPRC", "ppv": "PPV", "npv": "NPV", "f1": "F1", "mcc": "MCC"}


def humanize(name: str) -> str:
    """`balanced_accuracy` to `balanced accuracy`, `auroc:mel` to `AUROC of mel`."""
    kind, _, cls = name.partition(":")
    kind = " ".join(UPPER.get(part, part) for part in kind.split("_"))
    kind = kind.replace("brier", "Brier score")
    return f"{kind} of {cls}" if cls else kind


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
        raise NevusError(f"{out} holds {there[0]} of another bundle or program; choose another folder with --out.")


def write_evaluation(evaluation: Evaluation, classifier: Classifier, out: Path) -> Path:
    """Write `evaluation.json`, `predictions.csv`, `skipped.txt` and `evaluation.html`; return the page's path.

    Raises:
        NevusError: the folder cannot be written.

    """
    ensure_writable(out)
    write_json(out / "evaluation.json", evaluation.as_dict())
    table = evaluation.manifest.table[["image", "label"]].copy()
    table["called"] = [classifier.classes[c] for c in evaluation.p.argmax(1)]
    for index, name in enumerate(classifier.classes):
        table[f"p_{name}"] = evaluation.p[:, index]
    lines = [*LeftOut(list(evaluation.manifest.left_out)).lines(), *evaluation.skipped]
    write_text(out / "skipped.txt", "".join(f"{line}\n" for line in lines))
    with atomic_path(out / "predictions.csv") as aside:
        table.to_csv(aside, index=False, lineterminator="\n")
    page = (
        environment()
        .get_template("evaluation.html")
        .render(
            disclaimer=DISCLAIMER,
            e=evaluation,
            bundle=classifier.bundle,
            looks=len(read_test_log(classifier.bundle)) if classifier.bundle.folder else 0,
            plots=_plots(evaluation, classifier),
            sheets=worst_mistakes(evaluation),
        )
    )
    path = out / "evaluation.html"
    write_text(path, page)
    return path


def _plots(evaluation: Evaluation, classifier: Classifier) -> list[tuple[str, str]]:
    y, p, classes = evaluation.y, evaluation.p, classifier.classes
    drawn: dict[str, Any] = {
        "ROC curve": plots.roc(y, p, classes),
        "Precision-recall curve": plots.precision_recall(y, p, classes),
        "Confusion matrix": plots.confusion(evaluation.matrix, classes),
        "Histogram of scores": plots.histogram(y, p, classes),
    }
    run = classifier.bundle.provenance
    if run.get("history"):
        drawn["Training and validation by epoch"] = plots.training_curves(run["history"], run["fit"])
    return [(name, plots.data_uri(figure)) for name, figure in drawn.items()]


def worst_mistakes(evaluation: Evaluation, most: int = WORST) -> list[tuple[str, list[Tile]]]:
    """Contact sheets of wrong calls, one a true class, the surest first."""
    called = evaluation.p.argmax(1)
    sheets = []
    for cls, name in enumerate(evaluation.manifest.classes):
        wrong = np.flatnonzero((evaluation.y == cls) & (called != cls))
        worst = wrong[np.argsort(-evaluation.p[wrong].max(1), kind="stable")][:most]
        tiles = []
        for row in worst:
            other = evaluation.manifest.classes[called[row]]
            made = tile(
                evaluation.manifest.paths[row],
                evaluation.manifest.table["image"].iloc[row],
                f"called {other} ({evaluation.p[row, called[row]]:.0%})",
            )
            if made:
                tiles.append(made)
        total = int((evaluation.y == cls).sum())
        sheets.append((f"True {name}, called otherwise: {len(wrong)} of {total}", tiles))
    return sheets
