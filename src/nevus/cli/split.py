"""`nevus split`."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console
from rich.table import Table

from nevus._progress import console
from nevus.audit.leakage import group_duplicates, leaking_rows
from nevus.data.cache import Cache, CacheConfig
from nevus.data.public.corrected_splits import with_corrected_split
from nevus.data.readers.dispatch import DataConfig, read
from nevus.data.splits import SplitConfig, with_splits


@dataclass(frozen=True)
class Command:
    """Make a leak-free split of a data set: train, validation and test, classes in proportion, no group on two
    sides.

    Give it the manifest.parquet of `nevus audit`; of a set that was not audited it looks for copies and other
    pictures of one lesion first. The split that the set has is not kept.
    """

    data: tyro.conf.Positional[tuple[Path, ...]]
    """As in `nevus train`."""
    out: Path
    """Table to write, .parquet or .csv."""
    corrected: Annotated[Literal["new", "corrected"], tyro.conf.arg(name="split")] = "new"
    """`new` cuts one; `corrected` takes the one that comes with nevus, for isic-malignant-benign and ham10000."""
    audit: bool = True
    """Look for pictures of one lesion first. What an earlier audit joined stays joined in any case."""
    reading: Annotated[DataConfig, tyro.conf.arg(name="")] = DataConfig()
    cut: Annotated[SplitConfig, tyro.conf.arg(name="split")] = field(default_factory=SplitConfig)
    cache: CacheConfig = CacheConfig()

    def run(self) -> int:
        """Split; exit status."""
        manifest = read(self.data, self.reading)
        if self.corrected == "corrected":
            manifest = with_corrected_split(manifest)
        else:
            manifest = manifest.with_table(manifest.table.assign(split=""))
        if self.audit:
            with contextlib.closing(Cache(self.cache)) as cache:
                manifest, _ = group_duplicates(manifest, cache)
        made = with_splits(manifest, self.cut)
        made.save(self.out)
        table = Table(title=f"{made.name}: {made.table['group'].nunique():,} groups, {leaking_rows(made).sum()} leaks")
        counts = made.counts()
        for name in ("split", *counts.columns):
            table.add_column(str(name), justify="left" if name == "split" else "right")
        for name, row in counts.iterrows():
            table.add_row(str(name), *(f"{n:,}" for n in row))
        Console(markup=False, highlight=False).print(table)
        console.print(f"table: {self.out}", highlight=False)
        return 0
