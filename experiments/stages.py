"""The trunks' stages beside one another, by cross-validation between groups and between sources; no test split.

    python -m experiments.lesions
    python -m experiments.stages

A logistic regression on the means of four stages and the last layer, as in `experiments.pooling`: on the training
images of isic-malignant-benign, of which six times as many are judged as in the one validation split of
`experiments.backbones`, and on lesions of another source than those that it was fitted on. Each stage of
`experiments.upstream` that is on this machine; what was measured before stays, and is not repeated.
"""

from __future__ import annotations

import contextlib
from typing import Any

from experiments.common import RESULTS, keep, read
from experiments.pooling import MEANS, between, features, sets, within
from experiments.upstream import STAGES, TABLES
from nevus.data.cache import Cache, CacheConfig


def backbones() -> dict[str, tuple[str, str]]:
    """By name, a trunk and its weights."""
    files = {stage: TABLES / stage / "trunk.safetensors" for stage in STAGES}
    return {stage: ("bit-r26x0.5", str(file)) for stage, file in files.items() if file.exists()}


if __name__ == "__main__":
    path = RESULTS / "stages.json"
    kept: dict[str, Any] = read(path) if path.exists() else {}
    with contextlib.closing(Cache(CacheConfig())) as opened:
        images = sets(opened)
        for name, (backbone, weights) in backbones().items():
            if name in kept:
                continue
            print(name, flush=True)
            seen = [features(each, opened, backbone, weights) for each in images]
            own, ham, isic = [(manifest, {MEANS: found[MEANS]}) for manifest, found in seen]
            kept[name] = {"within": within(*own), "there": between(ham, isic), "back": between(isic, ham)}
            keep("stages", kept)
