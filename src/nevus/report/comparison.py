"""The report of a comparison: `table.csv`, `table.tex`, `table.html` and its figures, and the console's table."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich.table import Table

from nevus._io import write_text
from nevus.bundle.model_card import DISCLAIMER
from nevus.comparison.published import PAPER
from nevus.comparison.table import INITIALIZATIONS, METRICS, comparison_table
from nevus.comparison.trial import TRIALS, read_trials
from nevus.report import comparison_plots, plots
from nevus.report.comparison_plots import label
from nevus.report.page import environment, humanize

DASH = "–"
Row = Mapping[Any, Any]
CSV_EXCLUDED = ["title"]


def write_comparison(out: Path) -> Path:
    """Write the report of a comparison, finished or not, into its folder.

    Returns:
        The page's path.

    """
    table, about = comparison_table(out), measured_on(out)
    write_text(out / "table.csv", table.drop(columns=CSV_EXCLUDED).to_csv(index=False, lineterminator="\n"))
    write_text(out / "table.tex", as_latex(table, about))
    rows = table.to_dict("records")
    figures = {
        "accuracy": comparison_plots.accuracies(rows),
        "time": comparison_plots.times(rows),
        "accuracy-by-time": comparison_plots.accuracy_by_time(rows),
    }
    if "sensitivity" in table:
        figures["readers"] = comparison_plots.readers(rows)
    for name, figure in figures.items():
        for suffix in (".png", ".svg", ".pdf"):
            plots.save(figure, out / f"{name}{suffix}")
    page = out / "table.html"
    template = environment().get_template("comparison.html")
    write_text(
        page,
        template.render(
            groups=[(title, blocks(table, name)) for name, title in INITIALIZATIONS.items()],
            notes=[(label(row), row["failure"] or row["note"]) for row in rows if row["failure"] or row["note"]],
            weights=[(label(row), row["weights"]) for row in rows if row["weights"] and row["tuning"]],
            plots=[(name, plots.data_uri(figure)) for name, figure in figures.items()],
            about=about,
            paper=PAPER,
            disclaimer=DISCLAIMER,
        ),
    )
    return page


def measured_on(out: Path) -> str:
    """Return a sentence with the test images, their number and digest; empty before the first trial is done."""
    record = next((one for one in read_trials(out / TRIALS).values() if "reason" not in one), None)
    if record is None:
        return ""
    parts = [
        f"{record['data'][key]['name']}, {record['n'][key]:,} images in {record['groups'][key]:,} groups, "
        f"{record['data'][key]['digest']}"
        for key in record["n"]
    ]
    external = "".join(f"; external test images: {part}" for part in parts[1:])
    return f"Test split ({record['protocol']}) of {parts[0]}{external}."


@dataclass(frozen=True)
class Column:
    """A column of the written table.

    Attributes:
        block: title of the page's table that it is in.
        head: its own title.
        cell: a row to its text.
        console: whether the console's table has it.

    """

    block: str
    head: str
    cell: Callable[[Row], str]
    console: bool = False


def columns(table: pd.DataFrame) -> list[Column]:
    """Return the columns in which any row has content."""
    test, external, training, tests, cost = (
        "On the test split",
        "On external test images",
        "Over seeds, and in training",
        "Differences from BiT, and the paper",
        "Cost",
    )
    every = [
        *(Column(test, f"{humanize(name)} %", _interval(name), console=True) for name in METRICS),
        *(
            Column(external, f"external {humanize(name)} %", _interval(f"external_{name}"), console="auroc" in name)
            for name in METRICS
        ),
        Column(training, "accuracy over seeds %", _over_seeds("accuracy")),
        Column(training, "AUROC over seeds %", _over_seeds("auroc")),
        Column(training, "training accuracy %", _number("training_accuracy", 1, 100)),
        Column(training, "gap, points", _number("gap", 1, 100, sign=True)),
        Column(training, "epochs", _number("epochs", 1)),
        Column(tests, "McNemar p", _p_value("mcnemar_p_holm"), console=True),
        Column(tests, "AUROC difference, points", _interval("auroc_difference", sign=True)),
        Column(tests, "DeLong p", _p_value("delong_p_holm"), console=True),
        Column(tests, "accuracy in the paper %", _number("paper_accuracy", 2, 100)),
        Column(cost, "training s", seconds, console=True),
        Column(cost, "features s", _number("feature_seconds", 1)),
        Column(cost, "ms per image", _number("ms_per_image", 1)),
        Column(cost, "peak memory MB", _number("peak_bytes", 0, 1e-6)),
        Column(cost, "parameters M", _number("parameters", 2, 1e-6)),
        Column(cost, "MB on disk", _number("bytes", 1, 1e-6)),
        Column(cost, "test evaluations", _number("test_evaluations", 0)),
    ]
    rows = table.to_dict("records")
    return [column for column in every if any(column.cell(row) != DASH for row in rows)]


@dataclass(frozen=True)
class Block:
    """A table of the page: some columns of the rows of one initialization group.

    Attributes:
        title: of the table.
        heads: titles of the columns.
        lines: a row's name and its cells.

    """

    title: str
    heads: list[str]
    lines: list[tuple[str, list[str]]]


def blocks(table: pd.DataFrame, initialization: str) -> list[Block]:
    """Return the page's tables of one initialization group, without empty columns and tables."""
    part = table[(table["initialization"] == initialization) & (table["failure"] == "")]
    rows = part.to_dict("records")
    made: dict[str, list[Column]] = {}
    for column in columns(part):
        made.setdefault(column.block, []).append(column)
    return [
        Block(
            "On the images of these studies" if initialization == "readers" else title,
            [column.head for column in chosen],
            [(label(row), [column.cell(row) for column in chosen]) for row in rows],
        )
        for title, chosen in made.items()
    ]


def as_latex(table: pd.DataFrame, about: str = "") -> str:
    """Return a `tabular` with booktabs' rules, one block for each initialization group."""
    chosen = columns(table)
    lines = {
        title: [
            [label(row), *(column.cell(row) for column in chosen)]
            if not row["failure"]
            else [f"{label(row)}: {row['failure']}", *([DASH] * len(chosen))]
            for row in table[table["initialization"] == name].to_dict("records")
        ]
        for name, title in INITIALIZATIONS.items()
    }
    frame = pd.DataFrame(
        [line for part in lines.values() for line in part],
        columns=["method", *(column.head for column in chosen)],
        index=pd.Index([title for title, part in lines.items() for _ in part], name="initialization"),
    )
    head = f"% {DISCLAIMER} Made by nevus compare. {about}".rstrip()
    note = "% Needs \\usepackage{booktabs,multirow}; wide: put it into \\resizebox{\\linewidth}{!}{...}."
    body = frame.set_index("method", append=True).to_latex(escape=True, multirow=True)
    return f"{head}\n{note}\n{body}"


def as_console(table: pd.DataFrame) -> Table:
    """Return the table for a terminal, with the columns that fit there."""
    chosen = [column for column in columns(table) if column.console]
    made = Table(title="95 % intervals; p after Holm's correction, against BiT of the same initialization")
    made.add_column("method")
    for column in chosen:
        made.add_column(column.head, justify="right")
    before = ""
    for row in table.to_dict("records"):
        if before and row["initialization"] != before:
            made.add_section()
        before = row["initialization"]
        name = label(row) + (", random" if row["initialization"] == "random" else "")
        if row["failure"]:
            made.add_row(name, row["failure"])
        else:
            note = f" ({row['note']})" if row["note"] else ""
            made.add_row(name + note, *(column.cell(row) for column in chosen))
    return made


def seconds(row: Row) -> str:
    """Return the seconds of training; those of a resumed training are of its last part, marked with `>`."""
    text = _number("seconds", 1)(row)
    return f"> {text}" if row["resumed"] and text != DASH else text


def _interval(name: str, *, sign: bool = False) -> Callable[[Row], str]:
    form = f"{'+' if sign else ''}.1f"

    def cell(row: Row) -> str:
        value, low, high = (row.get(f"{name}{part}", math.nan) for part in ("", "_low", "_high"))
        if not math.isfinite(value):
            return DASH
        return f"{100 * value:{form}}" + (f" ({100 * low:{form}}{DASH}{100 * high:{form}})" if low == low else "")

    return cell


def _over_seeds(name: str) -> Callable[[Row], str]:
    def cell(row: Row) -> str:
        mean, sd = row[f"{name}_mean"], row[f"{name}_sd"]
        return f"{100 * mean:.1f} ± {100 * sd:.1f}, n {row['seeds']:.0f}" if math.isfinite(sd) else DASH

    return cell


def _number(name: str, digits: int, factor: float = 1.0, *, sign: bool = False) -> Callable[[Row], str]:
    def cell(row: Row) -> str:
        value = row[name] * factor if row[name] is not None else math.nan
        return f"{value:{'+' if sign else ''},.{digits}f}" if math.isfinite(value) else DASH

    return cell


def _p_value(name: str) -> Callable[[Row], str]:
    def cell(row: Row) -> str:
        if row["reference"]:
            return "reference"
        p = row[name]
        return DASH if not math.isfinite(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"

    return cell
