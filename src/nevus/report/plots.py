"""Plots, each a matplotlib Figure."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from nevus._io import atomic_path
from nevus.metrics.calibration import reliability
from nevus.metrics.curves import precision_recall_points, roc_points

if TYPE_CHECKING:
    from nevus.auditing.shortcuts import ShortcutScore

INK, BLUE, RED, GRAY = "#1f2933", "#2563a8", "#c2413b", "#9aa5b1"
SERIES = (BLUE, RED, "#d98e04", "#2f855a", "#6b46c1", "#0987a0", "#97266d", "#5a6772")


_METADATA: dict[str, dict[str, Any]] = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}


def axes(width: float = 4.6, height: float = 4.0) -> tuple[Figure, Axes]:
    """An empty figure in the house style; sizes in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    ax = figure.add_subplot()
    return figure, tidy(ax)


def tidy(ax: Axes) -> Axes:
    """Without box, with a faint grid."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(GRAY)
    ax.grid(color="#e4e7eb", linewidth=0.8)
    ax.set_axisbelow(True)
    ax.tick_params(colors=INK, labelsize=9)
    return ax


def plain(name: str) -> str:
    """A name for a plot: matplotlib would read dollar signs as mathematics."""
    return name.replace("$", r"\$")


def data_uri(figure: Figure) -> str:
    """A figure as an SVG data URI, for pages that stand alone."""
    buffer = io.BytesIO()
    with rc_context({"svg.fonttype": "none"}):  # text stays text: it can be searched and copied
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()


def save(figure: Figure, path: Path, dpi: int = 150) -> None:
    """Write a figure as PNG, SVG or PDF by the path's suffix, whole or not at all."""
    # A salt of our own: the same figure gives the same bytes.
    with rc_context({"svg.hashsalt": "nevus", "svg.fonttype": "none"}), atomic_path(path) as aside:
        figure.savefig(aside, format=path.suffix[1:], dpi=dpi, metadata=_METADATA.get(path.suffix))


Point = tuple[str, float, float]
"""Name, sensitivity and specificity."""


def roc(
    y: NDArray[np.int64],
    p: NDArray[np.float64],
    classes: Sequence[str],
    note: str = "",
    *,
    readers: Sequence[Point] = (),
    published: Sequence[Point] = (),
) -> Figure:
    """Draw ROC curves: of the positive class of two, else of each class against the rest.

    A class that is absent, or the only one, has none.

    Args:
        y: true class, (n,).
        p: probabilities (n, classes).
        classes: names.
        note: added to the title.
        readers: of these images.
        published: means of readers on other images.

    """
    figure, ax = axes()
    ax.plot([0, 1], [0, 1], color=GRAY, linewidth=1, linestyle=":")
    for cls, name, color in _drawn(y, classes):
        fpr, tpr = roc_points(y == cls, p[:, cls])
        ax.plot(fpr, tpr, color=color, linewidth=1.8, label=name)
    if readers:
        x, height = [1 - one[2] for one in readers], [one[1] for one in readers]
        ax.scatter(x, height, s=22, color=RED, zorder=3, label="readers")
        ax.scatter(np.mean(x), np.mean(height), s=70, marker="+", color=RED, zorder=3, label="mean of the readers")
    for marker, (name, sensitivity, specificity) in zip("sDv^", published, strict=False):
        ax.scatter(1 - specificity, sensitivity, s=36, marker=marker, facecolor="none", edgecolor=INK, label=name)
    if readers or published:
        ax.legend(frameon=False, fontsize=7, loc="lower right")
    ax.set(
        xlabel="1 - specificity",
        ylabel="sensitivity",
        title=f"ROC {note}".strip(),
        xlim=(-0.01, 1),
        ylim=(0, 1.01),
    )
    _legend(ax, len(classes))
    return figure


def precision_recall(y: NDArray[np.int64], p: NDArray[np.float64], classes: Sequence[str], note: str = "") -> Figure:
    """Precision-recall curves, with the share of positives as the line that chance would give."""
    figure, ax = axes()
    for cls, name, color in _drawn(y, classes):
        precision, recall = precision_recall_points(y == cls, p[:, cls])
        ax.plot(recall, precision, color=color, linewidth=1.8, label=name)
        ax.axhline(float((y == cls).mean()), color=color, linewidth=0.8, linestyle=":")
    ax.set(
        xlabel="recall (sensitivity)",
        ylabel="precision (PPV)",
        title=f"Precision-recall {note}".strip(),
        xlim=(0, 1.01),
        ylim=(0, 1.01),
    )
    _legend(ax, len(classes))
    return figure


def _drawn(y: NDArray[np.int64], classes: Sequence[str]) -> list[tuple[int, str, str]]:
    which = [1] if len(classes) == 2 else range(len(classes))
    return [
        (c, plain(classes[c]), SERIES[c % len(SERIES)] if len(classes) > 2 else BLUE)
        for c in which
        if 0 < int((y == c).sum()) < len(y)
    ]


def _legend(ax: Axes, classes: int) -> None:
    if classes > 2 and ax.get_legend_handles_labels()[0]:
        ax.legend(frameon=False, fontsize=8)


def calibration(y: NDArray[np.int64], before: NDArray[np.float64], after: NDArray[np.float64]) -> Figure:
    """Reliability diagram of probabilities (n, classes) before and after calibration, with 95 % intervals after it."""
    figure, ax = axes()
    ax.plot([0, 1], [0, 1], color=GRAY, linewidth=1, linestyle=":")
    old, new = reliability(y, before), reliability(y, after)
    if not np.array_equal(before, after):
        ax.plot(old.predicted, old.observed, "o--", color=GRAY, linewidth=1, markersize=3, label="before calibration")
    error = np.maximum([new.observed - new.low, new.high - new.observed], 0)
    ax.errorbar(
        new.predicted, new.observed, error, fmt="o-", color=BLUE, linewidth=1.5, markersize=4, label="probabilities"
    )
    ax.set(xlabel="predicted probability", ylabel="observed frequency", title="Calibration", xlim=(0, 1), ylim=(0, 1))
    ax.legend(frameon=False, fontsize=8)
    return figure


def decision_curve(curve: Mapping[str, NDArray[np.float64]]) -> Figure:
    """Net benefit by threshold probability, beside calling every image and no image positive."""
    figure, ax = axes()
    ax.axhline(0, color=GRAY, linewidth=1, linestyle=":", label="call none")
    ax.plot(curve["threshold"], curve["all"], color=RED, linewidth=1.2, label="call all")
    ax.plot(curve["threshold"], curve["model"], color=BLUE, linewidth=1.8, label="classifier")
    top = max(0.01, float(np.max([curve["model"], curve["all"]])))
    ax.set(xlabel="threshold probability", ylabel="net benefit", title="Decision curve", ylim=(-0.25 * top, 1.05 * top))
    ax.legend(frameon=False, fontsize=8)
    return figure


def confusion(matrix: NDArray[np.int64], classes: Sequence[str]) -> Figure:
    """Confusion matrix with counts and the share of each true class."""
    k = len(classes)
    figure, ax = axes(2.6 + 0.75 * k, 2.2 + 0.65 * k)
    with np.errstate(invalid="ignore"):
        share = matrix / matrix.sum(1, keepdims=True)
    ax.imshow(np.nan_to_num(share), cmap="Blues", vmin=0, vmax=1)
    ax.grid(visible=False)
    for row in range(k):
        for column in range(k):
            text = f"{matrix[row, column]}" + ("" if np.isnan(share[row, column]) else f"\n{share[row, column]:.1%}")
            dark = np.nan_to_num(share[row, column]) > 0.55
            ax.text(column, row, text, ha="center", va="center", fontsize=9, color="white" if dark else INK)
    ax.set_xticks(range(k), [plain(name) for name in classes], rotation=30 if k > 3 else 0)
    ax.set_yticks(range(k), [plain(name) for name in classes])
    ax.set(xlabel="called", ylabel="true", title="Confusion matrix")
    return figure


def histogram(y: NDArray[np.int64], p: NDArray[np.float64], classes: Sequence[str]) -> Figure:
    """Scores by true class: of two classes the positive's probability, of more that of the true class."""
    figure, ax = axes()
    score = p[:, 1] if len(classes) == 2 else p[np.arange(len(y)), y]
    bins = np.linspace(0, 1, 26).tolist()
    for cls, name in enumerate(classes):
        if (y == cls).any():
            color = (BLUE, RED)[cls] if len(classes) == 2 else SERIES[cls % len(SERIES)]
            ax.hist(
                score[y == cls],
                bins,
                alpha=0.55 if len(classes) == 2 else 1,
                color=color,
                label=f"true: {plain(name)}",
                histtype="stepfilled" if len(classes) == 2 else "step",
            )
    what = plain(classes[1]) if len(classes) == 2 else "true class"
    ax.set(xlabel=f"probability of: {what}", ylabel="images", title="Scores", xlim=(0, 1))
    ax.legend(frameon=False, fontsize=8)
    return figure


def training_curves(rows: Sequence[Mapping[str, float]], fit: Mapping[str, Any]) -> Figure:
    """Accuracy and loss of training and validation by epoch (the paper's Fig. 3), with the gap in words.

    Args:
        rows: see `nevus.training.history.metrics_by_epoch`.
        fit: the run's `fit.json`.

    """
    accuracy = fit["validation"]["accuracy"]["value"]
    return _curves(
        rows,
        "accuracy",
        f"kept weights, whole images: training accuracy {fit['training_accuracy']:.1%}, "
        f"validation {accuracy:.1%}, gap {100 * fit['gap']:+.1f} points",
    )


def upstream_curves(rows: Sequence[Mapping[str, float]], score: str, title: str) -> Figure:
    """Score and loss of a pre-training or a distillation by epoch; see `nevus.training.history.metrics_by_epoch`."""
    return _curves(rows, score, title)


def _curves(rows: Sequence[Mapping[str, float]], score: str, title: str) -> Figure:
    figure = Figure(figsize=(9.2, 3.8), layout="constrained")
    epoch = [row["epoch"] for row in rows]
    for ax, what in zip(figure.subplots(1, 2), (score, "loss"), strict=True):
        tidy(ax)
        marker = "o" if len(rows) < 40 else None
        for of, color, label in (
            ("training", BLUE, "training"),
            ("validation", RED, "validation"),
        ):
            values = [row[f"{of}_{what}"] for row in rows]
            ax.plot(epoch, values, color=color, marker=marker, markersize=3, label=label)
        ax.set(xlabel="epoch", title=what)
        if what == "loss":
            ax.set_ylim(bottom=0)
    ax.legend(frameon=False, fontsize=8)
    figure.suptitle(title, fontsize=10, color=INK)
    return figure


def shortcuts(scores: Sequence[ShortcutScore]) -> Figure:
    """AUROC of the label, and of the source, by what is shown of the images, with 95 % intervals."""
    figure = Figure(figsize=(8.0, 0.9 + 0.42 * len(scores)), layout="constrained")
    ax = tidy(figure.add_subplot())
    for place, one in enumerate(scores):
        whole = one.view == "whole image"
        color = GRAY if whole else (RED if one.what == "label" else BLUE)
        if np.isfinite(one.low):
            ax.plot([one.low, one.high], [place, place], color=color, linewidth=2.5, solid_capstyle="butt")
        ax.plot(one.auroc, place, "o", color=color, markersize=6)
        ax.annotate(f"{one.auroc:.3f}", (one.auroc, place), (0, 6), textcoords="offset points", ha="center", fontsize=8)
    ax.axvline(0.5, color=GRAY, linewidth=1, linestyle="--")
    ax.set_yticks(range(len(scores)), [f"{one.what} from {one.view}" for one in scores])
    left = min([0.4, *(one.low - 0.02 for one in scores if np.isfinite(one.low))])
    ax.set(xlim=(left, 1.02), ylim=(len(scores) - 0.4, -0.6), xlabel="AUROC out of fold (0.5: chance)")
    return figure
