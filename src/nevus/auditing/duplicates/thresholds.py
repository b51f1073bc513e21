"""From where on two images belong together; measured on edited and repeated images."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any


@dataclass(frozen=True)
class Thresholds:
    """What makes a pair.

    Attributes:
        copy: least similarity of two copies of one picture; see `nevus.auditing.duplicates.alignment.Alignment`.
        overlap: least overlap of two copies that no key points match.
        matches: least key points that two pictures of one lesion have in common.
        lesion: least similarity of two pictures of one lesion.
        measured: precision and recall on edited images and on lesions photographed several times, and how these
            were measured.

    """

    copy: float
    overlap: float
    matches: int
    lesion: float
    measured: Mapping[str, Any]


@cache
def chosen() -> Thresholds:
    """Those that come with the package."""
    return Thresholds(
        **json.loads(files("nevus.auditing.duplicates").joinpath("thresholds.json").read_text(encoding="utf-8"))
    )
