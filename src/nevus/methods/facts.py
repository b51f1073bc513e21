"""What a recipe wants to know of a training set."""

from __future__ import annotations

import numpy as np

from nevus.data.images import size_of
from nevus.data.manifest import Manifest
from nevus.models.registry import trunk_spec
from nevus.training.recipe import Facts


def facts_of(train: Manifest, trunk: str) -> Facts:
    """What a recipe wants to know of a training split."""
    return Facts(len(train), _median_area(train), trunk_spec(trunk).side)


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
