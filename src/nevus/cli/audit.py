"""`nevus audit`."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from nevus._io import ensure_writable
from nevus._progress import console
from nevus.bundle.model_card import DISCLAIMER
from nevus.cli._flags import DataFlag
from nevus.data.cache import Cache, CacheConfig
from nevus.data.preprocess import Preprocess
from nevus.data.readers.dispatch import DataConfig, read
from nevus.models.registry import backbone_spec

if TYPE_CHECKING:
    from nevus.auditing.audit import Audit
    from nevus.auditing.shortcuts import Embed


@dataclass(frozen=True)
class Command:
    """Find duplicates, train/test leakage, shortcut features and label errors in a data set.

    Writes audit.html, audit.json and manifest.parquet (every row of the input with the groups that were found; train
    on that). The data set is not changed. Research use only, not a medical device.
    """

    data: DataFlag
    """Data sets: class folders, csv or Parquet files, public data sets."""
    out: Path
    """Folder for the results."""
    reference: tuple[Path, ...] = ()
    """Other data sets: an image that is also in them inherits the id of its lesion."""
    check_overlap_with: tuple[str, ...] = ()
    """Names of built-in backbones or classifiers: report which images are among their training images."""
    backbone: str | None = None
    """Score shortcuts and labels by the features of this network, instead of simple color and texture features."""
    weights: str = "auto"
    """Weights of the backbone: auto for its own, or the path of an .npz or .safetensors file."""
    seed: int = 0
    """Seed of folds, clusters and bootstrap."""
    reading: Annotated[DataConfig, tyro.conf.arg(name="")] = DataConfig()
    cache: CacheConfig = CacheConfig()

    def run(self) -> int:
        """Audit; exit status: 3 where images could not be used."""
        ensure_writable(self.out)
        manifest = read(self.data, self.reading)
        references = [read(one) for one in self.reference]
        from nevus.auditing.audit import audit
        from nevus.auditing.contamination import training_images
        from nevus.report.audit import write_audit

        lists = {one.network: one for name in self.check_overlap_with for one in training_images(name)}
        with contextlib.closing(Cache(self.cache)) as cache:
            result = audit(
                manifest,
                references,
                cache=cache,
                lists=list(lists.values()),
                embed=None if self.backbone is None else self._embed(self.backbone),
                backbone=self.backbone,
                seed=self.seed,
            )
        page = write_audit(result, self.out)
        plain = Console(markup=False, highlight=False, soft_wrap=True)
        plain.print(_table(result))
        for warning in result.warnings:
            plain.print(f"! {warning}")
        for sentence in (one.sentence(result.manifest) for one in result.overlaps if one.found.empty):
            plain.print(sentence)
        console.print(f"page: {page}   table: {self.out / 'manifest.parquet'}   {DISCLAIMER}", highlight=False)
        return 3 if result.counts()["unreadable"] else 0

    def _embed(self, backbone: str) -> Embed:
        from nevus.data.perceptual_hash import AUDIT_IMAGE_SIZE
        from nevus.models.weights import load_pretrained
        from nevus.runtime.feature_engine import network_engine

        network, _ = load_pretrained(backbone, seed=self.seed, weights=self.weights)
        spec = backbone_spec(backbone)
        engine = network_engine(network, Preprocess(AUDIT_IMAGE_SIZE, spec.mean, spec.std))
        return lambda images: engine(np.stack(images))


def _table(result: Audit) -> Table:
    from nevus.report.audit import HEADLINE
    from nevus.report.page import format_metric

    table = Table(title=f"audit of {result.manifest.name}")
    table.add_column("result")
    table.add_column("n", justify="right")
    counts = result.counts()
    for key, name in HEADLINE.items():
        table.add_row(name, f"{counts[key]:,}")
    for score in result.shortcut_scores:
        table.add_row(
            f"AUROC of the {score.what} from {score.view}",
            f"{score.auroc:.3f} ({format_metric(score.low)} to {format_metric(score.high)})",
        )
    return table
