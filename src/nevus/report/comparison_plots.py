"""The paper's two figures with intervals, and accuracy against training time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, NullFormatter

from nevus.comparison.plan import INITIALIZATIONS
from nevus.comparison.published import READERS
from nevus.comparison.table import ResultRow
from nevus.report.plots import BLUE, INK, RED, axes, plain

COLORS = {"pretrained": BLUE, "random": "#d98e04", "features": "#2f855a", "readers": RED}
"""By what a system starts from."""


def label(row: ResultRow) -> str:
    """Of a system and its tuning."""
    return f"{row.title}, {row.tuning}" if row.tuning else row.title


def accuracies(rows: Sequence[ResultRow]) -> Figure:
    """Accuracy of all systems (the paper's Fig. 1) with 95 % intervals, and what the paper prints."""
    drawn = [row for row in rows if row.metrics and "accuracy" in row.metrics]
    figure, ax = axes(7.4, 0.9 + 0.42 * max(1, len(drawn)))
    places = np.arange(len(drawn))[::-1]
    for place, row in zip(places, drawn, strict=True):
        assert row.metrics is not None
        one = row.metrics["accuracy"]
        ax.barh(place, 100 * one.value, color=COLORS[row.initialization], height=0.62)
        ax.plot([100 * one.ci_low, 100 * one.ci_high], [place, place], color=INK, linewidth=1.4)
        ax.text(100.6, place, f"{100 * one.value:.1f}", va="center", fontsize=8, color=INK)
        for value in row.accuracies[1:]:
            ax.plot(100 * value, place, marker="o", markersize=3, color=INK)
        if np.isfinite(row.paper):
            ax.plot(100 * row.paper, place, marker="D", markersize=5, color=RED, linestyle="none")
    _names(ax, drawn, places)
    low = min([40.0, *(90 * row.metrics["accuracy"].value for row in drawn if row.metrics)])
    ax.set(xlabel="accuracy on the test split in %, 95 % interval", xlim=(low, 105), title="Accuracy")
    _legend(figure, ax, drawn, "printed by the paper")
    return figure


def times(rows: Sequence[ResultRow]) -> Figure:
    """Training time of all systems (the paper's Fig. 2) with the range over seeds, and what the paper prints, on a
    P100 GPU.
    """
    drawn = [row for row in rows if np.isfinite(row.seconds)]
    figure, ax = axes(7.4, 0.9 + 0.42 * max(1, len(drawn)))
    places = np.arange(len(drawn))[::-1]
    rim = ax.get_yaxis_transform()
    for place, row in zip(places, drawn, strict=True):
        ax.barh(place, max(row.seconds, 1e-2), color=COLORS[row.initialization], height=0.62)
        if len(row.times) > 1:
            ax.plot([min(row.times), max(row.times)], [place, place], color=INK, linewidth=1.4)
        # At the rim, where neither a bar nor the paper's mark reaches.
        told = f"{row.seconds:,.1f} s"
        ax.text(0.99, place, told, transform=rim, va="center", ha="right", fontsize=8, color=INK)
        if np.isfinite(row.paper_seconds):
            ax.plot(row.paper_seconds, place, marker="D", markersize=5, color=RED, linestyle="none")
    _names(ax, drawn, places)
    _decades(ax)
    most = max([row.seconds for row in drawn] + [row.paper_seconds for row in drawn if row.paper_seconds > 0] + [1])
    ax.set(xlabel="training time in seconds, features included", xlim=(0.1, 6 * most), title="Training time")
    _legend(figure, ax, drawn, "printed by the paper, on a P100 GPU")
    return figure


def trade(rows: Sequence[ResultRow]) -> Figure:
    """Accuracy with its interval against training time."""
    drawn = [row for row in rows if row.metrics and np.isfinite(row.seconds)]
    figure, ax = axes(8.4, 4.6)
    points = []
    for row in drawn:
        assert row.metrics is not None
        one, seconds = row.metrics["accuracy"], max(row.seconds, 1e-2)
        ax.plot([seconds] * 2, [100 * one.ci_low, 100 * one.ci_high], color=COLORS[row.initialization], linewidth=1.2)
        points.append((seconds, 100 * one.value))
    _numbered(figure, ax, drawn, points)
    _decades(ax, (1, 2, 5))  # all times may lie in one decade
    spans = [max(row.seconds, 1e-2) for row in drawn] or [1.0]
    ax.set_xlim(min(spans) / 2, max(spans) * 2)
    ax.set(xlabel="training time in seconds", ylabel="accuracy in %", title="Accuracy against training time")
    _legend(figure, ax, drawn, "")
    return figure


def readers(rows: Sequence[ResultRow]) -> Figure:
    """Sensitivity and specificity of each system, and those of dermatologists on other images."""
    figure, ax = axes(8.4, 4.6)
    drawn = [row for row in rows if row.metrics and "sensitivity" in row.metrics and row.initialization != "readers"]
    points = []
    for row in drawn:
        assert row.metrics is not None
        points.append((100 - 100 * row.metrics["specificity"].value, 100 * row.metrics["sensitivity"].value))
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
        title="Beside dermatologists, who looked at other images",
    )
    _legend(figure, ax, drawn, "")
    return figure


def _numbered(
    figure: Figure,
    ax: Axes,
    drawn: Sequence[ResultRow],
    points: Sequence[tuple[float, float]],
    more: Sequence[Artist] = (),
) -> None:
    """A point with a number for each system, and beside the plot whose it is: names at the points would overlap."""
    handles: list[Artist] = []
    for number, (row, point) in enumerate(zip(drawn, points, strict=True), 1):
        color = COLORS[row.initialization]
        ax.plot(*point, marker="o", markersize=10, color=color, markeredgecolor="white", clip_on=False)
        ax.annotate(str(number), point, fontsize=6.5, color="white", ha="center", va="center_baseline")
        told = f"{number}  {plain(label(row))}"
        handles.append(Line2D([], [], marker="o", color=color, linestyle="none", label=told))
    if handles or more:
        names = [*handles, *more]
        figure.legend(handles=names, frameon=False, fontsize=7.5, labelcolor=INK, loc="outside right upper")


def _decades(ax: Axes, parts: Sequence[int] = (1,)) -> None:
    """A logarithmic axis with plain numbers, at these parts of each decade."""
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(LogLocator(subs=parts))
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_formatter(NullFormatter())


def _names(ax: Axes, drawn: Sequence[ResultRow], places: np.ndarray) -> None:
    ax.set_yticks(places, [label(row) for row in drawn])
    ax.tick_params(axis="y", length=0)
    ax.grid(visible=False, axis="y")


def _legend(figure: Figure, ax: Axes, drawn: Sequence[ResultRow], paper: str) -> None:
    """Below the plot: inside, it would cover bars."""
    halves = dict.fromkeys(row.initialization for row in drawn)
    handles: list[Artist] = [
        Patch(color=COLORS[initialization], label=INITIALIZATIONS[initialization].partition(",")[0])
        for initialization in halves
    ]
    if paper and any(np.isfinite(row.paper) for row in drawn):
        handles.append(ax.plot([], [], marker="D", color=RED, linestyle="none", label=paper)[0])
    if handles:
        figure.legend(handles=handles, frameon=False, fontsize=7.5, labelcolor=INK, loc="outside lower center", ncols=2)
