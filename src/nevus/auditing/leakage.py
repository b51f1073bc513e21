"""Leakage: the duplicate check that every training runs first, and what follows for the splits."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

import numpy as np

from nevus.auditing.duplicates.search import KINDS
from nevus.auditing.lesion_groups import group_lesions
from nevus.data.cache import Cache
from nevus.data.manifest import Manifest
from nevus.errors import NevusError


@dataclass(frozen=True)
class LeakageReport:
    """The result of the duplicate check.

    Attributes:
        digest: of the groups that were found.
        pairs: number of pairs by kind.
        crossing: groups in several of the splits that the data set itself names.
        train: training images in groups that are also in test.
        test: test images in groups that are also in train or validation.
        dropped: rows that were left out because of leakage.

    """

    digest: str
    pairs: dict[str, int]
    crossing: int
    train: int
    test: int
    dropped: int = 0

    def sentence(self) -> str:
        """Return the result in one sentence, for the console."""
        found = ", ".join(f"{n:,} {_KINDS[kind]}" for kind, n in self.pairs.items() if n) or "no two images of a lesion"
        if not self.train:
            return f"Duplicate check: {found}; no training image shares a lesion with a test image."
        action = (
            f"images excluded: {self.dropped:,}."
            if self.dropped
            else "test metrics will be optimistic. Use --drop-leaks to exclude them."
        )
        shared = f"training images with a lesion of the test split: {self.train:,}; such test images: {self.test:,}"
        return f"Duplicate check: {found}; {shared}; {action}"


_KINDS = {
    "exact_duplicate": "pairs of exact duplicates",
    "near_duplicate": "pairs of near-duplicates",
    "same_lesion": "pairs of other images of one lesion",
}


def group_duplicates(manifest: Manifest, cache: Cache, *, also: Collection[int] = ()) -> tuple[Manifest, LeakageReport]:
    """Find duplicates, and return the Manifest with their groups joined.

    Rows without a split count as train where others have one.

    Args:
        manifest: the data set.
        cache: of decoded images.
        also: sizes that the images will be needed at, see `nevus.data.decoded.decode_dataset`.

    Raises:
        NevusError: no image can be used.

    """
    lesion_groups = group_lesions(manifest, (), cache, also=also)
    grouped = lesion_groups.apply(manifest)
    leaking = leaking_rows(grouped)
    split = grouped.table["split"]
    kinds = lesion_groups.pairs["kind"]
    return grouped, LeakageReport(
        digest=lesion_groups.digest,
        pairs={kind: int((kinds == kind).sum()) for kind in KINDS},
        crossing=int(grouped.table["group"][leaking].nunique()),
        train=int((leaking & (split != "test")).sum()),
        test=int((leaking & (split == "test")).sum()),
    )


def leaking_rows(manifest: Manifest) -> np.ndarray:
    """Return the rows whose group is both in test and outside of it, bool (n,)."""
    test = manifest.table["split"] == "test"
    group = manifest.table["group"]
    both = set(group[test]) & set(group[~test])
    return group.isin(both).to_numpy()


def drop_leaking(manifest: Manifest, *, from_split: Literal["train", "test"] = "train") -> tuple[Manifest, int]:
    """Leave out leaking rows, and count them.

    Args:
        manifest: with groups.
        from_split: `train` leaves out the rows outside of test whose group is also in test; `test` leaves out the
            test rows whose group is also outside, for a classifier that is already trained.

    Raises:
        NevusError: nothing would be left.

    """
    test = (manifest.table["split"] == "test").to_numpy()
    out = leaking_rows(manifest) & (test == (from_split == "test"))
    if out.all() or (from_split == "test" and out.sum() == test.sum()):
        raise NevusError(
            f"Cannot drop the leaks of {manifest.name}: no image would be left. Make a new split with nevus split."
        )
    return manifest.where(~out), int(out.sum())


def drop_overlap(external: Manifest, manifest: Manifest, cache: Cache) -> tuple[Manifest, int]:
    """Leave out external images that share a lesion with a data set, and count them.

    Raises:
        NevusError: no image can be used, or nothing would be left.

    """
    lesion_groups = group_lesions(manifest, (external,), cache)
    own = lesion_groups.is_own()
    overlap = np.isin(lesion_groups.codes[~own], lesion_groups.codes[own])
    if overlap.all():
        raise NevusError(
            f"Cannot evaluate on {external.name}: every image shares a lesion with {manifest.name}. Give other images."
        )
    return external.where(~overlap), int(overlap.sum())


def protocol_of(manifest: Manifest, *, corrected: bool) -> str:
    """Return the name of the split protocol, which every metric on the test split is reported with.

    Args:
        manifest: as it is trained on, with groups.
        corrected: its split is the corrected one of the package.

    Returns:
        `corrected`; `leak-free`: the data set's own test split, without the training images of the same lesions;
        `official`: the data set's own split with such images; `custom split`: the data set names no test split, and
        one is cut between groups.

    """
    if "test" not in manifest.splits():
        return "custom split"
    if corrected:
        return "corrected"
    return "official" if leaking_rows(manifest).any() else "leak-free"
