"""Rows of results/*.csv: a measurement replaces the row of the same work on the same machine."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table

from nevus.runtime.device import machine

RESULTS = Path(__file__).resolve().parents[1] / "results"


def machine_name() -> str:
    """Return this machine as a column of the results names it: the CPU and its threads."""
    about = machine()
    return f"{about['device']}, {about['threads']} threads"


def show(rows: list[dict[str, Any]], title: str, digits: int = 2) -> None:
    """Print rows as a table; numbers with some digits after the point."""
    table = Table(title=title)
    for name in rows[0]:
        table.add_column(name)
    for row in rows:
        table.add_row(*(value if isinstance(value, str) else f"{value:.{digits}f}" for value in row.values()))
    Console().print(table)


def keep(rows: list[dict[str, Any]], name: str, keys: list[str]) -> None:
    """Write rows into results/NAME.csv, in place of those with the same values of the key columns.

    Args:
        rows: One dictionary a row; `machine` and `date` are added where they are missing.
        name: Name of the table, without suffix.
        keys: Columns that say what was measured; `machine` is always one of them.
    """
    path = RESULTS / f"{name}.csv"
    about = {"machine": machine_name(), "date": datetime.date.today().isoformat()}
    frame = pd.DataFrame([{**about, **row} for row in rows])
    if path.is_file():
        frame = pd.concat([pd.read_csv(path), frame], ignore_index=True)
    frame.drop_duplicates([*keys, "machine"], keep="last").to_csv(path, index=False, float_format="%.6g")
