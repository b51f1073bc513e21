"""What the lists of the networks that come with the package say of every test split, and what looks are worth.

    python -m experiments.transfer head-dermoscopy-leak-free
    python -m experiments.taught

The first writes the audit of isic-malignant-benign against the other two sets; its copies are taken for the truth.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from experiments.common import DATA, keep
from experiments.transfer import LEAK_FREE
from nevus.audit.contamination import Overlap, find_overlap, hamming_distance, pack_bits, available, unpack_signs, training_images
from nevus.audit.duplicates.descriptors import AUDIT_IMAGE_SIZE, perceptual_hash
from nevus.audit.lesion_groups import group_lesions
from nevus.data.cache import Cache, CacheConfig
from nevus.data.decoded import decode_dataset
from nevus.data.manifest import Manifest
from nevus.data.public.corrected_splits import with_corrected_split
from nevus.data.readers.dispatch import read

BITS = (2, 4, 8, 12, 16, 24)
PAPER, HAM = "isic-malignant-benign", "ham10000"
BY_EYE = {("ISIC_0025477", "ISIC_0011143"): "two small spots on plain skin, not one lesion"}
"""What was seen where two images, of a test split and of a list, count as one by their looks alone."""


def prints(manifest: Manifest, cache: Cache) -> tuple[list[str], Any]:
    """Names, and fingerprints (n, 143)."""
    decoded = decode_dataset(manifest, AUDIT_IMAGE_SIZE, cache)
    names = [f"{manifest.name}/{image}" for image in decoded.manifest.table["image"]]
    return names, np.stack([perceptual_hash(decoded.pixels[k : k + 1][0]) for k in range(len(names))])


def looks(cache: Cache) -> list[dict[str, Any]]:
    """Images of isic-malignant-benign that are told to be in HAM10000 by their looks, by bits that may differ."""
    found = json.loads((LEAK_FREE.parent / "audit.json").read_text(encoding="utf-8"))["pairs"]
    copies = {frozenset((pair["a"], pair["b"])) for pair in found if pair["kind"] in ("exact", "copy")}
    mine, ours = prints(read(DATA / PAPER), cache)
    theirs, listed_ = prints(read(DATA / HAM), cache)
    known = unpack_signs(pack_bits(listed_))
    near = hamming_distance(ours, known)
    best = near.argmin(1)
    apart = near[np.arange(len(mine)), best]
    right = np.array([frozenset((mine[k], theirs[b])) in copies for k, b in enumerate(best.tolist())])
    there = sum(any(frozenset((name, other)) in copies for other in theirs) for name in _with(mine, copies))
    return [
        {
            "bits": bits,
            "told": int((apart <= bits).sum()),
            "copies": int(((apart <= bits) & right).sum()),
            "of": there,
        }
        for bits in BITS
    ]


def _with(names: Iterable[str], pairs: set[frozenset[str]]) -> list[str]:
    in_pairs = {name for pair in pairs for name in pair}
    return [name for name in names if name in in_pairs]


def looked(test: Manifest, one: Overlap) -> list[dict[str, str]]:
    """What counts as one by its look alone, and what an eye says of it."""
    alone = one.found[one.found["by"] == "look"]
    names = test.table["image"].to_numpy()[alone["row"].to_numpy(np.int64)]
    pairs = [(Path(mine).stem, Path(theirs).stem) for mine, theirs in zip(names, alone["image"], strict=True)]
    return [{"image": a, "like": b, "seen": BY_EYE.get((a, b), "not looked at")} for a, b in pairs]


def splits(cache: Cache) -> list[dict[str, Any]]:
    """Test images that each network was taught on, by every way there is."""
    rows = []
    sets = (read(DATA / PAPER), with_corrected_split(read(DATA / HAM)), read(DATA / "isic2017"))
    for data in sets:
        test = data.split("test")
        relations = group_lesions(test, (), cache)
        for name in available():
            one = find_overlap(test, relations, training_images(name)[:1])[0]
            rows.append(
                {
                    "network": name,
                    "listed": one.listed,
                    "data": data.name,
                    "images": len(test),
                    "found": len(one.found),
                    "by": {str(k): int(n) for k, n in one.found["by"].value_counts().items()},
                    "looks": looked(test, one),
                }
            )
    return rows


if __name__ == "__main__":
    with contextlib.closing(Cache(CacheConfig())) as opened:
        keep("taught", {"looks": looks(opened), "splits": splits(opened)})
