"""The quick part of an audit, that every training runs: which images of a set belong together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nevus.auditing.duplicates.search import KINDS
from nevus.auditing.lesion_groups import group_lesions
from nevus.data.cache import Cache
from nevus.data.manifest import Manifest
from nevus.errors import NevusError


@dataclass(frozen=True)
class LeakageReport:
    """What the quick audit found.

    Attributes:
        digest: of the groups that were found.
        pairs: found pairs by kind.
        crossing: groups on two sides of the splits that the set itself names.
        train: training images in groups that also stand in test.
        test: test images in groups that also stand in train or validation.
        dropped: rows that were left out because of that.

    """

    digest: str
    pairs: dict[str, int]
    crossing: int
    train: int
    test: int
    dropped: int = 0

    def sentence(self) -> str:
        """For the terminal."""
        found = ", ".join(f"{n} {_WORDS[kind]}" for kind, n in self.pairs.items() if n) or "no two images of one lesion"
        if not self.train:
            return f"audit: {found}; no training image shows what a test image shows."
        done = (
            f"{self.dropped} images are dropped"
            if self.dropped
            else "figures on this test split will be too good; --drop-leaks leaves them out"
        )
        return f"audit: {found}; {self.train} training images show what {self.test} test images show: {done}."


_WORDS = {"exact": "equal pictures", "copy": "nearly equal pictures", "lesion": "other pictures of one lesion"}


def group_duplicates(manifest: Manifest, cache: Cache) -> tuple[Manifest, LeakageReport]:
    """A Manifest whose groups join what the pixels say belongs together, and what was found on the way.

    Rows without a split count as train where others have one.

    Raises:
        NevusError: no image can be used.

    """
    relations = group_lesions(manifest, (), cache)
    found = relations.apply(manifest)
    touched = leaking_rows(found)
    split = found.table["split"]
    kinds = relations.pairs["kind"]
    return found, LeakageReport(
        digest=relations.digest,
        pairs={kind: int((kinds == kind).sum()) for kind in KINDS},
        crossing=int(found.table["group"][touched].nunique()),
        train=int((touched & (split != "test")).sum()),
        test=int((touched & (split == "test")).sum()),
    )


def leaking_rows(manifest: Manifest) -> np.ndarray:
    """Bool (n,): the rows whose group stands both in test and outside of it."""
    test = manifest.table["split"] == "test"
    group = manifest.table["group"]
    both = set(group[test]) & set(group[~test])
    return group.isin(both).to_numpy()


def drop_leaking(manifest: Manifest, *, judged: bool = False) -> tuple[Manifest, int]:
    """Leave out what leaks, and say how many rows that were.

    Args:
        manifest: with groups.
        judged: leave out the test images that are shown in training, for a classifier that is trained already; by
            default the other images whose group stands in test.

    Raises:
        NevusError: nothing would be left.

    """
    out = leaking_rows(manifest) & ((manifest.table["split"] == "test").to_numpy() == judged)
    if out.all() or (judged and out.sum() == (manifest.table["split"] == "test").sum()):
        raise NevusError(f"every image of {manifest.name} that could be used leaks; make a new split with nevus split.")
    return manifest.where(~out), int(out.sum())


def drop_overlap(others: Manifest, manifest: Manifest, cache: Cache) -> tuple[Manifest, int]:
    """Images from elsewhere, without those that show what a data set shows, and how many these were.

    Raises:
        NevusError: no image can be used, or nothing would be left.

    """
    relations = group_lesions(manifest, (others,), cache)
    own = relations.is_own()
    known = np.isin(relations.codes[~own], relations.codes[own])
    if known.all():
        raise NevusError(f"every image of {others.name} shows what {manifest.name} shows; judge on other images.")
    return others.where(~known), int(known.sum())


def protocol_of(manifest: Manifest, *, corrected: bool) -> str:
    """What a figure on the test split of a set is called.

    Args:
        manifest: as it is trained on, with groups.
        corrected: its split is the corrected one of the package.

    Returns:
        `corrected`; `leak-free`: the set's own test split, without the training images that show what it shows;
        `official`: the set's own split as it is, whose training images show some of it; `own cut`: the set names no
        test split, and one is cut between groups.

    """
    if "test" not in manifest.splits():
        return "own cut"
    if corrected:
        return "corrected"
    return "official" if leaking_rows(manifest).any() else "leak-free"
