"""`nevus crossval`."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from rich.console import Console
from rich.table import Table

from nevus._io import ensure_writable
from nevus._progress import console
from nevus.baselines.methods import MethodName, is_network
from nevus.bundle.model_card import DISCLAIMER
from nevus.cli import train
from nevus.cli._flags import DataFlag, flag
from nevus.cli._number import OptionalFloat
from nevus.data.cache import Cache, CacheConfig
from nevus.data.readers.dispatch import DataConfig, read
from nevus.data.splits import By, SplitConfig
from nevus.errors import NevusError
from nevus.training.config import Tuning

if TYPE_CHECKING:
    from nevus.cross_validation import CrossValidation, Fits


@dataclass(frozen=True)
class Command:
    """Train once for each fold, and compute metrics on the images that were left out.

    Lesions and patients are never cut. A test split of the data is not used. The command goes on where it was
    interrupted. Research use only, not a medical device.
    """

    data: DataFlag
    """Data sets, as nevus train takes them; several are joined."""
    out: Path
    """Folder for the runs, predictions.csv, metrics.csv and crossval.html."""
    by: By = flag("group", "Options")
    """group: folds of whole lesions or patients; source: each source is left out in turn."""
    folds: int = flag(5, "Options")
    """Number of folds, by group."""
    ensemble: bool = flag(False, "Options")
    """Write the folds as one bundle, OUT/bundle, whose decision rule is fitted on the predictions out of fold."""
    reading: Annotated[DataConfig, tyro.conf.arg(name="")] = flag(
        DataConfig(), "Data", advanced=True, show=("labels", "positive")
    )
    check_duplicates: bool = flag(True, "Data", advanced=True)
    """Whether to search for near-duplicates and same-lesion images, and keep them in one fold."""
    val_fraction: float = flag(0.15, "Data", advanced=True)
    """Share of the groups of each training that becomes its validation split."""
    cache: CacheConfig = flag(CacheConfig(), "Data", advanced=True)
    backbone: str = flag("auto", "Model")
    """Name of the network, see nevus models; auto chooses the largest that this machine can train."""
    method: MethodName = flag("bit", "Model", advanced=True)
    """bit, bit-bn (batch normalization), one of four other networks, or a method on handcrafted features."""
    preset: Literal["best", "fast", "paper", "hyperrule"] = flag("best", "Optimization")
    """Training configuration, see nevus train."""
    tuning: Tuning | None = flag(None, "Optimization")
    """linear-probe, full (every weight) or lp-ft (every weight, from the linear probe); by default the preset's."""
    epochs: OptionalFloat = flag(None, "Optimization")
    """Passes over the training images; by default the preset's length."""
    seed: int = flag(0, "Optimization")
    """Seed of the folds and of the training."""
    set: tuple[str, ...] = flag((), "Optimization")
    """Override fields of the training configuration, as in lr=0.01 batch_size=64."""
    bootstrap_samples: int = flag(2000, "Options", advanced=True)
    """Number of bootstrap samples of the intervals."""

    def run(self) -> int:
        """Cross-validate; exit status."""
        ensure_writable(self.out)
        if self.ensemble and not is_network(self.method):
            raise NevusError(f"Cannot make an ensemble of {self.method}: it has no model.onnx. Leave --ensemble out.")
        data, trainer = read(self.data, self.reading), self._trainer()
        from nevus.cross_validation import cross_validate, folds_ensemble, grouped_for_folds, make_folds, say
        from nevus.report.cross_validation import write_cross_validation

        manifest = grouped_for_folds(data, self.cache, check_duplicates=self.check_duplicates)
        folds = make_folds(manifest, self.by, self.folds, self.seed)
        found = cross_validate(
            manifest, folds, trainer, self.out, self.by, replicates=self.bootstrap_samples, on_fold=say
        )
        page = write_cross_validation(found, manifest, self.out)
        Console(markup=False, highlight=False).print(_table(found))
        if self.ensemble and not (self.out / "bundle").exists():
            with contextlib.closing(Cache(self.cache)) as cache:
                folds_ensemble(found, manifest, self.out / "bundle", cache)
        if self.ensemble:
            console.print(f"bundle of the folds: {self.out / 'bundle'}", highlight=False)
        console.print(f"page: {page}   {DISCLAIMER}", highlight=False)
        return 0

    def _trainer(self) -> Fits:
        from nevus.training.preparation import Preparation

        split = SplitConfig(val_fraction=self.val_fraction, split_seed=self.seed)
        preparation = Preparation(split, self.cache, check_duplicates=False)
        if not is_network(self.method):
            from nevus.baselines.train import HandcraftedTrainer

            train.refuse_network_flags(self, ("backbone", "preset", "tuning", "epochs", "set"))
            return HandcraftedTrainer(self.method, self.seed, preparation)
        command = train.Command(
            data=self.data,
            backbone=self.backbone,
            method=self.method,
            preset=self.preset,
            tuning=self.tuning,
            epochs=self.epochs,
            seed=self.seed,
            set=self.set,
        )
        return replace(command.trainer(), preparation=preparation)


def _table(found: CrossValidation) -> Table:
    from nevus.cross_validation import AT_POINT, AVERAGED
    from nevus.report.page import format_metric, humanize

    names = [name for name in (*AVERAGED, *AT_POINT) if name in found.pooled]
    table = Table(title=f"{len(found.folds)} folds by {found.by}")
    for head in ("fold", "n", *map(humanize, names)):
        table.add_column(head, justify="left" if head == "fold" else "right")
    for fold in found.folds:
        table.add_row(fold.name, str(fold.n), *(format_metric(fold.metrics[name].value) for name in names))
    summary = found.summary()
    for row, title in enumerate(("mean", "worst")):
        cells = [format_metric(summary[name][row]) if name in summary else "undefined" for name in names]
        table.add_row(title, "", *cells, style="bold")
    table.add_row("pooled", str(sum(f.n for f in found.folds)), *(format_metric(found.pooled[n].value) for n in names))
    return table
