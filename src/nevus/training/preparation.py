"""Preparation of a data set: the duplicate check, groups and splits."""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch

from nevus._io import write_text
from nevus._progress import console
from nevus.auditing.leakage import LeakageReport, drop_leaking, group_duplicates, protocol_of
from nevus.data.cache import Cache, CacheConfig
from nevus.data.decoded import DecodedDataset
from nevus.data.images import size_of
from nevus.data.manifest import Manifest
from nevus.data.public.corrected_splits import with_corrected_split
from nevus.data.splits import SplitConfig, with_splits
from nevus.data.walker import LeftOut
from nevus.errors import ImageError, NevusError
from nevus.models.model import stage_count
from nevus.models.registry import BackboneSpec, parameter_count
from nevus.runtime.device import has_bf16
from nevus.training.config import DatasetStats
from nevus.training.history import StageTimer
from nevus.training.run_dir import RunDir


@dataclass(frozen=True)
class Preparation:
    """How a data set is prepared for training.

    Attributes:
        split: how validation (and test) are cut where the data set does not say.
        cache: where decoded images are kept.
        corrected: use the built-in corrected split instead of the data set's own.
        check_duplicates: search for images of one lesion first, and never separate them.
        drop_leaks: leave out training images that share a lesion with a test image.

    """

    split: SplitConfig = SplitConfig()
    cache: CacheConfig = CacheConfig()
    corrected: bool = False
    check_duplicates: bool = True
    drop_leaks: bool = False

    def apply(
        self, manifest: Manifest, timer: StageTimer, *, sizes: Collection[int] = ()
    ) -> tuple[Manifest, dict[str, Any]]:
        """Return the data set with groups and splits, and the provenance of these for a bundle.

        Args:
            manifest: the data set.
            timer: takes the time of the duplicate check.
            sizes: that the images will be needed at: the check decodes them once for itself and for these.

        Raises:
            NevusError: the data set has no such split.

        """
        with timer("audit") if self.check_duplicates else contextlib.nullcontext():
            manifest, protocol = self._audited(manifest, sizes)
        return with_splits(manifest, self.split), protocol

    def _audited(self, manifest: Manifest, sizes: Collection[int]) -> tuple[Manifest, dict[str, Any]]:
        if self.corrected:
            manifest = with_corrected_split(manifest)
        found: LeakageReport | None = None
        if self.check_duplicates:
            with contextlib.closing(Cache(self.cache)) as cache:
                manifest, found = group_duplicates(manifest, cache, also=sizes)
        dropped = 0
        if self.drop_leaks:
            manifest, dropped = drop_leaking(manifest)
        if found:
            found = replace(found, dropped=dropped)
            console.print(found.sentence())
        return manifest, {
            "protocol": protocol_of(manifest, corrected=self.corrected),
            "audit": asdict(found) if found else None,
        }


def report_faults(run: RunDir, manifest: Manifest, train: DecodedDataset, val: DecodedDataset) -> None:
    """Write `skipped.txt`: the images that cannot be used.

    Args:
        run: the run.
        manifest: the data set.
        train: its training images.
        val: its validation images.

    Raises:
        NevusError: a class has no usable training image.

    """
    lines = [*LeftOut(list(manifest.left_out)).lines(), *train.faults, *val.faults]
    write_text(run.folder / "skipped.txt", "".join(f"{line}\n" for line in lines))
    lacking = [name for name in manifest.classes if name not in set(val.manifest.table["label"])]
    if lacking:
        console.print(
            f"The validation split has no usable image of the class '{lacking[0]}': its metrics there are undefined.",
            style="yellow",
        )
    for name in manifest.classes:
        if name not in set(train.manifest.table["label"]):
            reason = f"see {run.folder / 'skipped.txt'}" if train.faults else "the training split has none"
            raise NevusError(f"Cannot train: there is no training image of the class '{name}' ({reason}).")


def dataset_stats(train: Manifest, backbone: BackboneSpec) -> DatasetStats:
    """Return what a preset needs to know of a training split, of a backbone and of this machine."""
    counts = train.table["label"].value_counts()
    cpu = torch.device("cpu")
    return DatasetStats(
        images=len(train),
        area=_median_area(train),
        image_size=backbone.image_size,
        imbalance=float(counts.max() / counts.min()) if len(counts) else 1.0,
        classes=len(train.classes),
        parameters=parameter_count(backbone),
        stages=stage_count(backbone),
        bf16=not torch.cuda.is_available() and has_bf16(cpu),
    )


def _median_area(manifest: Manifest, sample: int = 256) -> float:
    """Median height x width by the headers of some images, in pixels; 0 where none can be read."""
    rows = np.linspace(0, len(manifest) - 1, min(sample, len(manifest))).astype(int)
    areas = []
    for row in rows:
        try:
            width, height = size_of(manifest.paths[row])
            areas.append(width * height)
        except ImageError:  # reported when it is decoded
            continue
    return float(np.median(areas)) if areas else 0.0
