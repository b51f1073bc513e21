"""The public data sets as one manifest: one name for each diagnosis, one source for each clinic or camera."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nevus.auditing.leakage import LeakageReport, group_duplicates
from nevus.data.cache import Cache, CacheConfig
from nevus.data.manifest import Manifest
from nevus.data.public.corrected_splits import with_corrected_split
from nevus.data.readers.dispatch import read

CLASSES = ("akiec", "bcc", "bkl", "df", "mel", "nv", "scc", "vasc")
MALIGNANT = ("akiec", "bcc", "mel", "scc")
NAMES = {
    "melanoma": "mel",
    "nevus": "nv",
    "nev": "nv",
    "seborrheic_keratosis": "bkl",
    "sek": "bkl",
    "ack": "akiec",
    "malignant": "mel",  # of isic-malignant-benign: images in no other set are melanomas of the ISIC archive
}
MIXED, OTHER, PHOTOGRAPHS = "isic-malignant-benign", "isic-other", "pad-ufes-20"
FOLDERS = ("ham10000", "isic2017", PHOTOGRAPHS, f"{OTHER}/labels.csv", MIXED)
JUDGED = ("ham10000:rosendahl", "ham10000:vidir_modern", "ham10000:vienna_dias", "isic2017", OTHER, PHOTOGRAPHS)
"""Sources that are left out in turn. ham10000:vidir_molemax has 24 melanomas and is always trained on."""


def lesion_sources(data: Path, cache: CacheConfig | None = None) -> tuple[Manifest, LeakageReport]:
    """Read the five sets; images of one lesion get one group. Also returns what the duplicate check found.

    Of isic-malignant-benign only the malignant images that stand in no other set are kept, in the source isic-other.

    Args:
        data: the folder of the public data sets.
        cache: where decoded images are kept.

    """
    manifest, report = _grouped(data, cache)
    mixed = (manifest.table["source"] == MIXED).to_numpy(bool)
    known = set(manifest.table.loc[~mixed, "group"])
    new = mixed & (~manifest.table["group"].isin(known) & (manifest.table["label"] == "mel")).to_numpy(bool)
    kept = manifest.where(~mixed | new)
    table = kept.table.assign(source=kept.table["source"].replace({MIXED: OTHER}))
    return kept.with_table(table).with_classes(CLASSES), report


def of_test_lesions(data: Path, manifest: Manifest, cache: CacheConfig | None = None) -> NDArray[np.bool_]:
    """Return which images are of a lesion that a test split has an image of, bool (n,).

    The test splits are those of isic2017 and isic-malignant-benign, and the corrected one of ham10000.

    Args:
        data: the folder of the public data sets.
        manifest: n images of `lesion_sources`.
        cache: where decoded images are kept.

    """
    sets = [with_corrected_split(read(data / "ham10000")), read(data / "isic2017"), read(data / MIXED)]
    paths = {path for one in sets for path in one.split("test").paths}
    everything, _ = _grouped(data, cache)
    held = pd.Series(everything.paths, index=everything.table.index).isin(paths)
    lesions = everything.table["group"].isin(set(everything.table.loc[held, "group"]))
    known = {path for path, one in zip(everything.paths, lesions, strict=True) if one}
    return np.array([path in known for path in manifest.paths])


def _grouped(data: Path, cache: CacheConfig | None) -> tuple[Manifest, LeakageReport]:
    manifest = read([data / name for name in FOLDERS])
    table = manifest.table
    labels = table["label"].str.lower().replace(NAMES)
    source = table["source"].replace({"labels": OTHER})
    manifest = manifest.with_table(table.assign(label=labels, source=source, split=""))
    with contextlib.closing(Cache(cache or CacheConfig())) as opened:
        return group_duplicates(manifest, opened)
