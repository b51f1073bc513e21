"""`nevus cache`."""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import dataclass
from typing import Literal

import tyro
from rich.console import Console
from rich.table import Table

from nevus._io import cache_folder
from nevus.data.cache import KINDS, Cache, CacheConfig, clear_cache


@dataclass(frozen=True)
class Command:
    """Show what the cache contains, or clear it.

    The cache is in $NEVUS_CACHE, by default ~/.cache/nevus. Logs of test-set evaluations are never cleared.
    """

    action: tyro.conf.Positional[Literal["info", "clear"]] = "info"
    """info lists the contents with their sizes; clear deletes what can be computed or downloaded again."""
    cache: CacheConfig = CacheConfig()

    def run(self) -> int:
        """Show or clear; exit status."""
        with contextlib.closing(Cache(self.cache)) as cache:
            sizes = cache.sizes()
        weights = cache_folder("weights")
        files = [path.stat().st_size for path in weights.rglob("*") if path.is_file()]
        rows = [(what, *sizes.get(kind, (0, 0))) for kind, what in KINDS.items()]
        table = Table(title=str(self.cache.path.parent))
        table.add_column("contents")
        for name in ("entries", "MB"):
            table.add_column(name, justify="right")
        for what, count, size in [*rows, ("downloaded weights", len(files), sum(files))]:
            table.add_row(what, f"{count:,}", f"{size / 1e6:,.1f}")
        if self.action == "clear":
            clear_cache(self.cache)
            shutil.rmtree(weights, ignore_errors=True)
        Console(markup=False, highlight=False).print(table)
        if self.action == "clear":
            print("cleared")
        return 0
