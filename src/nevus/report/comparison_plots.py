"""The paper's two figures with intervals, and accuracy against training time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import NullFormatter

from nevus.comparison.plan import HALVES
from nevus.comparison.published import READERS
from nevus.comparison.table import Row
from nevus.report.plots import BLUE, INK, RED, axes

COLOURS = {"pretrained": BLUE, "random": "#d98e04", "features": "#2f855a", "readers": RED}
"""By what a system starts from."""
ROOM = 4.0
"""How many times a bar's length the number right of it reaches, on the logarithmic axis of times."""


def label(row: Row) -> str:
    """Of a system and its mode."""
    seen = f" on {row.taps} stages" if row.taps else ""
    return f"{row.title}, {row.mode}{seen}" if row.mode else row.title


def accuracies(rows: Sequence[Row]) -> Figure:
    """Accuracy of all systems (the paper's Fig. 1) with 95 % intervals, and what the paper prints."""
    drawn = [row for row in rows if row.figures and "accuracy" in row.figures]
    figure, ax = axes(7.4, 0.9 + 0.42 * max(1, len(drawn)))
    places = np.arange(len(drawn))[::-1]
    for place, row in zip(places, drawn, strict=True):
        assert row.figures is not None
        one = row.figures["accuracy"]
        ax.barh(place, 100 * one.value, color=COLOURS[row.half], height=0.62)
        ax.plot([100 * one.low, 100 * one.high], [place, place], color=INK, linewidth=1.4)
        ax.text(100.6, place, f"{100 * one.value:.1f}", va="center", fontsize=8, color=INK)
        for value in row.accuracies[1:]:
            ax.plot(100 * value, place, marker="o", markersize=3, color=INK)
        if np.isfinite(row.paper):
            ax.plot(100 * row.paper, place, marker="D", markersize=5, color=RED, linestyle="none")
    _names(ax, drawn, places)
    low = min([40.0, *(90 * row.figures["accuracy"].value for row in drawn if row.figures)])
    ax.set(xlabel="accuracy on the test split in %, 95 % interval", xlim=(low, 105), title="Accuracy")
    _legend(figure, ax, drawn, "printed by the paper")
    return figure


def times(rows: Sequence[Row]) -> Figure:
    """Training time of all systems (the paper's Fig. 2) with the range over seeds, and what the paper prints, on a
    P100 GPU.
    """
    drawn = [row for row in rows if np.isfinite(row.seconds)]
    figure, ax = axes(7.4, 0.9 + 0.42 * max(1, len(drawn)))
    places = np.arange(len(drawn))[::-1]
    for place, row in zip(places, drawn, strict=True):
        ax.barh(place, max(row.seconds, 1e-2), color=COLOURS[row.half], height=0.62)
        if len(row.times) > 1:
            ax.plot([min(row.times), max(row.times)], [place, place], color=INK, linewidth=1.4)
        # The number stands right of the bar; where the paper's mark would lie on it, right of that.
        right = max(row.seconds, *row.times)
        if right < row.paper_seconds < ROOM * right:
            right = row.paper_seconds * 1.12
        ax.text(right * 1.1, place, f"{row.seconds:,.1f} s", va="center", fontsize=8, color=INK)
        if np.isfinite(row.paper_seconds):
            ax.plot(row.paper_seconds, place, marker="D", markersize=5, color=RED, linestyle="none")
    _names(ax, drawn, places)
    _decades(ax)
    most = max([row.seconds for row in drawn] + [row.paper_seconds for row in drawn if row.paper_seconds > 0] + [1])
    ax.set(xlabel="training time in seconds, features included", xlim=(0.1, 6 * most), title="Training time")
    _legend(figure, ax, drawn, "printed by the paper, on a P100 GPU")
    return figure


def trade(rows: Sequence[Row]) -> Figure:
    """Accuracy with its interval against training time."""
    drawn = [row for row in rows if row.figures and np.isfinite(row.seconds)]
    figure, ax = axes(6.4, 4.6)
    for row in drawn:
        assert row.figures is not None
        one, seconds = row.figures["accuracy"], max(row.seconds, 1e-2)
        ax.plot([seconds] * 2, [100 * one.low, 100 * one.high], color=COLOURS[row.half], linewidth=1.2)
        ax.plot(seconds, 100 * one.value, marker="o", color=COLOURS[row.half])
        ax.annotate(
            label(row),
            (seconds, 100 * one.value),
            xytext=(5, 4),
            textcoords="offset points",
            fontsize=7.5,
            color=INK,
        )
    _decades(ax)
    spans = [max(row.seconds, 1e-2) for row in drawn] or [1.0]
    ax.set_xlim(min(spans) / 3, max(spans) * 5)  # room for the names
    ax.set(xlabel="training time in seconds", ylabel="accuracy in %", title="Accuracy against training time")
    _legend(figure, ax, drawn, "")
    return figure


def readers(rows: Sequence[Row]) -> Figure:
    """Sensitivity and specificity of each system, and those of dermatologists on other images."""
    figure, ax = axes(6.4, 4.6)
    drawn = [row for row in rows if row.figures and "sensitivity" in row.figures and row.half != "readers"]
    for row in drawn:
        assert row.figures is not None
        x, y = 100 - 100 * row.figures["specificity"].value, 100 * row.figures["sensitivity"].value
        ax.plot(x, y, marker="o", color=COLOURS[row.half], clip_on=False)
        ax.annotate(label(row), (x, y), xytext=(5, -3), textcoords="offset points", fontsize=7.5, color=INK)
    for study in READERS:
        x, y = 100 - 100 * study.specificity, 100 * study.sensitivity
        ax.plot(x, y, marker="*", markersize=11, color=RED, linestyle="none")
        name = f"{study.readers} dermatologists, {study.study.partition(' et ')[0]}, other images"
        ax.annotate(name, (x, y), xytext=(6, 6), textcoords="offset points", fontsize=7.5, color=RED)
    ax.set(
        xlabel="100 - specificity in %",
        ylabel="sensitivity in %",
        xlim=(-2, 100),
        ylim=(0, 102),
        title="Beside dermatologists, who looked at other images",
    )
    _legend(figure, ax, drawn, "")
    return figure


def _decades(ax: Axes) -> None:
    """A logarithmic axis with plain numbers."""
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_formatter(NullFormatter())


def _names(ax: Axes, drawn: Sequence[Row], places: np.ndarray) -> None:
    ax.set_yticks(places, [label(row) for row in drawn])
    ax.tick_params(axis="y", length=0)
    ax.grid(visible=False, axis="y")


def _legend(figure: Figure, ax: Axes, drawn: Sequence[Row], paper: str) -> None:
    """Below the plot: inside, it would cover bars."""
    halves = dict.fromkeys(row.half for row in drawn)
    handles: list[Artist] = [Patch(color=COLOURS[half], label=HALVES[half].partition(",")[0]) for half in halves]
    if paper and any(np.isfinite(row.paper) for row in drawn):
        handles.append(ax.plot([], [], marker="D", color=RED, linestyle="none", label=paper)[0])
    if handles:
        figure.legend(
            handles=handles, frameon=False, fontsize=7.5, labelcolor=INK, loc="outside lower center", ncols=2
        )
