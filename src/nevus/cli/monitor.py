"""`nevus monitor`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from nevus._io import ensure_writable
from nevus._progress import console
from nevus.bundle.model_card import DISCLAIMER
from nevus.errors import NevusError
from nevus.register.period import PeriodLength
from nevus.report.page import format_interval, format_metric

if TYPE_CHECKING:
    from nevus.register.register import Register


@dataclass(frozen=True)
class Command:
    """Show what nevus serve has recorded: volume, drift, and sensitivity and specificity where diagnoses are known.

    Research use only, not a medical device.
    """

    database: str | None = None
    """Register, as nevus serve takes it: sqlite:///PATH or postgresql://USER@HOST/NAME."""
    period: PeriodLength = "week"
    """Length of the periods."""
    outcomes: Path | None = None
    """A csv file of later diagnoses, id,label and optionally confirmed_by, to enter first."""
    model: str | None = None
    """Digest of the bundle; by default that of the last prediction."""
    out: Path | None = None
    """Folder for monitor.html and monitor.csv."""

    def run(self) -> int:
        """Show a register; exit status 3 where a diagnosis could not be entered."""
        if self.out is not None:
            ensure_writable(self.out, "--out")
        from nevus.register.monitor import monitor
        from nevus.register.register import Register, default_url
        from nevus.report.monitoring import text_table, write_monitoring

        url = self.database or default_url()
        if url.startswith("sqlite:///") and not Path(url.removeprefix("sqlite:///")).exists():
            raise NevusError(f"Cannot monitor: there is no register {url}. Name it with --database.")
        register = Register(url)
        problems = self._enter(register) if self.outcomes else 0
        found = monitor(register.frame(), self.period, self.model)
        Console(markup=False, highlight=False).print(text_table(found))
        results = found.results
        for name in ("sensitivity", "specificity"):
            one = getattr(results, name)
            if one.n:
                console.print(
                    f"{name}: {format_metric(one.value)} ({format_interval(one)}), n {one.n:,}", highlight=False
                )
        for warning in found.warnings:
            console.print(warning, style="yellow", highlight=False)
        if self.out is not None:
            page = write_monitoring(found, register.url, self.out)
            console.print(f"page: {page}", highlight=False)
        console.print(DISCLAIMER, highlight=False)
        register.close()
        return 3 if problems else 0

    def _enter(self, register: Register) -> int:
        from nevus.register.outcomes_file import read_outcomes

        assert self.outcomes is not None
        found = read_outcomes(self.outcomes)
        problems = register.add_outcomes([one for one, _ in found])
        for (_, place), problem in zip(found, problems, strict=True):
            if problem:
                console.print(f"'{self.outcomes}', {place}: {problem}", style="yellow", highlight=False)
        wrong = sum(map(bool, problems))
        console.print(f"diagnoses entered: {len(found) - wrong:,}, not entered: {wrong:,}", highlight=False)
        return wrong
