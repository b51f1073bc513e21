"""Flags of the commands that train: how a data set is made ready."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import tyro

from nevus.data.cache import CacheConfig
from nevus.data.splits import SplitConfig


@dataclass(frozen=True)
class PreparationFlags:
    """How a data set is made ready before a training.

    Attributes:
        check_duplicates: Whether to search for near-duplicates and same-lesion images, and keep them in one split.
        drop_leaks: Exclude training images that share a lesion with a test image.
        use_corrected_split: Use the leak-free split that comes with nevus (isic-malignant-benign, ham10000).

    """

    check_duplicates: bool = True
    drop_leaks: bool = False
    use_corrected_split: bool = False
    split: Annotated[SplitConfig, tyro.conf.arg(name="")] = SplitConfig()
    cache: CacheConfig = CacheConfig()
