"""A comparison's table for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from nevus.comparison.table import ResultRow
from nevus.report.comparison_cells import FIGURES, interval, names, p_value, taken
from nevus.report.comparison_plots import label
from nevus.report.evaluation import humanize


def as_console(found: Sequence[ResultRow]) -> Table:
    """The table for a terminal, with the columns that fit there."""
    chosen = [name for name in names(found) if name in FIGURES]
    away = any(row.elsewhere for row in found)
    made = Table(title="95 % intervals; p after Holm, against BiT of the same start")
    made.add_column("system")
    for head in [
        *(f"{humanize(name)} %" for name in chosen),
        *(["AUROC elsewhere %"] * away),
        "McNemar p",
        "DeLong p",
        "s",
    ]:
        made.add_column(head, justify="right")
    before = ""
    for row in found:
        if before and row.initialization != before:
            made.add_section()
        before = row.initialization
        name = f"{label(row)}{', random' if row.initialization == 'random' else ''}"
        if row.failure:
            made.add_row(name, row.failure)
            continue
        values = [interval((row.metrics or {}).get(one)) for one in chosen]
        if away:
            values.append(interval((row.elsewhere or {}).get("auroc") or (row.elsewhere or {}).get("auroc_macro")))
        made.add_row(
            name, *values, p_value(row.mcnemar_holm, row), p_value(row.delong_holm, row), taken(row.seconds, row)
        )
    return made
