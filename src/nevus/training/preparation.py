"""What every method does to a data set first: groups, the split, the leaks."""

from __future__ import annotations

import contextlib
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from nevus._io import write_text
from nevus._progress import console
from nevus.audit.leakage import LeakageReport, group_duplicates, protocol_of, drop_leaking
from nevus.data.cache import Cache, CacheConfig
from nevus.data.decoded import DecodedDataset
from nevus.data.images import size_of
from nevus.data.manifest import Manifest
from nevus.data.public.corrected_splits import with_corrected_split
from nevus.data.splits import SplitConfig, with_splits
from nevus.errors import NevusError
from nevus.models.registry import backbone_spec
from nevus.training.config import DatasetStats
from nevus.training.history import StageTimer
from nevus.training.run_dir import RunDir


@dataclass(frozen=True)
class Preparation:
    """How a data set is made ready.

    Attributes:
        split: how validation (and test) are cut where the data set does not say.
        cache: where decoded images are kept.
        corrected: take the corrected split that comes with the package, in place of the data set's own.
        audit: look for pictures of one lesion first, and never cut between them.
        drop_leaks: leave out training images that show what a test image shows.

    """

    split: SplitConfig = SplitConfig()
    cache: CacheConfig = CacheConfig()
    corrected: bool = False
    audit: bool = True
    drop_leaks: bool = False

    def of(self, manifest: Manifest, watch: StageTimer) -> tuple[Manifest, dict[str, Any]]:
        """The data set with the groups and the split that are asked for, and what a bundle says of that.

        Raises:
            NevusError: the data set has no such split.

        """
        with watch("audit") if self.audit else contextlib.nullcontext():
            manifest, protocol = self._audited(manifest)
        return with_splits(manifest, self.split), protocol

    def _audited(self, manifest: Manifest) -> tuple[Manifest, dict[str, Any]]:
        if self.corrected:
            manifest = with_corrected_split(manifest)
        found: LeakageReport | None = None
        if self.audit:
            with contextlib.closing(Cache(self.cache)) as cache:
                manifest, found = group_duplicates(manifest, cache)
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


def report_faults(run: RunDir, manifest: Manifest, shown: DecodedDataset, held: DecodedDataset) -> None:
    """Write which images cannot be used.

    Args:
        run: into whose folder.
        manifest: the data set.
        shown: its training images.
        held: its validation images.

    Raises:
        NevusError: of a class no training image is left.

    """
    write_text(run.folder / "skipped.txt", "".join(f"{fault}\n" for fault in (*shown.faults, *held.faults)))
    for name in manifest.classes:
        if name not in set(shown.manifest.table["label"]):
            raise NevusError(
                f"no training image of the class '{name}' can be used; see {run.folder / 'skipped.txt'}."
            )


def dataset_stats(train: Manifest, backbone: str) -> DatasetStats:
    """What a recipe wants to know of a training split."""
    return DatasetStats(len(train), _median_area(train), backbone_spec(backbone).side)


def _median_area(manifest: Manifest, sample: int = 256) -> float:
    """Median height x width by the headers of some images, in pixels; 0 where none can be read."""
    rows = np.linspace(0, len(manifest) - 1, min(sample, len(manifest))).astype(int)
    areas = []
    for row in rows:
        try:
            width, height = size_of(manifest.paths[row])
            areas.append(width * height)
        except Exception:  # whatever is met in a hostile file: it is reported when it is decoded
            continue
    return float(np.median(areas)) if areas else 0.0
