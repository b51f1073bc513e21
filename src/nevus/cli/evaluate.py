"""`nevus evaluate`."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console
from rich.table import Table

from nevus._progress import console
from nevus.audit.leakage import group_duplicates, drop_leaking
from nevus.bundle.classifier import load
from nevus.bundle.model_card import DISCLAIMER
from nevus.data.cache import Cache, CacheConfig
from nevus.data.readers.dispatch import DataConfig, read
from nevus.errors import NevusError
from nevus.evaluation import Evaluation, evaluate
from nevus.report.evaluation import format_metric, check_output_dir, humanize, write_evaluation
from nevus.runtime.engines import EngineName


@dataclass(frozen=True)
class Command:
    """Judge a bundle on a labeled data set: every figure with its 95 % interval, as JSON and as a page.

    Each look at a test split is logged in the bundle. Research use only, not a medical device.
    """

    data: tyro.conf.Positional[tuple[Path, ...]]
    """As in `nevus train`."""
    bundle: Path
    """Folder that training wrote, as in runs/NAME/bundle, or the name of a classifier that comes with nevus."""
    out: Path
    """Folder for evaluation.json, evaluation.html and predictions.csv."""
    split: Literal["train", "validation", "test", "all"] = "test"
    """Which rows."""
    replicates: int = 2000
    """Draws of the bootstrap."""
    seed: int = 0
    """Of the bootstrap."""
    drop_leaks: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Leave out the test images that show what an image of train or validation shows."""
    engine: EngineName = "auto"
    """`auto` takes OpenVINO on a CPU, PyTorch on a GPU; both give the same figures. `openvino-bf16` is faster where
    the CPU computes in bfloat16, and gives others in the third digit."""
    views: Literal[1, 2, 4, 6, 8, 32] | None = None
    """Of each image, whose mean is the answer, at as many times the cost: 2 sees it and its mirror image; 4 the
    whole and its middle, as they are and in an evened light; 6 the whole, its middle, and that on its side, in gray
    and in standard colors; 8 the ways to turn and mirror it; 32 what 4 and 8 do. By default as many as the bundle
    says."""
    reading: Annotated[DataConfig, tyro.conf.arg(name="")] = DataConfig()
    cache: CacheConfig = CacheConfig()

    def run(self) -> int:
        """Evaluate; exit status."""
        if self.reading.positive is not None:
            raise NevusError("which class is positive stands in the bundle; leave --positive out.")
        classifier = load(self.bundle, engine_name=self.engine, views=self.views)
        # Before minutes are spent, and before a look at the test split is.
        check_output_dir(self.out, classifier.bundle.digest)
        manifest = read(self.data, self.reading)
        if self.drop_leaks:
            with contextlib.closing(Cache(self.cache)) as cache:
                manifest, _ = group_duplicates(manifest, cache)
            manifest, dropped = drop_leaking(manifest, judged=True)
            console.print(f"{dropped} test images that show what a training image shows are left out.")
        evaluation = evaluate(classifier, manifest, self.split, replicates=self.replicates, seed=self.seed)
        page = write_evaluation(evaluation, classifier, self.out)
        Console(markup=False, highlight=False).print(_table(evaluation))
        console.print(f"page: {page}   {DISCLAIMER}", highlight=False)
        return 0


def _table(evaluation: Evaluation) -> Table:
    table = Table(title=f"{evaluation.manifest.name}, {evaluation.split}: {len(evaluation.manifest)} images")
    table.add_column("figure")
    for name in ("value", "95 % interval", "n"):
        table.add_column(name, justify="right")
    for name, figure in evaluation.metrics.items():
        interval = f"{format_metric(figure.ci_low)} to {format_metric(figure.ci_high)}"
        table.add_row(humanize(name), format_metric(figure.value), interval, str(figure.n))
    return table
