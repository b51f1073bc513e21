"""Images of a data set that a classifier or its backbone was trained on, by file, ISIC id, lesion id or as copies."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nevus._io import sha256_file
from nevus._progress import progress
from nevus.bundle.bundle import DECISION_IMAGES, TRAINING_IMAGES, Bundle
from nevus.data.manifest import Manifest
from nevus.data.parallel import prefetch_map
from nevus.data.preprocess import Preprocess
from nevus.errors import ImageError
from nevus.models.registry import PRETRAINED

OWN, RULE, BACKBONE = "the classifier", "the decision rule", "the backbone "
"""Names of the indexes of a bundle's own images, and the beginning of those of its backbones."""
_ISIC = re.compile(r"ISIC_\d{7}")


def isic_id(path: str) -> str:
    """Return the ISIC archive's id in a file name, or an empty string."""
    return next(iter(_ISIC.findall(Path(path).stem)), "")


def training_indexes(bundle: Bundle) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield the index of a bundle's training images, and that of each backbone that is built in.

    Nothing where pyarrow is not installed.

    Yields:
        A name, and a table with `image`, `lesion_id` (str, or empty), `digest` (the first 16 bytes of the file's
        SHA-256) and `hash` (18 bytes, the signs of the perceptual hash).

    """
    columns = ["image", "lesion_id", "digest", "hash"]
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
            yield f"{BACKBONE}{name}", pd.read_parquet(path, columns=columns)


def same_images(index: pd.DataFrame, manifest: Manifest, digests: pd.Series[str]) -> dict[int, tuple[str, int]]:
    """Return the rows of a data set that an index lists: how, and where in the index.

    Args:
        index: of training images, see `training_indexes`.
        manifest: the data set.
        digests: SHA-256 of files, hexadecimal, by row of the data set.

    Returns:
        By row: `file` (the same bytes), `id` (the same ISIC id) or `lesion` (the same lesion id), whichever is most
        certain, and the first such place in the index.

    """
    ids = manifest.table["image"].map(isic_id)
    lesions = manifest.table.get("lesion_id", pd.Series("", manifest.table.index)).fillna("").astype(str)
    ways = {
        "lesion": _same(lesions, index["lesion_id"].fillna("")),
        "id": _same(ids, index["image"].map(isic_id)),
        # As text: pandas takes bytes that end in a zero for other values.
        "file": _same(digests.str[:32], (digest.hex() for digest in index["digest"])),
    }
    return {row: (by, place) for by, found in ways.items() for row, place in found.items()}


def _same(mine: pd.Series[str], theirs: Iterable[str]) -> dict[int, int]:
    """Return the rows of `mine` with a value of `theirs`, and its first place there; empty values match nothing."""
    first: dict[str, int] = {}
    for place, value in enumerate(theirs):
        if value:
            first.setdefault(value, place)
    rows: list[int] = mine.index.tolist()
    return {row: first[value] for row, value in zip(rows, mine, strict=True) if value in first}


def seen_images(bundle: Bundle, manifest: Manifest, *, copies: bool = False) -> dict[str, pd.Series[bool]]:
    """Return which images of a data set a classifier, or its backbone, was trained on.

    An image counts if its file, its ISIC id or its lesion id is listed.

    Args:
        bundle: a saved one.
        manifest: the data set; its files are read.
        copies: an image also counts if it is a near-duplicate of a listed one. Each further image is decoded for that;
            those that cannot be read are no copies.

    Returns:
        A mask over the rows for each index, see `training_indexes`.

    """
    indexes = list(training_indexes(bundle))
    if not indexes:
        return {}
    digests = pd.Series([sha256_file(path).removeprefix("sha256:") for path in manifest.paths], manifest.table.index)
    masks = {}
    for name, table in indexes:
        masks[name] = pd.Series(False, manifest.table.index)
        masks[name].loc[list(same_images(table, manifest, digests))] = True
    if copies:
        _mark_copies(masks, {name: table["hash"].tolist() for name, table in indexes}, manifest)
    return masks


def _mark_copies(masks: dict[str, pd.Series[bool]], listed: Mapping[str, Sequence[bytes]], manifest: Manifest) -> None:
    try:
        from nevus.data.perceptual_hash import AUDIT_IMAGE_SIZE, near_duplicates, perceptual_hash
    except ImportError:  # OpenCV is a part of the extra `train`, as pyarrow is
        return
    preprocess = Preprocess(AUDIT_IMAGE_SIZE)

    def hash_of(path: Path) -> NDArray[np.float32] | None:
        try:
            return perceptual_hash(preprocess.pixels(path))
        except ImageError:
            return None

    open_rows = np.flatnonzero(~np.all([mask.to_numpy() for mask in masks.values()], axis=0)).tolist()
    prints, hashed = [], []
    with progress() as bar:
        task = bar.add_task("looking for copies of training images", total=len(open_rows), note="")
        for row, found in zip(
            open_rows, prefetch_map(hash_of, (manifest.paths[row] for row in open_rows)), strict=True
        ):
            if found is not None:
                prints.append(found)
                hashed.append(row)
            bar.advance(task)
    if not prints:
        return
    for name, hashes in listed.items():
        masks[name].iloc[np.array(hashed)[list(near_duplicates(np.stack(prints), hashes))]] = True


def training_overlap(bundle: Bundle, manifest: Manifest, *, copies: bool = False) -> dict[str, int]:
    """Count the images of a data set that a classifier, or its backbone, was trained on; see `seen_images`.

    Returns:
        Number of images by who was trained on them; those without any are left out.

    """
    masks = seen_images(bundle, manifest, copies=copies)
    return {name: int(mask.sum()) for name, mask in masks.items() if mask.any()}
