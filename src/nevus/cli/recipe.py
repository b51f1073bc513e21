"""`nevus recipe`."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console
from rich.table import Table

from nevus._progress import console
from nevus.data.readers.dispatch import DataConfig, read
from nevus.data.splits import SplitConfig, with_splits
from nevus.models.registry import AUTO
from nevus.models.weights import resolve_backbone
from nevus.report import plots
from nevus.training.config import RECIPES, TrainConfig
from nevus.training.loop import duration
from nevus.training.overrides import Overrides, make_config
from nevus.training.preparation import dataset_stats
from nevus.training.runtime_estimate import estimate_seconds


@dataclass(frozen=True)
class Command:
    """What each recipe would do with a data set: every value, the time expected on this machine, and the
    learning rate as a plot.
    """

    data: tyro.conf.Positional[tuple[Path, ...]]
    """As in `nevus train`."""
    out: Path = Path("recipe.png")
    """File for the plot of the learning rate, PNG or SVG."""
    backbone: str = AUTO
    """Network; see `nevus models`."""
    mode: Literal["head", "full"] = "full"
    """As in `nevus train`."""
    epochs: float | None = None
    """As in `nevus train`."""
    reading: Annotated[DataConfig, tyro.conf.arg(name="")] = DataConfig()
    split: SplitConfig = SplitConfig()
    changes: Annotated[Overrides, tyro.conf.arg(name="")] = field(default_factory=Overrides)

    def run(self) -> int:
        """Measure, print and draw; exit status."""
        manifest = with_splits(read(self.data, self.reading), self.split)
        backbone = resolve_backbone(self.backbone)
        facts = dataset_stats(manifest.split("train"), backbone)
        recipes = [
            make_config(name, facts, self.mode, epochs=self.epochs, changes=self.changes) for name in RECIPES
        ]
        times = []
        for recipe in recipes:
            with console.status(f"timing {recipe.name}"):
                times.append(estimate_seconds(recipe, backbone, facts, len(manifest.classes)))
        table = Table(title=f"{manifest.name}: {facts.images:,} training images, {backbone}, mode {self.mode}")
        table.add_column("")
        for recipe in recipes:
            table.add_column(recipe.name, justify="right")
        for f in fields(TrainConfig):
            if f.name not in ("name", "mode"):
                table.add_row(f.name, *(_shown(asdict(recipe)[f.name]) for recipe in recipes))
        table.add_row("passes over the images", *(f"{r.steps * r.batch / facts.images:.1f}" for r in recipes))
        table.add_row("expected time here", *(duration(seconds) for seconds in times))
        Console(markup=False, highlight=False).print(table)
        plots.save(plots.learning_rates(recipes), self.out)
        console.print(f"learning rate: {self.out}", highlight=False)
        return 0


def _shown(value: Any) -> str:
    if isinstance(value, tuple | list):
        return " ".join(_shown(v) for v in value) or "-"
    return f"{value:.5g}" if isinstance(value, float) else str(value)
