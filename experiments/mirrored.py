"""What a side, a mirror image and the spread of a trunk's stages are worth to a head, out of fold between groups.

    python -m experiments.mirrored

On the training images of isic-malignant-benign alone. No test split is touched.
"""

from __future__ import annotations

import contextlib
import time
from typing import Any

import numpy as np

from experiments.common import keep
from experiments.pooling import MEANS, POOLINGS, Features, pooled, sets, within
from experiments.transfer import ADAPTED, GENERIC
from nevus.data.cache import Cache, CacheConfig
from nevus.data.decoded import decode_dataset
from nevus.data.manifest import Manifest
from nevus.data.preprocess import Preprocess
from nevus.models.multi_stage import MultiStageFeatures
from nevus.models.registry import AUTO, without_head, backbone_spec
from nevus.models.weights import load_pretrained
from nevus.runtime.engines import make_engine, run_batched
from nevus.runtime.tta import with_tta

SIDES = (128, 160, 192, 224)
STRENGTHS = (0.002, 0.008)
"""Of scikit-learn's C, on features of unit variance."""


def seen(
    manifest: Manifest, cache: Cache, backbone: str, side: int, views: int
) -> tuple[Manifest, dict[str, Features], float]:
    """The images that can be used, mean features of as many views, by pooling, and the seconds that they took."""
    spec = backbone_spec(backbone)
    made, _ = load_pretrained(backbone, classes=2, seed=0, weights=AUTO)
    tapped = MultiStageFeatures(without_head(made), 4, spread=True)
    decoded = decode_dataset(manifest, side, cache)
    ready = with_tta(make_engine(tapped, Preprocess(side, spec.mean, spec.std), name="openvino-bf16"), views)
    begun = time.perf_counter()
    found = run_batched(ready, decoded.pixels, what=f"{backbone} at {side} px, {views} views")
    return decoded.manifest, pooled(without_head(made), found), time.perf_counter() - begun


def rows(manifest: Manifest, cache: Cache, backbone: str) -> list[dict[str, Any]]:
    """Accuracy and AUROC by side, views, pooling and strength."""
    found: list[dict[str, Any]] = []
    for side in SIDES:
        for views in (1, 2):
            usable, features, seconds = seen(manifest, cache, backbone, side, views)
            told = {"trunk": backbone, "digest": backbone_spec(backbone).digest, "side": side, "views": views}
            for row in within(usable, features, STRENGTHS):
                found.append({**told, **row, "seconds": seconds})
    return found


def best(found: list[dict[str, Any]], backbone: str, side: int, views: int, pooling: str = MEANS) -> dict[str, Any]:
    """The row of the strength with the largest AUROC."""
    wanted = {"trunk": backbone, "side": side, "views": views, "pooling": pooling}
    fitting = [row for row in found if all(row[k] == v for k, v in wanted.items())]
    return fitting[int(np.argmax([row["auroc"] for row in fitting]))]


if __name__ == "__main__":
    with contextlib.closing(Cache(CacheConfig())) as opened:
        own = sets(opened)[0]
        kept = [row for backbone in (ADAPTED, GENERIC) for row in rows(own, opened, backbone)]
    assert {row["pooling"] for row in kept} == set(POOLINGS)
    keep("mirrored", {"rows": kept})
