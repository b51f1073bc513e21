"""Progress bars on standard error, so that standard output stays clean for results."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

console = Console(stderr=True, soft_wrap=True, markup=False, highlight=False, quiet=os.environ.get("RANK", "0") != "0")
"""Where everything that is not a result is said. File names and labels may hold brackets: no markup. Of
several processes that train together the first one speaks."""


def progress(*, unit: str = "images") -> Progress:
    """A bar with count, rate and time left; field `note` stands at its end.

    Give `note=""` to every `add_task`. Silent where standard error is no terminal.
    """
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        console=console,
        disable=not console.is_terminal,
    )


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """Say nothing for a while."""
    before, console.quiet = console.quiet, True
    try:
        yield
    finally:
        console.quiet = before
