"""Trunks beside their teachers, on images that the trunks were taught on and on others; no test split.

    python -m experiments.lesions
    NEVUS_UPSTREAM=FOLDER python -m experiments.unseen

A logistic regression on the features of each, as in `experiments.stages`, at 192 px, on which classifiers are
trained; teachers at their own 224 px. Of isic-malignant-benign's training images, judged out of fold, a trunk
that was taught on some of them without their labels, or on HAM10000's pictures of the same lesions, may know
these too well: so both parts stand apart, by lesion.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold

from experiments.common import RESULTS, keep
from experiments.common import read as read_json
from experiments.lesions import related, rows_of
from experiments.pooling import FOLDS, MEANS, Features, between, model, sets
from experiments.transfer import TABLES
from experiments.upstream import FOLDER
from experiments.upstream import TABLES as RUNS
from nevus.data.cache import Cache, CacheConfig
from nevus.data.decoded import decode_dataset
from nevus.data.manifest import Manifest
from nevus.data.readers.dispatch import read
from nevus.pretraining.teachers import Teacher, teacher
from nevus.runtime.engines import run_batched

SIDE = 192
STRENGTHS = (1e-3, 1e-2)
"""The two of scikit-learn's C that were best for trunks and teachers."""
STAGES = ("adapted-2", "adapted-5")
TEACHERS = ("lite2", "open-nsfw")


def all_of_them() -> dict[str, Teacher]:
    """By name: stages that are on this machine, and teachers."""
    files = {name: RUNS / name / "trunk.safetensors" for name in STAGES}
    found = {name: teacher(str(file), side=SIDE, bf16=True) for name, file in files.items() if file.exists()}
    return found | {name: teacher(str(FOLDER / "teachers-224" / name), bf16=True) for name in TEACHERS}


def features(one: Teacher, manifest: Manifest, cache: Cache) -> tuple[Manifest, dict[str, Features]]:
    """Of every image, by pooling."""
    decoded = decode_dataset(manifest, one.side, cache)
    seen = run_batched(one, decoded.pixels, what=manifest.name)
    return decoded.manifest, {MEANS: seen[:, : one.features]}


def out_of_fold(manifest: Manifest, x: Features, taught: NDArray[np.bool_]) -> list[dict[str, Any]]:
    """Between groups, of the lesions that trunks were taught on and of the others."""
    rows, labels = [], manifest.targets
    folds = list(StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0).split(labels, labels, manifest.groups))
    for strength in STRENGTHS:
        p = np.zeros(len(labels))
        for shown, held in folds:
            p[held] = model(strength).fit(x[shown], labels[shown]).predict_proba(x[held])[:, 1]
        row: dict[str, Any] = {"strength": strength}
        for part, which in (("taught", taught), ("unseen", ~taught)):
            row[part] = {
                "n": int(which.sum()),
                "accuracy": float(((p > 0.5) == labels)[which].mean()),
                "auroc": float(roc_auc_score(labels[which], p[which])),
            }
        print(row, flush=True)
        rows.append(row)
    return rows


if __name__ == "__main__":
    path = RESULTS / "unseen.json"
    kept: dict[str, Any] = read_json(path) if path.exists() else {}
    with contextlib.closing(Cache(CacheConfig())) as opened:
        images = sets(opened)
        lessons = set(read(TABLES / "upstream.parquet").table["group"])
        every = rows_of(1, np.ones(len(related()[0][1]), bool))
        lesion = dict(zip(map(Path, every["image"]), every["group"], strict=True))
        for name, one in all_of_them().items():
            print(name, flush=True)
            own, ham, isic = (features(one, each, opened) for each in images)
            taught = np.array([lesion[path.absolute()] in lessons for path in own[0].paths])
            kept[name] = {
                "side": one.side,
                "within": out_of_fold(own[0], own[1][MEANS], taught),
                "there": between(ham, isic, STRENGTHS),
                "back": between(isic, ham, STRENGTHS),
            }
            keep("unseen", kept)
