"""The report of a comparison by cross-validation: `table.csv`, `table.html`, and the console's table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from rich.table import Table

from nevus._io import write_text
from nevus.baselines.methods import method_spec
from nevus.bundle.model_card import DISCLAIMER
from nevus.cross_validation import AVERAGED, Fold
from nevus.data.manifest import Manifest
from nevus.data.splits import By
from nevus.report import plots
from nevus.report.page import environment, format_p, humanize
from nevus.report.plots import BLUE, INK, RED

Row = Mapping[Any, Any]
UNDEFINED = "–"


def write_fold_comparison(table: pd.DataFrame, folds: Sequence[Fold], manifest: Manifest, by: By, out: Path) -> Path:
    """Write `table.csv`, `table.html` and `auroc.png`; returns the page's path.

    Args:
        table: see `nevus.comparison.folds.compare_folds`.
        folds: the same for all methods.
        manifest: all images that took part.
        by: what the folds keep together.
        out: folder.

    Raises:
        NevusError: the folder cannot be written.

    """
    write_text(out / "table.csv", table.to_csv(index=False, lineterminator="\n"))
    rows = table.to_dict("records")
    done = [row for row in rows if not row["failure"]]
    figure = draw_ranges(done, by)
    if figure is not None:
        plots.save(figure, out / "auroc.png")
    page = (
        environment()
        .get_template("fold_comparison.html")
        .render(
            disclaimer=DISCLAIMER,
            manifest=manifest,
            groups=manifest.table["group"].nunique(),
            folds=folds,
            by=by,
            heads=_heads(rows),
            lines=[(title(row), _cells(row, _heads(rows))) for row in done],
            failures=[(title(row), row["failure"]) for row in rows if row["failure"]],
            figure=plots.data_uri(figure) if figure is not None else "",
        )
    )
    write_text(out / "table.html", page)
    return out / "table.html"


def fold_table(table: pd.DataFrame) -> Table:
    """Return the table for a terminal: pooled AUROC with its interval, mean and worst fold, and DeLong's p."""
    rows = table.to_dict("records")
    made = Table(title="All predictions out of fold, with 95 % intervals; p after Holm's correction, against BiT")
    made.add_column("method")
    heads = [head for head in _heads(rows) if head[1] in ("auroc", "auroc_macro", "accuracy", "delong_p_holm")]
    for head, _, _ in heads:
        made.add_column(head, justify="right")
    for row in rows:
        made.add_row(title(row), *([row["failure"]] if row["failure"] else _cells(row, heads)))
    return made


def title(row: Row) -> str:
    """Return the name of a method with its tuning and seed."""
    seed = f"seed {row['seed']}" if row["seed"] else ""
    return ", ".join(part for part in (method_spec(row["system"]).title, row["tuning"], seed) if part)


def draw_ranges(rows: Sequence[Row], by: By) -> Figure | None:
    """Draw the pooled AUROC of each method with its interval, and its mean and worst fold; None without AUROC."""
    drawn = [row for row in rows if math.isfinite(row.get("auroc", math.nan))][::-1]
    if not drawn:
        return None
    figure, ax = plots.axes(6.4, 1.2 + 0.42 * len(drawn))
    for place, row in enumerate(drawn):
        ax.plot([row["auroc_low"], row["auroc_high"]], [place, place], color=INK, linewidth=1.4)
        first = place == 0
        ax.plot(row["auroc"], place, "o", color=BLUE, label="pooled, 95 % interval" if first else None)
        ax.plot(row["auroc_mean"], place, "|", color=INK, markersize=11, label="mean of the folds" if first else None)
        worst = f"worst {'source' if by == 'source' else 'fold'}"
        ax.plot(row["auroc_worst"], place, "D", color=RED, markersize=5, label=worst if first else None)
    ax.set_yticks(range(len(drawn)), [title(row) for row in drawn])
    ax.set(xlabel="AUROC", ylim=(-0.6, len(drawn) - 0.4))
    figure.legend(loc="outside upper center", ncol=3, frameon=False, fontsize=8)
    return figure


def _heads(rows: Sequence[Row]) -> list[tuple[str, str, str]]:
    """Return head, column and kind of each column in which a row has a value."""
    heads = [
        ("AUROC %", "auroc", "interval"),
        ("mean", "auroc_mean", "percent"),
        ("worst", "auroc_worst", "percent"),
        ("difference from BiT", "auroc_difference", "interval"),
        ("DeLong p", "delong_p_holm", "p"),
        *((f"{humanize(name)} %", name, "interval") for name in AVERAGED if name != "auroc"),
    ]
    return [head for head in heads if any(math.isfinite(row.get(head[1], math.nan)) for row in rows)]


def _cells(row: Row, heads: Sequence[tuple[str, str, str]]) -> list[str]:
    return [_cell(row, name, kind) for _, name, kind in heads]


def _cell(row: Row, name: str, kind: str) -> str:
    if kind == "p" and row["reference"]:
        return "reference"
    value = row.get(name, math.nan)
    if not math.isfinite(value):
        return UNDEFINED
    if kind == "p":
        return format_p(value)
    text = f"{100 * value:.1f}"
    low, high = (row.get(f"{name}_{end}", math.nan) for end in ("low", "high"))
    return f"{text} ({100 * low:.1f}–{100 * high:.1f})" if kind == "interval" and math.isfinite(low) else text
