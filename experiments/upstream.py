"""Train the trunks that come with the package, in stages; each goes on from the one before.

    NEVUS_UPSTREAM=FOLDER python -m experiments.upstream generic
    NEVUS_UPSTREAM=FOLDER python -m experiments.upstream lesions
    NEVUS_UPSTREAM=FOLDER python -m experiments.upstream generic-1 [--resume]

`FOLDER` holds the public sets of natural images, unpacked under the names of `NATURAL`, and `teachers/`, which
`python scripts/teachers.py FOLDER/teachers --side 160` writes. The first two commands write tables that say which
images are used: ids and digests go with the weights. Of lesions only images of HAM10000 are used, none of its test
fold, none of a lesion that stands in a test split of isic-malignant-benign, and none that shows a lesion of
isic2017.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from experiments.common import DATA, RESULTS, RUNS, keep, nevus, read
from nevus.audit.relations import relate
from nevus.data.cache import Cache, CacheConfig
from nevus.data.manifest import Manifest
from nevus.data.published import with_corrected_split
from nevus.data.reading import read as read_data
from nevus.data.unlabelled import LABEL, read_unlabelled

FOLDER = Path(os.environ.get("NEVUS_UPSTREAM", RUNS / "upstream-sets"))
TABLES = RUNS / "upstream"
NATURAL = {
    "imagenette": ("train", "val"),
    "caltech101": ("101_ObjectCategories",),
    "imagenet-sample": (".",),
    "pacs": ("PACS/photo", "PACS/art_painting", "PACS/cartoon"),
    "scenes": ("train-scene classification/train",),
    "tiny-imagenet": ("tiny-imagenet-200/train",),
}
"""Public sets of natural images, and which of their folders are used."""
MOST = {"scenes": 4000, "tiny-imagenet": 4000}
"""Images of a set that are used, drawn at random; else all."""

STAGES: dict[str, dict[str, object]] = {
    "generic-1": {
        "data": "generic",
        "teachers": ("lite0", "open-nsfw"),
        "start": "random",
        "flags": [
            "--side",
            "96",
            "--resize",
            "120",
            "--epochs",
            "4",
            "--divergence",
            "0.2",
            "--licence",
            "Apache-2.0",
        ],
    },
    "generic-2": {
        "data": "generic",
        "teachers": ("lite0", "open-nsfw"),
        "start": "generic-1",
        "flags": ["--epochs", "3", "--lr", "0.03", "--divergence", "0.2", "--licence", "Apache-2.0"],
    },
}
"""By name: which table, which teachers, which weights to begin with, and what else `nevus distill` is told."""


def natural() -> Manifest:
    """Images of everyday things, a few of each kind."""
    rng = np.random.default_rng(0)
    tables = []
    for name, parts in NATURAL.items():
        found = read_unlabelled([FOLDER / name / part for part in parts]).table
        if name in MOST:
            found = found.iloc[np.sort(rng.permutation(len(found))[: MOST[name]])]
        tables.append(found.assign(source=name))
    return Manifest(pd.concat(tables, ignore_index=True), Path("/"), (LABEL,), "natural images")


def lesions() -> Manifest:
    """HAM10000 without whatever a test split shows, and without isic2017's lesions."""
    sets = [with_corrected_split(read_data(DATA / "ham10000"))]
    sets += [read_data(DATA / name) for name in ("isic-malignant-benign", "isic2017")]
    relations = relate(sets[0], sets[1:], Cache(CacheConfig()))
    images = relations.images
    seen = ((images["split"] == "test") & (images["set"] < 2)) | (images["set"] == 2)
    forbidden = set(relations.codes[seen.to_numpy()].tolist())
    free = ~np.isin(relations.codes[: len(sets[0])], list(forbidden))
    manifest = relations.apply(sets[0]).where(free)
    table = manifest.table.assign(image=[str(path.absolute()) for path in manifest.paths], split="train")
    return Manifest(table, Path("/"), manifest.classes, "ham10000 without test lesions")


MADE = {"generic": natural, "lesions": lesions}


def table(name: str) -> None:
    """Write which images are used."""
    TABLES.mkdir(parents=True, exist_ok=True)
    made = MADE[name]()
    made.save(TABLES / f"{name}.parquet")
    counts = {str(k): int(v) for k, v in made.table["source"].value_counts().items()}
    print(name, counts)
    path = RESULTS / "upstream-images.json"
    keep("upstream-images", {**(read(path) if path.exists() else {}), name: counts})


def stage(name: str, resume: bool) -> None:
    """Run one stage, or go on with it, and keep its log."""
    about = STAGES[name]
    start = about["start"]
    weights = RUNS / "upstream" / str(start) / "trunk.safetensors" if start in STAGES else start
    teachers = [FOLDER / "teachers" / str(teacher) for teacher in about["teachers"]]  # type: ignore[attr-defined]
    out = TABLES / name
    command = nevus(
        "distill",
        TABLES / f"{about['data']}.parquet",
        "--out",
        out,
        "--teachers",
        *teachers,
        "--from",
        weights,
        *about["flags"],  # type: ignore[misc]
        *(["--resume"] if resume else []),
    )
    path = RESULTS / "upstream.json"
    before = read(path) if path.exists() else {}
    keep("upstream", {**before, name: {"command": command, **read(out / "about.json")}})


if __name__ == "__main__":
    words = argparse.ArgumentParser()
    words.add_argument("what", choices=[*MADE, *STAGES])
    words.add_argument("--resume", action="store_true")
    given = words.parse_args()
    if not FOLDER.is_dir():
        sys.exit(f"{FOLDER} is missing; set NEVUS_UPSTREAM to the folder of the public sets.")
    table(given.what) if given.what in MADE else stage(given.what, given.resume)
