"""Flags of how a data set is made ready, shared by the commands that train."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from nevus.data.cache import CacheConfig
from nevus.data.splits import SplitConfig
from nevus.training.preparation import Preparation


@dataclass(frozen=True)
class PreparingConfig:
    """As `Preparation`, in the words of the command line."""

    corrected: Annotated[Literal["own", "corrected"], tyro.conf.arg(name="split")] = "own"
    """`own` keeps the data set's split, where it has one; `corrected` takes the leak-free one that comes with
    nevus, for isic-malignant-benign and ham10000."""
    audit: bool = True
    """Look for copies and other pictures of one lesion first, and cut no split between them."""
    drop_leaks: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Leave out the training images that show what a test image shows."""
    split: SplitConfig = SplitConfig()
    cache: CacheConfig = CacheConfig()

    def preparation(self) -> Preparation:
        """As methods take it."""
        return Preparation(self.split, self.cache, self.corrected == "corrected", self.audit, self.drop_leaks)
