"""A comparison written down: `table.csv`, `table.tex`, `table.html` and its figures."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.table import Table

from nevus.card import DISCLAIMER
from nevus.comparison.comparison import UNITS
from nevus.comparison.plan import HALVES
from nevus.comparison.published import PAPER
from nevus.comparison.table import Row, rows
from nevus.comparison.unit import read_units
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
    found, about = rows(out), measured_on(out)
    write_text(out / "table.csv", as_csv(found))
    write_text(out / "table.tex", as_latex(found, about))
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
            halves=[(HALVES[half], blocks([row for row in found if row.half == half], found)) for half in HALVES],
            nothing=[(label(row), row.failure) for row in found if row.failure],
            plots=[(name, plots.data_uri(figure)) for name, figure in drawn.items()],
            about=about,
            failures=[f"{label(row)}, {one}" for row in found for one in row.failures],
            paper=PAPER,
            disclaimer=DISCLAIMER,
        ),
    )
    return page


def measured_on(out: Path) -> str:
    """Which images, how many, and their digest, in one sentence; empty before the first unit is done."""
    unit = next((one for one in read_units(out / UNITS).values() if "reason" not in one), None)
    if unit is None:
        return ""
    parts = [
        f"{unit['data'][key]['name']}, {unit['n'][key]:,} images of {unit['groups'][key]:,} lesions, "
        f"{unit['data'][key]['digest']}"
        for key in unit["n"]
    ]
    return (
        f"Test split ({unit['protocol']}) of {parts[0]}"
        + "".join(f"; elsewhere: {part}" for part in parts[1:])
        + "."
    )


def names(found: Sequence[Row]) -> list[str]:
    """Figures that a row has."""
    return [name for name in FIGURES if any(row.figures and name in row.figures for row in found)]


def heads(found: Sequence[Row]) -> dict[str, list[str]]:
    """Of the columns, after the system's name, by what they tell."""
    test = [f"{words(name)} %" for name in names(found)]
    away = ["AUROC elsewhere %", "accuracy elsewhere %"] if any(row.elsewhere for row in found) else []
    return {
        "On the test split": test,
        "Elsewhere, over seeds, and in training": [
            *away,
            "accuracy over seeds",
            "AUROC over seeds",
            "training accuracy %",
            "gap, points",
        ],
        "Against BiT, and the paper": [
            "McNemar p",
            "AUROC - BiT's, points",
            "DeLong p",
            "the paper's accuracy %",
        ],
        "What it takes": [
            "training s",
            "features s",
            "ms an image",
            "peak MB",
            "parameters M",
            "MB on disk",
            "looks",
            "starts from",
        ],
    }


@dataclass(frozen=True)
class Block:
    """A table of the page: what some rows tell of one kind.

    Attributes:
        title: what they tell.
        heads: of the columns in which something stands.
        lines: a row's name, and its cells or, where it came to nothing, None.

    """

    title: str
    heads: list[str]
    lines: list[tuple[str, list[str] | None]]


def blocks(ours: Sequence[Row], found: Sequence[Row]) -> list[Block]:
    """The page's tables of one half; a column without content is left out, and so is a table.

    Args:
        ours: rows of the half.
        found: all rows.

    """
    chosen, away = names(found), any(row.elsewhere for row in found)
    whole = [(label(row), None if row.failure else cells(row, chosen, elsewhere=away)) for row in ours]
    made, start = [], 0
    for title, columns in heads(found).items():
        places = range(start, start + len(columns))
        start += len(columns)
        kept = [k for k in places if any(line and line[k] not in (DASH, "") for _, line in whole)]
        lines = [(name, None if line is None else [line[k] for k in kept]) for name, line in whole]
        if ours and ours[0].half == "readers":
            title = "On the images of these studies"
        if kept:
            made.append(Block(title, [columns[k - places.start] for k in kept], lines))
    return made


def cells(row: Row, found: Sequence[str], *, elsewhere: bool) -> list[str]:
    """Of a row, in the order of `heads`, one part after the other; what is undefined is a dash.

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
        _spread(row.areas),
        _number(100 * row.training_accuracy, 1),
        _number(100 * row.gap, 1, sign=True),
        _p(row.mcnemar_holm, row),
        _difference(row),
        _p(row.delong_holm, row),
        _number(100 * row.paper, 2),
        _taken(row.seconds, row),
        _taken(row.feature_seconds, row),
        _number(row.milliseconds, 1),
        _number(row.peak_bytes / 1e6, 0),
        _number((row.parameters or math.nan) / 1e6, 2),
        _number(row.bytes / 1e6, 1),
        DASH if row.looks is None else str(row.looks),
        row.start,
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


def _taken(seconds: float, row: Row) -> str:
    shown = _number(seconds, 1)
    return f"> {shown}" if row.resumed and shown != DASH else shown


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
            *(
                "auroc_difference_high",
                "delong_p",
                "delong_p_holm",
                "paper_accuracy",
                "paper_seconds",
                "resumed",
                "failure",
            ),
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
        values += [row.delong_holm, row.paper, row.paper_seconds, row.resumed, row.failure]
        writer.writerow(["" if v is None or (isinstance(v, float) and not math.isfinite(v)) else v for v in values])
    return made.getvalue()


def as_latex(found: Sequence[Row], about: str = "") -> str:
    """A `tabular` with booktabs' rules and every column of the page, one block for each half.

    Args:
        found: rows.
        about: what it was measured on, for a comment.

    """
    chosen, away = names(found), any(row.elsewhere for row in found)
    columns = [head for part in heads(found).values() for head in part]
    lines = [
        f"% {DISCLAIMER} Made by nevus compare. {about}".rstrip(),
        "% Needs \\usepackage{booktabs}; wide: put it into \\resizebox{\\linewidth}{!}{...} or leave columns out.",
        f"\\begin{{tabular}}{{l{'r' * len(columns)}}}",
        "\\toprule",
        " & ".join(["system", *map(_tex, columns)]) + " \\\\",
    ]
    for half, title in HALVES.items():
        ours = [row for row in found if row.half == half]
        if not ours:
            continue
        lines += ["\\midrule", f"\\multicolumn{{{len(columns) + 1}}}{{l}}{{\\emph{{{_tex(title)}}}}} \\\\"]
        for row in ours:
            if row.failure:
                text = _tex(row.failure)
                lines.append(f"{_tex(label(row))} & \\multicolumn{{{len(columns)}}}{{l}}{{{text}}} \\\\")
                continue
            lines.append(" & ".join(map(_tex, [label(row), *cells(row, chosen, elsewhere=away)])) + " \\\\")
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
    ">": "$>$",
    DASH: "--",
}


def _tex(text: str) -> str:
    return "".join(TEX.get(sign, sign) for sign in text)


def as_console(found: Sequence[Row]) -> Table:
    """The table for a terminal, with the columns that fit there."""
    chosen = [name for name in names(found) if name in FIGURES]
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
        made.add_row(name, *values, _p(row.mcnemar_holm, row), _p(row.delong_holm, row), _taken(row.seconds, row))
    return made
