"""The page of a register, and its tables as text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.table import Table

from nevus._io import ensure_writable, write_text
from nevus.bundle.model_card import DISCLAIMER
from nevus.metrics.report import MetricEstimate
from nevus.register.monitor import MIN_TESTED, REFERENCE, Monitoring, Period
from nevus.report import plots
from nevus.report.page import environment, format_metric


def write_monitoring(found: Monitoring, register: str, out: Path) -> Path:
    """Write `monitor.html` and `monitor.csv`; returns the page's path.

    Args:
        found: what `nevus.register.monitor.monitor` returned.
        register: where it came from, without a password.
        out: folder.

    Raises:
        NevusError: the folder cannot be written.

    """
    ensure_writable(out)
    table = period_table(found)
    write_text(out / "monitor.csv", table.to_csv(index=False, lineterminator="\n"))
    page = (
        environment()
        .get_template("monitoring.html")
        .render(
            disclaimer=DISCLAIMER,
            m=found,
            register=register,
            reference=REFERENCE,
            min_tested=MIN_TESTED,
            images=sum(one.images for one in found.periods),
            plots=[(name, plots.data_uri(figure)) for name, figure in figures(found).items()],
        )
    )
    write_text(out / "monitor.html", page)
    return out / "monitor.html"


def period_table(found: Monitoring) -> pd.DataFrame:
    """Return a row for each period: volume, shares, p values of drift, and results with their intervals."""
    rows = []
    for one in found.periods:
        row: dict[str, object] = {"start": one.start, "images": one.images, "errors": one.errors}
        row |= _columns("not_judged", one.not_judged) | _columns("positive", one.positive) | {"score": one.score}
        row |= {f"drift_{name}": p for name, p in one.drift.items()}
        row |= {"known": one.results.known}
        for name in ("sensitivity", "specificity", "accuracy"):
            row |= _columns(name, getattr(one.results, name))
        rows.append(row | {"ece": one.results.ece})
    return pd.DataFrame(rows)


def _columns(name: str, one: MetricEstimate) -> dict[str, float]:
    return {name: one.value, f"{name}_low": one.ci_low, f"{name}_high": one.ci_high}


def text_table(found: Monitoring) -> Table:
    """Return the periods as a table for the terminal."""
    table = Table(title=f"model {found.model[:19]}", box=None, padding=(0, 1))
    for name in (
        "from",
        "images",
        "errors",
        "not judged",
        "positive",
        "drift p",
        "diagnoses",
        "sensitivity",
        "specificity",
    ):
        table.add_column(name, justify="left" if name == "from" else "right", no_wrap=name == "from")
    for one in found.periods:
        table.add_row(one.start, *_cells(one))
    return table


def _cells(one: Period) -> list[str]:
    p = min((p for p in one.drift.values() if np.isfinite(p)), default=float("nan"))
    return [
        str(one.images),
        str(one.errors),
        _short(one.not_judged.value),
        _short(one.positive.value),
        _short(p),
        str(one.results.known),
        _short(one.results.sensitivity.value),
        _short(one.results.specificity.value),
    ]


def _short(value: float) -> str:
    return "–" if np.isnan(value) else format_metric(value)


def figures(found: Monitoring) -> dict[str, Figure]:
    """Return plots by period: volume, shares, and results where diagnoses are known."""
    starts = [one.start for one in found.periods]
    volume, ax = plots.axes(6.2, 2.8)
    ax.bar(starts, [one.images - one.errors for one in found.periods], color=plots.BLUE, label="usable")
    ax.bar(
        starts,
        [one.errors for one in found.periods],
        bottom=[one.images - one.errors for one in found.periods],
        color=plots.RED,
        label="errors",
    )
    ax.set_ylabel("images")
    made = {"Images": volume}
    shares, ax = plots.axes(6.2, 2.8)
    _line(ax, starts, [one.not_judged for one in found.periods], "not judged", plots.GRAY)
    if len(found.classes) == 2:
        _line(ax, starts, [one.positive for one in found.periods], f"decided {found.classes[1]}", plots.BLUE)
    made["Decisions"] = shares
    if found.results.known:
        results, ax = plots.axes(6.2, 2.8)
        for name, color in (("sensitivity", plots.RED), ("specificity", plots.BLUE), ("accuracy", plots.GRAY)):
            _line(ax, starts, [getattr(one.results, name) for one in found.periods], name, color)
        made["Results"] = results
    for figure in made.values():
        ax = figure.axes[0]
        top = 1.25 * max(one.images for one in found.periods) if figure is volume else 1.02
        ax.set_ylim(0, top)
        ax.legend(frameon=False, fontsize=8, ncols=3, loc="upper right" if figure is volume else "best")
        step = max(1, len(starts) // 8)
        ax.set_xticks(range(0, len(starts), step), starts[::step], rotation=30, ha="right")
    return made


def _line(ax: Axes, starts: list[str], values: list[MetricEstimate], label: str, color: str) -> None:
    rows = [row for row, one in enumerate(values) if np.isfinite(one.value)]
    if not rows:
        return
    middle = np.array([values[row].value for row in rows])
    ends = np.array([[values[row].ci_low, values[row].ci_high] for row in rows])
    errors = np.clip(np.stack([middle - ends[:, 0], ends[:, 1] - middle]), 0, None)
    ax.errorbar(
        rows, middle, yerr=errors, color=color, label=plots.plain(label), marker="o", markersize=4, capsize=2, lw=1.2
    )
