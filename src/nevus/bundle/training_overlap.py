"""Images of a data set that a classifier or its backbone was trained on, by file, ISIC id or lesion id."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from nevus._io import sha256_file
from nevus.bundle.bundle import DECISION_IMAGES, TRAINING_IMAGES, Bundle
from nevus.data.manifest import Manifest
from nevus.models.registry import PRETRAINED

OWN, RULE = "the classifier", "the decision rule"
"""Names of the indexes of a bundle's own images."""
_ISIC = re.compile(r"ISIC_\d{7}")


def isic_id(path: str) -> str:
    """Return the ISIC archive's id in a file name, or an empty string."""
    return next(iter(_ISIC.findall(Path(path).stem)), "")


def training_indexes(bundle: Bundle) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield the index of a bundle's training images, and that of each backbone that is built in.

    Nothing where pyarrow is not installed.

    Yields:
        A name, and a table with `image`, `lesion_id` (str, or empty) and `digest` (the first 16 bytes of the file's
        SHA-256).

    """
    columns = ["image", "lesion_id", "digest"]
    if importlib.util.find_spec("pyarrow") is None:  # a part of the extra `train`
        return
    for name, file in ((OWN, TRAINING_IMAGES), (RULE, DECISION_IMAGES)):
        path = bundle.folder / file if bundle.folder else None
        if path is not None and path.is_file():
            yield name, pd.read_parquet(path, columns=columns)
    backbones = json.loads(PRETRAINED.joinpath("backbones.json").read_text(encoding="utf-8"))
    for name in (bundle.spec.backbone, *(one["backbone"] for one in bundle.provenance.get("members", ()))):
        about = backbones.get(name, {})
        if "images" in about:
            path = Path(str(PRETRAINED.joinpath(about["images"])))
            yield f"the backbone {name}", pd.read_parquet(path, columns=columns)


def seen_images(bundle: Bundle, manifest: Manifest) -> dict[str, pd.Series[bool]]:
    """Return which images of a data set a classifier, or its backbone, was trained on.

    An image counts if its file, its ISIC id or its lesion id is listed. Near-duplicates are not looked for here;
    `nevus audit --check-overlap-with` does that.

    Args:
        bundle: a saved one.
        manifest: the data set; its files are read.

    Returns:
        A mask over the rows for each index, see `training_indexes`.

    """
    indexes = list(training_indexes(bundle))
    if not indexes:
        return {}
    rows = manifest.table.index
    digests = pd.Series(
        [bytes.fromhex(sha256_file(path).removeprefix("sha256:"))[:16] for path in manifest.paths], index=rows
    )
    ids = manifest.table["image"].map(isic_id)
    lesions = manifest.table.get("lesion_id", pd.Series("", index=rows)).fillna("").astype(str)
    masks = {}
    for name, table in indexes:
        seen = digests.isin(set(table["digest"]))
        for mine, theirs in ((ids, table["image"].map(isic_id)), (lesions, table["lesion_id"].fillna(""))):
            seen |= (mine != "") & mine.isin(set(theirs))
        masks[name] = seen
    return masks


def training_overlap(bundle: Bundle, manifest: Manifest) -> dict[str, int]:
    """Count the images of a data set that a classifier, or its backbone, was trained on; see `seen_images`.

    Returns:
        Number of images by who was trained on them; those without any are left out.

    """
    return {name: int(mask.sum()) for name, mask in seen_images(bundle, manifest).items() if mask.any()}
