"""Later diagnoses from a csv file."""

from __future__ import annotations

from pathlib import Path

from nevus.data.table_file import read_csv
from nevus.register.entry import Outcome


def read_outcomes(path: Path) -> list[tuple[Outcome, str]]:
    """Read later diagnoses.

    Args:
        path: a csv file with the columns `id` and `label`, and, where known, `confirmed_by`.

    Returns:
        Each with its place in the file.

    Raises:
        NevusError: the file cannot be read, or a column is missing.

    """
    table, places = read_csv(path, ("id", "label"))
    confirmed = table["confirmed_by"] if "confirmed_by" in table.columns else [""] * len(table)
    rows = zip(table["id"], table["label"], confirmed, places, strict=True)
    return [(Outcome(one, label, by), place) for one, label, by, place in rows]
