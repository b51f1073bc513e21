"""Splits by group, stratified and seeded, never through a group."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from nevus._progress import console, ignored_warnings
from nevus.data.manifest import Manifest
from nevus.errors import NevusError

By = Literal["group", "source"]
"""What the folds of a cross-validation are: whole groups, or each source."""


@dataclass(frozen=True)
class SplitConfig:
    """What is cut where a data set does not say.

    Attributes:
        val_fraction: share of the training groups that becomes the validation split where there is none.
        test_fraction: share of all groups that becomes the test split where the data set names no split at all;
            0 cuts none.
        split_seed: seed of the split, separate from the training's seed, so that runs with different seeds compare.

    """

    val_fraction: float = 0.15
    test_fraction: float = 0.2
    split_seed: int = 0


def with_splits(manifest: Manifest, config: SplitConfig) -> Manifest:
    """A Manifest whose every row is in train, validation or test.

    Rows without a split in a data set that has splits are taken as train. A group that the data set itself
    puts on both sides is left as it is: published splits are not changed behind the user's back.

    Raises:
        NevusError: there is one class only; a class has fewer groups than folds; there is no train split.

    """
    if not 0 <= config.split_seed < 2**32:
        raise NevusError(
            f"Cannot split by the seed {config.split_seed}: it is not between 0 and 2^32. Correct --split-seed."
        )
    _two_classes(manifest)
    table = manifest.table.copy()
    if not manifest.splits() and config.test_fraction > 0:
        table["split"] = np.where(_fold(manifest, config.test_fraction, config.split_seed, "test"), "test", "train")
    table["split"] = table["split"].replace("", "train")
    manifest = manifest.with_table(table)
    if "train" not in manifest.splits():
        raise NevusError(
            f"Cannot train on {manifest.name}: it has no train split (it has: {', '.join(manifest.splits())}). Give "
            "one."
        )
    if "validation" not in manifest.splits():
        train = manifest.split("train")
        _two_classes(train)
        held = _fold(train, config.val_fraction, config.split_seed, "validation")
        rows = np.flatnonzero((table["split"] == "train").to_numpy())
        table.loc[rows[held], "split"] = "validation"
        manifest = manifest.with_table(table)
    _two_classes(manifest.split("train"))
    sides = manifest.table.groupby("group")["split"].nunique()
    if (sides > 1).any():
        console.print(
            f"Groups (lesions or patients) in several splits of {manifest.name}: {int((sides > 1).sum())}. Test "
            "metrics will be optimistic.",
            style="yellow",
        )
    return manifest


FLAGS = {"validation": "val-fraction", "test": "test-fraction"}


def _two_classes(manifest: Manifest) -> None:
    present = sorted(manifest.table["label"].unique())
    if len(present) < 2:
        raise NevusError(f"Cannot train on {manifest.name}: it has one class only ('{present[0]}'). Give at least two.")


def _fold(manifest: Manifest, share: float, seed: int, what: str) -> np.ndarray:
    """A boolean mask of about `share` of the rows, whole groups, classes in proportion.

    `StratifiedGroupKFold` makes the folds. Its shares are 1/k, so a share such as 0.15 is put together from
    folds of a finer cut: 3 of 20.
    """
    from nevus.data.group_folds import GroupFolds

    if not 0 < share < 1:
        raise NevusError(f"Cannot cut a {what} share of {share}: it is not between 0 and 1. Correct --{FLAGS[what]}.")
    folds, taken = _folds(share)
    groups = manifest.table.groupby("label")["group"].nunique()
    while groups.min() < folds and taken > 1:  # a rare class allows only a coarser cut
        folds, taken = max(2, round(folds / taken)), 1
    if groups.min() < folds:
        name = str(groups.idxmin())
        raise NevusError(
            f"Cannot split {manifest.name}: the class '{name}' has {groups.min()} independent images, fewer than the "
            f"{folds} folds that a {what} share of {share:g} needs. Add images, leave the class out, or name the "
            "splits yourself."
        )
    splitter = GroupFolds(folds, shuffle=True, random_state=seed)
    held = np.zeros(len(manifest), bool)
    with ignored_warnings(UserWarning):  # groups, not images, are what is counted above
        for number, (_, fold) in enumerate(splitter.split(held, manifest.targets, manifest.groups)):
            if number < taken:
                held[fold] = True
    return held


def _folds(share: float) -> tuple[int, int]:
    """The cut (folds, folds taken), of at most 20 folds, that is nearest to `share`; the coarsest such."""
    options = [(k, t) for k in range(2, 21) for t in range(1, k)]
    return min(options, key=lambda o: (round(abs(o[1] / o[0] - share), 3), o[0]))
