"""A comparison written down: `table.csv`, `table.tex`, `table.html` and its figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nevus._io import write_text
from nevus.bundle.model_card import DISCLAIMER
from nevus.comparison.plan import INITIALIZATIONS
from nevus.comparison.published import PAPER
from nevus.comparison.runner import TRIALS
from nevus.comparison.table import ResultRow, result_rows
from nevus.comparison.trial import read_trials
from nevus.report import comparison_plots, plots
from nevus.report.comparison_cells import DASH, cells, heads, names
from nevus.report.comparison_files import as_csv, as_latex
from nevus.report.comparison_plots import label
from nevus.report.evaluation import environment


def write_comparison(out: Path) -> Path:
    """Draw what is there of a comparison.

    Args:
        out: its folder.

    Returns:
        The page's path.

    """
    found, about = result_rows(out), measured_on(out)
    write_text(out / "table.csv", as_csv(found))
    write_text(out / "table.tex", as_latex(found, about))
    drawn = {
        "accuracy": comparison_plots.accuracies(found),
        "time": comparison_plots.times(found),
        "accuracy-against-time": comparison_plots.trade(found),
    }
    if any(row.metrics and "sensitivity" in row.metrics for row in found):
        drawn["readers"] = comparison_plots.readers(found)
    for name, figure in drawn.items():
        plots.save(figure, out / f"{name}.png")
    page = out / "table.html"
    template = environment().get_template("comparison.html")
    write_text(
        page,
        template.render(
            halves=[
                (
                    INITIALIZATIONS[initialization],
                    blocks([row for row in found if row.initialization == initialization], found),
                )
                for initialization in INITIALIZATIONS
            ],
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
    """Which images, how many, and their digest, in one sentence; empty before the first trial is done."""
    trial = next((one for one in read_trials(out / TRIALS).values() if "reason" not in one), None)
    if trial is None:
        return ""
    parts = [
        f"{trial['data'][key]['name']}, {trial['n'][key]:,} images of {trial['groups'][key]:,} lesions, "
        f"{trial['data'][key]['digest']}"
        for key in trial["n"]
    ]
    return (
        f"Test split ({trial['protocol']}) of {parts[0]}" + "".join(f"; elsewhere: {part}" for part in parts[1:]) + "."
    )


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


def blocks(ours: Sequence[ResultRow], found: Sequence[ResultRow]) -> list[Block]:
    """The page's tables of one initialization; a column without content is left out, and so is a table.

    Args:
        ours: rows of the initialization.
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
        if ours and ours[0].initialization == "readers":
            title = "On the images of these studies"
        if kept:
            made.append(Block(title, [columns[k - places.start] for k in kept], lines))
    return made
