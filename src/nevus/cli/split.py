"""`nevus split`."""

from __future__ import annotations

import contextlib
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Table

from nevus._progress import console
from nevus.cli._flags import DataFlag
from nevus.data.cache import Cache, CacheConfig
from nevus.data.public.corrected_splits import with_corrected_split
from nevus.data.readers.dispatch import DataConfig, read
from nevus.data.splits import SplitConfig, with_splits


@dataclass(frozen=True)
class Command:
    """Make a leak-free split of a data set: train, validation and test, stratified, no group on two sides.

    Near-duplicates and same-lesion images are searched first, unless the data are the manifest.parquet of nevus audit.
    An existing split is replaced.
    """

    data: DataFlag
    """Data sets: class folders, csv or Parquet files, public data sets."""
    out: Path
    """Table to write, .parquet or .csv."""
    use_corrected_split: bool = False
    """Use the leak-free split that comes with nevus (isic-malignant-benign, ham10000)."""
    check_duplicates: bool = True
    """Search for near-duplicates and same-lesion images first. Groups of an earlier audit are kept in any case."""
    reading: Annotated[DataConfig, tyro.conf.arg(name="")] = DataConfig()
    cut: Annotated[SplitConfig, tyro.conf.arg(name="")] = field(default_factory=SplitConfig)
    cache: CacheConfig = CacheConfig()

    def run(self) -> int:
        """Split; exit status."""
        from nevus.auditing.leakage import group_duplicates, leaking_rows

        manifest = read(self.data, self.reading)
        if self.use_corrected_split:
            manifest = with_corrected_split(manifest)
        else:
            manifest = manifest.with_table(manifest.table.assign(split=""))
        if self.check_duplicates:
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
        root = f" --images {shlex.quote(str(made.root.absolute()))}" if self.out.suffix == ".csv" else ""
        console.print(f"next: nevus train {shlex.quote(str(self.out))}{root} --out runs/one", highlight=False)
        return 0
