"""A comparison written down: `table.csv`, `table.tex`, `table.html` and its figures."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.table import Table

from nevus.card import DISCLAIMER
from nevus.comparison.plan import HALVES
from nevus.comparison.published import PAPER, READERS
from nevus.comparison.table import Row, rows
from nevus.files import write_text
from nevus.metrics.figures import Figure
from nevus.report import comparison_plots, plots
from nevus.report.comparison_plots import label
from nevus.report.pages import environment, words

FIGURES = ("accuracy", "balanced_accuracy", "sensitivity", "specificity", "auroc", "auroc_macro")
"""In the table, where they are defined."""
DASH = "–"


def write_comparison(out: Path) -> Path:
    """Draw what is there of a comparison.

    Args:
        out: its folder.

    Returns:
        The page's path.

    """
    found = rows(out)
    write_text(out / "table.csv", as_csv(found))
    write_text(out / "table.tex", as_latex(found))
    drawn = {
        "accuracy": comparison_plots.accuracies(found),
        "time": comparison_plots.times(found),
        "accuracy-against-time": comparison_plots.trade(found),
    }
    if any(row.figures and "sensitivity" in row.figures for row in found):
        drawn["readers"] = comparison_plots.readers(found)
    for name, figure in drawn.items():
        plots.save(figure, out / f"{name}.png")
    page = out / "table.html"
    template = environment().get_template("comparison.html")
    write_text(
        page,
        template.render(
            halves=[(HALVES[half], [row for row in found if row.half == half]) for half in HALVES],
            names=names(found),
            elsewhere=any(row.elsewhere for row in found),
            cells=cells,
            label=label,
            heads=heads(found),
            plots=[(name, plots.data_uri(figure)) for name, figure in drawn.items()],
            readers=READERS,
            paper=PAPER,
            disclaimer=DISCLAIMER,
        ),
    )
    return page


def names(found: Sequence[Row]) -> list[str]:
    """Figures that a row has."""
    return [name for name in FIGURES if any(row.figures and name in row.figures for row in found)]


def heads(found: Sequence[Row]) -> list[str]:
    """Of the columns, after the system's name."""
    test = [f"{words(name)} %" for name in names(found)]
    away = ["AUROC elsewhere %", "accuracy elsewhere %"] if any(row.elsewhere for row in found) else []
    return [
        *test,
        *away,
        "over seeds",
        "training accuracy %",
        "gap, points",
        "McNemar p",
        "AUROC - BiT's, points",
        "DeLong p",
        "training s",
        "features s",
        "ms an image",
        "peak MB",
        "parameters M",
        "MB on disk",
        "starts from",
        "the paper's %",
    ]


def cells(row: Row, found: Sequence[str], *, elsewhere: bool) -> list[str]:
    """Of a row, in the order of `heads`; what is undefined is a dash.

    Args:
        row: of the table.
        found: see `names`.
        elsewhere: whether there are columns for images from elsewhere.

    """
    own, away = row.figures or {}, row.elsewhere or {}
    area = away.get("auroc") or away.get("auroc_macro")
    return [
        *(interval(own.get(name)) for name in found),
        *([interval(area), interval(away.get("accuracy"))] if elsewhere else []),
        _spread(row.accuracies),
        _number(100 * row.training_accuracy, 1),
        _number(100 * row.gap, 1, sign=True),
        _p(row.mcnemar_holm, row),
        _difference(row),
        _p(row.delong_holm, row),
        _number(row.seconds, 1),
        _number(row.feature_seconds, 1),
        _number(row.milliseconds, 1),
        _number(row.peak_bytes / 1e6, 0),
        _number((row.parameters or math.nan) / 1e6, 2),
        _number(row.bytes / 1e6, 1),
        row.start,
        _number(100 * row.paper, 2),
    ]


def interval(figure: Figure | None) -> str:
    """In percent, with its interval."""
    if figure is None or not math.isfinite(figure.value):
        return DASH
    ends = f" ({100 * figure.low:.1f}{DASH}{100 * figure.high:.1f})" if math.isfinite(figure.low) else ""
    return f"{100 * figure.value:.1f}{ends}"


def _spread(values: Sequence[float]) -> str:
    if len(values) < 2:
        return DASH
    return f"{100 * np.mean(values):.1f} ± {100 * np.std(values, ddof=1):.1f}, n {len(values)}"


def _number(value: float, digits: int, *, sign: bool = False) -> str:
    return f"{value:{'+' if sign else ''},.{digits}f}" if math.isfinite(value) else DASH


def _p(value: float, row: Row) -> str:
    if row.reference:
        return "reference"
    if not math.isfinite(value):
        return DASH
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _difference(row: Row) -> str:
    if row.delong is None or not math.isfinite(row.delong.difference):
        return DASH
    ends = (
        f" ({100 * row.delong.low:+.1f}{DASH}{100 * row.delong.high:+.1f})" if math.isfinite(row.delong.low) else ""
    )
    return f"{100 * row.delong.difference:+.1f}{ends}"


def as_csv(found: Sequence[Row]) -> str:
    """Every number by itself, unrounded: a row a system, figures with their ends in columns of their own."""
    chosen = names(found)
    away = sorted({name for row in found for name in (row.elsewhere or {}) if name in FIGURES}, key=FIGURES.index)
    made = io.StringIO()
    writer = csv.writer(made, lineterminator="\n")
    parts = ("", "_low", "_high", "_n")
    writer.writerow(
        [
            *("system", "mode", "half", "start"),
            *(f"{name}{part}" for name in chosen for part in parts),
            *(f"elsewhere_{name}{part}" for name in away for part in parts),
            *("seeds", "accuracy_mean", "accuracy_sd", "auroc_mean", "auroc_sd"),
            *("training_accuracy", "gap", "seconds", "feature_seconds", "ms_an_image", "peak_bytes"),
            *("parameters", "bytes", "mcnemar_p", "mcnemar_p_holm", "auroc_difference", "auroc_difference_low"),
            *("auroc_difference_high", "delong_p", "delong_p_holm", "paper_accuracy", "paper_seconds", "failure"),
        ]
    )
    for row in found:
        values: list[object] = [row.system, row.mode, row.half, row.start]
        for figures, columns in ((row.figures or {}, chosen), (row.elsewhere or {}, away)):
            for name in columns:
                one = figures.get(name)
                values += [one.value, one.low, one.high, one.n] if one else [math.nan] * 4
        values.append(len(row.accuracies))
        for series in (row.accuracies, row.areas):
            values += [
                np.mean(series) if series else math.nan,
                np.std(series, ddof=1) if len(series) > 1 else math.nan,
            ]
        values += [
            row.training_accuracy,
            row.gap,
            row.seconds,
            row.feature_seconds,
            row.milliseconds,
            row.peak_bytes,
        ]
        values += [row.parameters, row.bytes, row.mcnemar.p if row.mcnemar else math.nan, row.mcnemar_holm]
        own = row.delong
        values += [own.difference, own.low, own.high, own.p] if own else [math.nan] * 4
        values += [row.delong_holm, row.paper, row.paper_seconds, row.failure]
        writer.writerow(["" if v is None or (isinstance(v, float) and not math.isfinite(v)) else v for v in values])
    return made.getvalue()


def as_latex(found: Sequence[Row]) -> str:
    """A `tabular` with booktabs' rules, one block for each half."""
    chosen = names(found)
    lines = [
        f"% {DISCLAIMER} Made by nevus compare; needs \\usepackage{{booktabs}}.",
        f"\\begin{{tabular}}{{l{'r' * (len(chosen) + 3)}}}",
        "\\toprule",
        " & ".join(
            ["system", *(_tex(f"{words(name)} %") for name in chosen), "McNemar $p$", "DeLong $p$", "training s"]
        )
        + " \\\\",
    ]
    for half, title in HALVES.items():
        ours = [row for row in found if row.half == half]
        if not ours:
            continue
        lines += ["\\midrule", f"\\multicolumn{{{len(chosen) + 4}}}{{l}}{{\\emph{{{_tex(title)}}}}} \\\\"]
        for row in ours:
            if row.failure:
                text = _tex(row.failure)
                lines.append(f"{_tex(label(row))} & \\multicolumn{{{len(chosen) + 3}}}{{l}}{{{text}}} \\\\")
                continue
            values = [interval((row.figures or {}).get(name)) for name in chosen]
            values += [_p(row.mcnemar_holm, row), _p(row.delong_holm, row), _number(row.seconds, 1)]
            lines.append(" & ".join(map(_tex, [label(row), *values])) + " \\\\")
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", ""])


TEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    DASH: "--",
}


def _tex(text: str) -> str:
    return "".join(TEX.get(sign, sign) for sign in text)


def as_console(found: Sequence[Row]) -> Table:
    """The table for a terminal, with the columns that fit there."""
    chosen = [
        name for name in names(found) if name in ("accuracy", "sensitivity", "specificity", "auroc", "auroc_macro")
    ]
    away = any(row.elsewhere for row in found)
    made = Table(title="95 % intervals; p after Holm, against BiT of the same start")
    made.add_column("system")
    for head in [
        *(f"{words(name)} %" for name in chosen),
        *(["AUROC elsewhere %"] * away),
        "McNemar p",
        "DeLong p",
        "s",
    ]:
        made.add_column(head, justify="right")
    before = ""
    for row in found:
        if before and row.half != before:
            made.add_section()
        before = row.half
        name = f"{label(row)}{', random' if row.half == 'random' else ''}"
        if row.failure:
            made.add_row(name, row.failure)
            continue
        values = [interval((row.figures or {}).get(one)) for one in chosen]
        if away:
            values.append(interval((row.elsewhere or {}).get("auroc") or (row.elsewhere or {}).get("auroc_macro")))
        made.add_row(name, *values, _p(row.mcnemar_holm, row), _p(row.delong_holm, row), _number(row.seconds, 1))
    return made
