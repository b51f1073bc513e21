"""Console messages and progress bars on standard error, so that standard output has results only."""

from __future__ import annotations

import contextlib
import os
import threading
import warnings
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from nevus.errors import printable

_silent: ContextVar[bool] = ContextVar("silent", default=False)
_warning_filters = threading.RLock()


class SafeConsole(Console):
    """A console that escapes control characters of messages, and that a thread can silence for itself."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Print, unless this thread is silenced."""
        if not _silent.get():
            super().print(*(printable(one) if isinstance(one, str) else one for one in objects), **options)


console = SafeConsole(
    stderr=True, soft_wrap=True, markup=False, highlight=False, quiet=os.environ.get("RANK", "0") != "0"
)
"""For everything that is not a result. File names and labels may contain brackets: no markup. Of several processes
that train together the first one prints."""


def progress(*, unit: str = "images") -> Progress:
    """Return a bar with count, rate and time left, and the field `note` at its end.

    Give `note=""` to every `add_task`. It is hidden where standard error is no terminal.
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
        disable=not console.is_terminal or _silent.get(),
    )


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """Print nothing from this thread within the context."""
    token = _silent.set(True)
    try:
        yield
    finally:
        _silent.reset(token)


@contextlib.contextmanager
def ignored_warnings(category: type[Warning] = Warning) -> Iterator[None]:
    """Ignore warnings of other packages within the context; one thread at a time, as Python's filters are global."""
    with _warning_filters, warnings.catch_warnings():
        warnings.simplefilter("ignore", category)
        yield
