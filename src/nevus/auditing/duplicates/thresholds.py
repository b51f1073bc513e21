"""Thresholds of the duplicate search, measured on edited images and on lesions with several images."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any


@dataclass(frozen=True)
class Thresholds:
    """Thresholds of the duplicate search.

    Attributes:
        near_duplicate: least similarity of near-duplicates; see `nevus.auditing.duplicates.alignment.Alignment`.
        overlap: least overlap of near-duplicates without matching key points.
        matches: least number of matching key points of two images of one lesion.
        same_lesion: least similarity of two images of one lesion.
        measured: precision and recall on edited images and on lesions photographed several times.

    """

    near_duplicate: float
    overlap: float
    matches: int
    same_lesion: float
    measured: Mapping[str, Any]


@cache
def default_thresholds() -> Thresholds:
    """Return the built-in thresholds."""
    return Thresholds(
        **json.loads(files("nevus.auditing.duplicates").joinpath("thresholds.json").read_text(encoding="utf-8"))
    )
