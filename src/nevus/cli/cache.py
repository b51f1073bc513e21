"""`nevus cache`."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro
from rich.console import Console
from rich.table import Table

from nevus._io import cache_folder

CONTENTS = {
    "pixels": "decoded images",
    "graphs": "compiled graphs of networks",
    "audit": "results of duplicate checks",
    "handcrafted": "handcrafted features",
    "features": "outputs of teachers, for distillation",
    "weights": "downloaded weights",
}
"""Folders of the cache that can be made again."""


@dataclass(frozen=True)
class Command:
    """Show what the cache holds, or clear it.

    The cache is in $NEVUS_CACHE, by default ~/.cache/nevus. Logs of test-set evaluations are never cleared.
    """

    action: tyro.conf.Positional[Literal["info", "clear"]] = "info"
    """info lists the contents with their sizes; clear deletes what can be made or downloaded again."""

    def run(self) -> int:
        """Show or clear; exit status."""
        root = cache_folder("")
        table = Table(title=str(root))
        for name in ("folder", "holds", "files", "MB"):
            table.add_column(name, justify="right" if name in ("files", "MB") else "left")
        for name, what in CONTENTS.items():
            sizes = [_size(path) for path in (root / name).rglob("*") if path.is_file()]
            if self.action == "clear":
                shutil.rmtree(root / name, ignore_errors=True)
            table.add_row(name, what, f"{len(sizes):,}", f"{sum(sizes) / 1e6:,.1f}")
        Console(markup=False, highlight=False).print(table)
        if self.action == "clear":
            print("cleared")
        return 0


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0  # another process was faster
