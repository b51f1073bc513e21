"""`nevus compare`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console

from nevus._progress import console
from nevus.baselines.methods import MethodName
from nevus.bundle.model_card import DISCLAIMER
from nevus.cli._flags import DataFlag, PreparationFlags, flag, pairs
from nevus.cli.train import preparation_of
from nevus.comparison.plan import ComparisonConfig
from nevus.comparison.runner import compare
from nevus.comparison.table import result_rows
from nevus.data.manifest import Manifest
from nevus.data.readers.dispatch import DataConfig, read
from nevus.errors import NevusError
from nevus.models.registry import AUTO
from nevus.report.comparison import write_comparison
from nevus.report.comparison_console import as_console
from nevus.training.config import Tuning

SECONDS = {"s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True)
class Command:
    """Train several methods on the same split and compare them with BiT: a table with intervals, tests and times.

    Finished methods are kept: started again, a comparison goes on. Each is evaluated on the test split once. Research
    use only, not a medical device.
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
    """Time for everything, as in 30m or 2h; it is shared equally among the trainings of whole networks."""
    external_test: tuple[Path, ...] = ()
    """External test images, with the same classes; every method is evaluated on them, too."""
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
        wanted = ComparisonConfig(
            methods=tuple(self.methods),
            tunings=self.tuning,
            seeds=self.seeds,
            weights=pairs("--weights", self.weights, "vgg16=weights/vgg16.safetensors"),
            random=self.random_weights,
            budget=_seconds(self.budget) if self.budget else 0.0,
            backbone=self.backbone,
            preset=self.preset,
            overrides=pairs("--set", self.set, "lr=0.01"),
        )
        manifest = read(self.data, self.reading)
        others: Manifest | None = read(self.external_test, self.external) if self.external_test else None
        compare(manifest, self.out, wanted, preparation_of(self.preparation), others=others, drawn=write_comparison)
        found = result_rows(self.out)
        Console(markup=False, highlight=False, width=None if Console().is_terminal else 160).print(as_console(found))
        console.print(f"page: {self.out / 'table.html'}   {DISCLAIMER}", highlight=False)
        return 3 if any(row.failure or row.failures for row in found) else 0


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text)
    if not match or not float(match[1]):
        raise NevusError(f"a budget of '{text}' is none; write it as in 90s, 30m or 2h.")
    return float(match[1]) * SECONDS[match[2]]
