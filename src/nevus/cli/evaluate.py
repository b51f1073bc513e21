"""`nevus evaluate`."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from rich.console import Console
from rich.table import Table

from nevus._progress import console
from nevus.bundle.classifier import load
from nevus.bundle.model_card import DISCLAIMER
from nevus.cli._flags import DataFlag
from nevus.cli._number import OptionalFloat
from nevus.data.cache import Cache, CacheConfig
from nevus.data.readers.dispatch import DataConfig, read
from nevus.errors import NevusError
from nevus.report.page import format_interval, format_metric, humanize
from nevus.runtime.engines import EngineName
from nevus.runtime.tta import TTAPolicy

if TYPE_CHECKING:
    from nevus.evaluation import Evaluation


@dataclass(frozen=True)
class Command:
    """Compute the metrics of a bundle on a labeled data set, each with its 95 % interval.

    Each evaluation on a test split is logged in the bundle. Research use only, not a medical device.
    """

    data: DataFlag
    """Data sets, as nevus train takes them: class folders, csv or Parquet files, public data sets."""
    bundle: Path
    """Folder that training wrote, as in runs/NAME/bundle, or the name of a built-in classifier."""
    out: Path
    """Folder for evaluation.json, evaluation.html and predictions.csv."""
    split: Literal["train", "validation", "test", "all"] = "test"
    """Rows to evaluate."""
    bootstrap_samples: int = 2000
    """Number of bootstrap samples."""
    seed: int = 0
    """Seed of the bootstrap."""
    drop_leaks: bool = False
    """Exclude test images that share a lesion with a training or validation image."""
    by: tuple[str, ...] = ()
    """Columns of the data whose values are evaluated apart, as sex age_group anatom_site_general; age_group is made of
    age_approx."""
    prevalence: OptionalFloat = None
    """Share of the positive class where the classifier is used, as 0.02, for PPV, NPV and net benefit. By default that
    of the images."""
    sensitivity: OptionalFloat = None
    """Guaranteed sensitivity that decisions are made at: 0.8, 0.9, 0.95 or 0.98, where the bundle has a threshold for
    it. By default 0.95."""
    readers: Path | None = None
    """A csv file of readers' decisions, reader,image,decision, or of their results, reader,sensitivity,specificity."""
    engine: EngineName = "auto"
    """auto and onnx: ONNX Runtime; openvino; torch: PyTorch, on a GPU where there is one; all give the same results.
    openvino-bf16 is faster on a CPU with bfloat16 and differs in the third digit."""
    tta: TTAPolicy | None = None
    """Test-time augmentation: logits are averaged over transforms. none; flip: horizontal flip; crop-color: full
    image and center crop, with and without color constancy; invariant: these in gray and standardized colors; d4: the
    eight rotations and reflections; all: crop-color times d4. By default the bundle's."""
    reading: Annotated[DataConfig, tyro.conf.arg(name="")] = DataConfig()
    cache: CacheConfig = CacheConfig()

    def run(self) -> int:
        """Evaluate; exit status."""
        if self.reading.positive is not None:
            raise NevusError("Cannot use --positive: the bundle defines the positive class. Leave it out.")
        if self.prevalence is not None and not 0 < self.prevalence < 1:
            raise NevusError(
                f"Cannot use --prevalence {self.prevalence}: it is not between 0 and 1. Give 0.02 for 2 %."
            )
        from nevus.evaluation import evaluate
        from nevus.report.evaluation import check_output_dir, write_evaluation
        from nevus.report.evaluation_text import warnings_of

        classifier = load(self.bundle, engine=self.engine, tta=self.tta, sensitivity=self.sensitivity)
        # Before minutes are spent, and before a look at the test split is.
        check_output_dir(self.out, classifier.bundle.digest)
        manifest, dropped = read(self.data, self.reading), 0
        if self.drop_leaks:
            from nevus.auditing.leakage import drop_leaking, group_duplicates

            with contextlib.closing(Cache(self.cache)) as cache:
                manifest, _ = group_duplicates(manifest, cache)
            manifest, dropped = drop_leaking(manifest, from_split="test")
            console.print(f"Test images that share a lesion with a training image, and are excluded: {dropped:,}.")
        evaluation = evaluate(
            classifier,
            manifest,
            self.split,
            replicates=self.bootstrap_samples,
            seed=self.seed,
            leaks_dropped=dropped,
            by=self.by,
            prevalence=self.prevalence,
            readers=self.readers,
        )
        page = write_evaluation(evaluation, classifier, self.out)
        for warning in warnings_of(evaluation, classifier):
            console.print(warning, style="yellow", highlight=False)
        Console(markup=False, highlight=False).print(_table(evaluation))
        console.print(f"page: {page}   {DISCLAIMER}", highlight=False)
        return 0


def _table(evaluation: Evaluation) -> Table:
    from nevus.report.evaluation import decided_metrics

    groups = evaluation.manifest.table["group"].nunique()
    size = f"{len(evaluation.manifest)} images, {groups} groups"
    table = Table(title=f"{evaluation.manifest.name}, {evaluation.split}: {size}")
    table.add_column("metric")
    for name in ("value", "95 % interval", "n"):
        table.add_column(name, justify="right")
    for name, figure in {**evaluation.metrics, **decided_metrics(evaluation)}.items():
        table.add_row(humanize(name), format_metric(figure.value), format_interval(figure), str(figure.n))
    return table
