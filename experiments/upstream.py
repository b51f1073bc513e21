"""Train the trunks that come with the package, in stages; each goes on from the one before.

    NEVUS_UPSTREAM=FOLDER python -m experiments.upstream natural
    NEVUS_UPSTREAM=FOLDER python -m experiments.upstream generic-1 [--resume]

`FOLDER` holds the public sets of natural images, unpacked under the names of `NATURAL`, and `teachers/`, which
`python scripts/teachers.py FOLDER/teachers --only lite0 open-nsfw --side 160` writes; later stages
want `teachers-260/lite2`, `teachers-320/open-nsfw` and `teachers-224/`, written likewise. The first command writes
two tables that say which images are used. Of lesions the table `upstream` of `experiments.lesions` is used.
`experiments.ship` puts a stage's trunk into the package.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from experiments.common import RESULTS, RUNS, keep, nevus, read
from nevus.data.manifest import Manifest
from nevus.data.readers.unlabeled import LABEL, read_unlabeled

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
MOST = {"generic": {"scenes": 4000, "tiny-imagenet": 4000}, "generic-wide": {"tiny-imagenet": 4000}}
"""By table, the images of a set that are used, drawn at random; else all."""

FREE = ["--license", "Apache-2.0; BSD-2-Clause"]
"""Of the teachers: natural images add nothing to it."""
PRETRAINED = Path(__file__).resolve().parents[1] / "src" / "nevus" / "models" / "shipped"
STAGES: dict[str, dict[str, Any]] = {
    "generic-1": {
        "data": TABLES / "generic.parquet",
        "start": "random",
        "flags": ["--side", 96, "--resize", 120, "--epochs", 2, *FREE],
    },
    "generic-2": {
        "data": TABLES / "generic.parquet",
        "start": "generic-1",
        "flags": ["--side", 96, "--resize", 120, "--epochs", 4, *FREE],
    },
    "adapted-1": {
        "data": RUNS / "lesions" / "upstream.parquet",
        "start": "generic-1",
        "flags": ["--epochs", 2, "--lr", 0.03],
    },
    "adapted-2": {
        "data": RUNS / "lesions" / "upstream.parquet",
        "start": "generic-2",
        "flags": ["--epochs", 6],
    },
    "generic-3": {
        "data": TABLES / "generic-wide.parquet",
        "start": "generic-2",
        "teachers": ("teachers-224/lite2", "teachers-224/open-nsfw"),
        "flags": ["--epochs", 4, "--precision", "bf16", *FREE],
    },
    "adapted-4": {
        "data": RUNS / "lesions" / "upstream.parquet",
        "start": "generic-3",
        "teachers": ("teachers-224/lite2", "teachers-224/open-nsfw"),
        "flags": ["--epochs", 8, "--precision", "bf16"],
    },
    "adapted-5": {
        "data": RUNS / "lesions" / "upstream.parquet",
        "start": "adapted-4",
        "teachers": ("teachers-224/lite2", "teachers-224/open-nsfw"),
        "flags": [
            *("--side", 160, "--resize", 192, "--crop", 0.6, 1.0, "--taps", 4),
            *("--epochs", 12, "--precision", "bf16"),
        ],
    },
    "adapted-3": {
        "data": RUNS / "lesions" / "upstream.parquet",
        "start": "adapted-2",
        "teachers": ("teachers-260/lite2", "teachers-320/open-nsfw"),
        "flags": ["--taps", 4, "--epochs", 6, "--lr", 0.05],
    },
}
"""By name: which table, which weights to begin with, and what else `nevus distill` is told."""
SHIP_AS = {"generic-3": "bit-r26x0.5-generic", "adapted-5": "bit-r26x0.5-dermoscopy"}
"""Stages that come with the package, and under which name."""
TEACHERS = ("teachers/lite0", "teachers/open-nsfw")


def natural(most: dict[str, int]) -> Manifest:
    """Images of everyday things, of some sets at most so many."""
    rng = np.random.default_rng(0)
    tables = []
    for name, parts in NATURAL.items():
        found = read_unlabeled([FOLDER / name / part for part in parts]).table
        if name in most:
            found = found.iloc[np.sort(rng.permutation(len(found))[: most[name]])]
        tables.append(found.assign(source=name))
    return Manifest(pd.concat(tables, ignore_index=True), Path("/"), (LABEL,), "natural images")


def table() -> None:
    """Write which images are used."""
    TABLES.mkdir(parents=True, exist_ok=True)
    counts = {}
    for name, most in MOST.items():
        made = natural(most)
        made.save(TABLES / f"{name}.parquet")
        counts[name] = {str(k): int(v) for k, v in made.table["source"].value_counts().items()}
    keep("upstream-images", counts)


def weights_of(start: str) -> str | Path:
    """Weights to begin with: of a stage; where its run is gone, as it came with the package."""
    if start not in STAGES:
        return start
    made = TABLES / start / "trunk.safetensors"
    if not made.exists() and start not in SHIP_AS:
        sys.exit(f"{made} is missing; run the stage {start} first.")
    return made if made.exists() else PRETRAINED / f"{SHIP_AS[start]}.safetensors"


def stage(name: str, resume: bool) -> None:
    """Run one stage, or go on with it, and keep its log."""
    about = STAGES[name]
    teachers = [FOLDER / teacher for teacher in about.get("teachers", TEACHERS)]
    out = TABLES / name
    command = nevus(
        "distill",
        about["data"],
        "--out",
        out,
        "--teachers",
        *teachers,
        "--from",
        weights_of(about["start"]),
        *about["flags"],
        *(["--resume"] if resume else []),
    )
    path = RESULTS / "upstream.json"
    before = read(path) if path.exists() else {}
    keep("upstream", {**before, name: {"command": command.removesuffix(" --resume"), **read(out / "about.json")}})


if __name__ == "__main__":
    words = argparse.ArgumentParser()
    words.add_argument("what", choices=["natural", *STAGES])
    words.add_argument("--resume", action="store_true")
    given = words.parse_args()
    if not FOLDER.is_dir():
        sys.exit(f"{FOLDER} is missing; set NEVUS_UPSTREAM to the folder of the public sets.")
    table() if given.what == "natural" else stage(given.what, given.resume)
