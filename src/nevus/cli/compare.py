"""`nevus compare`."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console

from nevus._progress import console
from nevus.baselines.methods import MethodName
from nevus.bundle.model_card import DISCLAIMER
from nevus.cli._data_options import PreparingConfig
from nevus.comparison.plan import ComparisonConfig
from nevus.comparison.runner import compare
from nevus.comparison.table import result_rows
from nevus.data.manifest import Manifest
from nevus.data.readers.dispatch import DataConfig, read
from nevus.errors import NevusError
from nevus.models.registry import AUTO
from nevus.report.comparison import write_comparison
from nevus.report.comparison_console import as_console
from nevus.training.overrides import Overrides

SECONDS = {"s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True)
class Command:
    """Train several systems on the same split and hold them against BiT: the table of the paper, with intervals,
    tests and times.

    Finished systems are kept: started again, a comparison goes on. Each looks at the test split once.
    Research use only, not a medical device.
    """

    data: tyro.conf.Positional[tuple[Path, ...]]
    """As in `nevus train`."""
    out: Path
    """Folder for table.csv, table.html, table.tex, the figures, and a run for each system."""
    methods: tuple[MethodName | Literal["all"], ...] = ("all",)
    """Systems, or `all`."""
    modes: tuple[Literal["head", "full"], ...] = ("head",)
    """Of networks with pretrained weights."""
    weights: tuple[str, ...] = ()
    """`NAME=PATH` or `NAME=random` for networks, as in `vgg16=weights/vgg16.safetensors`; scripts/rivals.py makes
    some. Others take what is on this machine."""
    random: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Train the networks from random weights, too, all for the same time. Without it that happens where one of them
    has no pretrained weights here."""
    seeds: int = 1
    """How many, from 0 on; the table shows the first and the spread."""
    budget: str | None = None
    """Time for everything, as in 30m or 2h: what heads and other systems leave is shared equally among the
    trainings of whole networks; without it each takes its recipe's length."""
    against: tuple[Path, ...] = ()
    """Images from elsewhere, with the same classes: every system is judged on them, too."""
    backbone: str = AUTO
    """Of BiT; see `nevus models`."""
    recipe: str = "default"
    """Of networks: `default`, `hyperrule` or `paper`."""
    taps: int = 0
    """Of networks in mode `head`; see `nevus train`."""
    reading: Annotated[DataConfig, tyro.conf.arg(name="")] = DataConfig()
    elsewhere: DataConfig = DataConfig()
    """How the images of --against are read."""
    preparing: Annotated[PreparingConfig, tyro.conf.arg(name="")] = PreparingConfig()
    changes: Annotated[Overrides, tyro.conf.arg(name="")] = field(default_factory=Overrides)

    def run(self) -> int:
        """Compare; exit status 3 where a system came to nothing."""
        wanted = ComparisonConfig(
            methods=tuple(self.methods),
            modes=self.modes,
            seeds=self.seeds,
            weights=dict(_pair(text) for text in self.weights),
            random=self.random,
            budget=_seconds(self.budget) if self.budget else 0.0,
            backbone=self.backbone,
            recipe=self.recipe,
            taps=self.taps,
            changes=self.changes,
        )
        manifest = read(self.data, self.reading)
        others: Manifest | None = read(self.against, self.elsewhere) if self.against else None
        compare(manifest, self.out, wanted, self.preparing.preparation(), others=others, drawn=write_comparison)
        found = result_rows(self.out)
        Console(markup=False, highlight=False, width=None if Console().is_terminal else 160).print(
            as_console(found)
        )
        console.print(f"page: {self.out / 'table.html'}   {DISCLAIMER}", highlight=False)
        return 3 if any(row.failure or row.failures for row in found) else 0


def _pair(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign or not value:
        raise NevusError(f"--weights {text} is no NAME=PATH; write it as in vgg16=weights/vgg16.safetensors.")
    return name, value


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text)
    if not match or not float(match[1]):
        raise NevusError(f"a budget of '{text}' is none; write it as in 90s, 30m or 2h.")
    return float(match[1]) * SECONDS[match[2]]
