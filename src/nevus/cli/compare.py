"""`nevus compare`."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from rich.console import Console

from nevus._io import ensure_writable
from nevus._progress import console
from nevus.baselines.methods import MethodName
from nevus.bundle.model_card import DISCLAIMER
from nevus.cli._flags import DataFlag, flag, pairs
from nevus.cli._preparation import PreparationFlags
from nevus.cli.train import preparation_of
from nevus.data.manifest import Manifest
from nevus.data.readers.dispatch import DataConfig, read
from nevus.data.splits import By, SplitConfig
from nevus.errors import NevusError
from nevus.models.registry import AUTO
from nevus.training.config import Tuning

if TYPE_CHECKING:
    from nevus.comparison.config import ComparisonConfig

SECONDS = {"s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True)
class Command:
    """Train several methods on the same split and compare them with BiT: a table with intervals, tests and times.

    With --by they are compared by cross-validation, on the same folds. Finished methods are kept: started again, a
    comparison goes on. Research use only, not a medical device.
    """

    data: DataFlag
    """Data sets: class folders, csv or Parquet files, public data sets."""
    out: Path
    """Folder for table.csv, table.html, table.tex, the figures, and a run for each method."""
    methods: tuple[MethodName | Literal["all"], ...] = ("all",)
    """Methods to compare, or all."""
    preset: Literal["best", "fast", "paper", "hyperrule"] = "best"
    """Preset of networks."""
    tuning: tuple[Tuning, ...] = ("linear-probe",)
    """What of networks is trained: linear-probe, full, lp-ft, or several of them."""
    weights: tuple[str, ...] = ()
    """NAME=PATH or NAME=random for networks, as in vgg16=weights/vgg16.safetensors; others use what is on this
    machine."""
    random_weights: bool = False
    """Train the networks from random weights, too, all for the same time."""
    seeds: int = 1
    """Number of seeds, from 0 on; the table shows the first and the standard deviation."""
    budget: str | None = None
    """Training time of all methods together, as in 30m or 2h, shared equally. Networks stop when their share is over,
    and are evaluated; other methods are reported as not finished."""
    external_test: tuple[Path, ...] = ()
    """External test images, with the same classes; every method is evaluated on them, too."""
    by: By | None = None
    """Compare by cross-validation instead of a test split: by group (whole lesions or patients) or source (each source
    is left out in turn)."""
    folds: int = 5
    """Number of folds, by group."""
    backbone: str = AUTO
    """Backbone of BiT, see nevus models."""
    set: tuple[str, ...] = ()
    """Override fields of the training configuration of networks, as in lr=0.01; nevus train --help-all lists them."""
    reading: Annotated[DataConfig, tyro.conf.arg(name="")] = flag(
        DataConfig(), "Data", advanced=True, show=("labels", "positive")
    )
    external: DataConfig = flag(DataConfig(), "Data", advanced=True)
    """How the external test images are read."""
    preparation: Annotated[PreparationFlags, tyro.conf.arg(name="")] = flag(PreparationFlags(), "Data", advanced=True)

    def run(self) -> int:
        """Compare; exit status 3 if a method failed."""
        budget = _seconds(self.budget) if self.budget else 0.0
        weights = pairs("--weights", self.weights, "vgg16=weights/vgg16.safetensors")
        overrides = pairs("--set", self.set, "lr=0.01")
        manifest = read(self.data, self.reading)
        from nevus.comparison.config import ComparisonConfig
        from nevus.comparison.runner import compare
        from nevus.comparison.table import comparison_table
        from nevus.report.comparison import as_console, write_comparison

        config = ComparisonConfig(
            methods=tuple(self.methods),
            tunings=self.tuning,
            seeds=self.seeds,
            weights=weights,
            random=self.random_weights,
            budget=budget,
            backbone=self.backbone,
            preset=self.preset,
            overrides=overrides,
        )
        if self.by is not None:
            return self._by_folds(manifest, config, self.by)
        external = read(self.external_test, self.external) if self.external_test else None
        compare(manifest, self.out, config, preparation_of(self.preparation), external=external, draw=write_comparison)
        table = comparison_table(self.out)
        Console(markup=False, highlight=False, width=None if Console().is_terminal else 160).print(as_console(table))
        console.print(f"page: {self.out / 'table.html'}   {DISCLAIMER}", highlight=False)
        return 3 if (table["failure"] != "").any() or table["note"].str.contains("seed ").any() else 0

    def _by_folds(self, manifest: Manifest, config: ComparisonConfig, by: By) -> int:
        from nevus.comparison.folds import compare_folds
        from nevus.cross_validation import grouped_for_folds, make_folds
        from nevus.report.fold_comparison import fold_table, write_fold_comparison

        flags = self.preparation
        given = {
            "--budget": self.budget,
            "--external-test": self.external_test,
            "--random-weights": self.random_weights,
            "--test-fraction": flags.split.test_fraction != SplitConfig().test_fraction,
            "--drop-leaks": flags.drop_leaks,
            "--use-corrected-split": flags.use_corrected_split,
        }
        useless = next((name for name, value in given.items() if value), None)
        if useless:
            raise NevusError(f"Cannot use {useless} with --by: there is no test split and no time limit. Leave it out.")
        ensure_writable(self.out)
        manifest = grouped_for_folds(manifest, flags.cache, check_duplicates=flags.check_duplicates)
        folds = make_folds(manifest, by, self.folds, flags.split.split_seed)
        preparation = replace(preparation_of(flags), check_duplicates=False)
        table = compare_folds(manifest, folds, self.out, config, preparation, by)
        page = write_fold_comparison(table, folds, manifest, by, self.out)
        Console(markup=False, highlight=False, width=None if Console().is_terminal else 160).print(fold_table(table))
        console.print(f"page: {page}   {DISCLAIMER}", highlight=False)
        return 3 if (table["failure"] != "").any() else 0


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text)
    if not match or not float(match[1]):
        raise NevusError(f"Cannot use --budget {text}: it is no time. Write it as in 90s, 30m or 2h.")
    return float(match[1]) * SECONDS[match[2]]
