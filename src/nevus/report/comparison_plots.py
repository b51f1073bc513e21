"""The paper's two figures with intervals, and accuracy against training time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, NullFormatter

from nevus.comparison.published import READERS
from nevus.comparison.table import INITIALIZATIONS, is_ranked
from nevus.report.plots import BLUE, INK, RED, axes, plain

COLORS = {"pretrained": BLUE, "random": "#d98e04", "features": "#2f855a", "readers": RED}
"""By initialization group."""
Row = Mapping[Any, Any]
"""A row of `nevus.comparison.table.comparison_table`."""


def label(row: Row) -> str:
    """Return the name of a method with its tuning."""
    return f"{row['title']}, {row['tuning']}" if row["tuning"] else str(row["title"])


def accuracies(rows: Sequence[Row]) -> Figure:
    """Draw the accuracy of all methods (the paper's Fig. 1) with 95 % intervals, and what the paper prints."""
    drawn = [row for row in rows if is_ranked(row)]
    figure, ax, places = _bars(drawn)
    for place, row in zip(places, drawn, strict=True):
        value = 100 * row["accuracy"]
        ax.barh(place, value, color=COLORS[row["initialization"]], height=0.62)
        ax.plot([100 * row["accuracy_low"], 100 * row["accuracy_high"]], [place, place], color=INK, linewidth=1.4)
        ax.text(100.6, place, f"{value:.1f}", va="center", fontsize=8, color=INK)
        if row["paper_accuracy"] > 0:
            ax.plot(100 * row["paper_accuracy"], place, marker="D", markersize=5, color=RED, linestyle="none")
    low = min([40.0, *(90 * row["accuracy"] for row in drawn)])
    ax.set(xlabel="accuracy on the test split in %, 95 % interval", xlim=(low, 105), title="Accuracy")
    _legend(figure, ax, drawn, "paper_accuracy", "printed by the paper")
    return figure


def times(rows: Sequence[Row]) -> Figure:
    """Draw the training time of all methods (the paper's Fig. 2), and what the paper prints, on a P100 GPU."""
    drawn = [row for row in rows if is_ranked(row)]
    figure, ax, places = _bars(drawn)
    rim = ax.get_yaxis_transform()
    for place, row in zip(places, drawn, strict=True):
        ax.barh(place, max(row["seconds"], 1e-2), color=COLORS[row["initialization"]], height=0.62)
        # At the rim, where neither a bar nor the paper's mark reaches.
        text = f"{row['seconds']:,.1f} s"
        ax.text(0.99, place, text, transform=rim, va="center", ha="right", fontsize=8, color=INK)
        if row["paper_seconds"] > 0:
            ax.plot(row["paper_seconds"], place, marker="D", markersize=5, color=RED, linestyle="none")
    _decades(ax)
    longest = max([1.0, *(value for row in drawn for value in (row["seconds"], row["paper_seconds"]) if value > 0)])
    ax.set(xlabel="training time in seconds, features included", xlim=(0.1, 6 * longest), title="Training time")
    _legend(figure, ax, drawn, "paper_seconds", "printed by the paper, on a P100 GPU")
    return figure


def accuracy_by_time(rows: Sequence[Row]) -> Figure:
    """Draw the accuracy with its interval by training time."""
    drawn = [row for row in rows if is_ranked(row)]
    figure, ax = axes(8.4, 4.6)
    seconds = [max(row["seconds"], 1e-2) for row in drawn]
    for x, row in zip(seconds, drawn, strict=True):
        ends = [100 * row["accuracy_low"], 100 * row["accuracy_high"]]
        ax.plot([x, x], ends, color=COLORS[row["initialization"]], linewidth=1.2)
    _numbered(figure, ax, drawn, [(x, 100 * row["accuracy"]) for x, row in zip(seconds, drawn, strict=True)])
    _decades(ax, (1, 2, 5))  # all times may be in one decade
    ax.set_xlim(min(seconds, default=1.0) / 2, max(seconds, default=1.0) * 2)
    ax.set(xlabel="training time in seconds", ylabel="accuracy in %", title="Accuracy by training time")
    _legend(figure, ax, drawn)
    return figure


def readers(rows: Sequence[Row]) -> Figure:
    """Draw sensitivity and specificity of each method, and those of dermatologists on other images."""
    figure, ax = axes(8.4, 4.6)
    drawn = [row for row in rows if is_ranked(row)]
    points = [(100 - 100 * row["specificity"], 100 * row["sensitivity"]) for row in drawn]
    stars = []
    for study in READERS:
        x, y = 100 - 100 * study.specificity, 100 * study.sensitivity
        name = f"{study.readers} dermatologists, {study.study.partition(' et ')[0]}, other images"
        (star,) = ax.plot(x, y, marker="*", markersize=11, color=RED, linestyle="none", label=name)
        stars.append(star)
        points.append((x, y))
    _numbered(figure, ax, drawn, points[: len(drawn)], stars)
    (left, low), (right, _) = np.min(points, 0), np.max(points, 0)
    ax.set(
        xlabel="100 - specificity in %",
        ylabel="sensitivity in %",
        xlim=(max(-2, left - 5), min(102, right + 5)),
        ylim=(max(-2, low - 8), 102),
        title="Dermatologists assessed other images",
    )
    _legend(figure, ax, drawn)
    return figure


def _bars(drawn: Sequence[Row]) -> tuple[Figure, Axes, np.ndarray]:
    figure, ax = axes(7.4, 0.9 + 0.42 * max(1, len(drawn)))
    places = np.arange(len(drawn))[::-1]
    ax.set_yticks(places, [label(row) for row in drawn])
    ax.tick_params(axis="y", length=0)
    ax.grid(visible=False, axis="y")
    return figure, ax, places


def _numbered(
    figure: Figure, ax: Axes, drawn: Sequence[Row], points: Sequence[tuple[float, float]], more: Sequence[Artist] = ()
) -> None:
    """Draw a point with a number for each method, and the names in a legend: at the points they would overlap."""
    handles: list[Artist] = []
    for number, (row, point) in enumerate(zip(drawn, points, strict=True), 1):
        color = COLORS[row["initialization"]]
        ax.plot(*point, marker="o", markersize=10, color=color, markeredgecolor="white", clip_on=False)
        ax.annotate(str(number), point, fontsize=6.5, color="white", ha="center", va="center_baseline")
        name = f"{number}  {plain(label(row))}"
        handles.append(Line2D([], [], marker="o", color=color, linestyle="none", label=name))
    if handles or more:
        legend = [*handles, *more]
        figure.legend(handles=legend, frameon=False, fontsize=7.5, labelcolor=INK, loc="outside right upper")


def _decades(ax: Axes, parts: Sequence[int] = (1,)) -> None:
    """Set a logarithmic axis with plain numbers, at these parts of each decade."""
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(LogLocator(subs=parts))
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_formatter(NullFormatter())


def _legend(figure: Figure, ax: Axes, drawn: Sequence[Row], column: str = "", text: str = "") -> None:
    """Draw the legend below the plot: inside, it would cover bars."""
    handles: list[Artist] = [
        Patch(color=COLORS[name], label=INITIALIZATIONS[name].partition(",")[0])
        for name in dict.fromkeys(row["initialization"] for row in drawn)
    ]
    if text and any(row[column] > 0 for row in drawn):
        handles.append(ax.plot([], [], marker="D", color=RED, linestyle="none", label=text)[0])
    if handles:
        figure.legend(handles=handles, frameon=False, fontsize=7.5, labelcolor=INK, loc="outside lower center", ncols=2)
