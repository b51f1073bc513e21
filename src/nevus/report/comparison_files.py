"""A comparison's table for other programs: csv and LaTeX."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence

import numpy as np

from nevus.bundle.model_card import DISCLAIMER
from nevus.comparison.plan import INITIALIZATIONS
from nevus.comparison.table import ResultRow
from nevus.report.comparison_cells import DASH, FIGURES, cells, heads, names
from nevus.report.comparison_plots import label


def as_csv(found: Sequence[ResultRow]) -> str:
    """Every number by itself, unrounded: a row a system, figures with their ends in columns of their own."""
    chosen = names(found)
    away = sorted({name for row in found for name in (row.elsewhere or {}) if name in FIGURES}, key=FIGURES.index)
    made = io.StringIO()
    writer = csv.writer(made, lineterminator="\n")
    parts = ("", "_low", "_high", "_n")
    writer.writerow(
        [
            *("system", "tuning", "initialization", "start"),
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
        values: list[object] = [row.system, row.tuning, row.initialization, row.start]
        for figures, columns in ((row.metrics or {}, chosen), (row.elsewhere or {}, away)):
            for name in columns:
                one = figures.get(name)
                values += [one.value, one.ci_low, one.ci_high, one.n] if one else [math.nan] * 4
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


def as_latex(found: Sequence[ResultRow], about: str = "") -> str:
    """A `tabular` with booktabs' rules and every column of the page, one block for each initialization.

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
    for initialization, title in INITIALIZATIONS.items():
        ours = [row for row in found if row.initialization == initialization]
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
