"""Contamination: images of a data set that a built-in network was trained on, found by an index without the images."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nevus._progress import progress
from nevus.auditing.lesion_groups import LesionGroups
from nevus.bundle.builtin import CLASSIFIERS, builtin_names
from nevus.bundle.bundle import load_bundle
from nevus.bundle.training_overlap import BACKBONE, OWN, same_images, training_indexes
from nevus.data.decoded import DecodedDataset, DecodedImages
from nevus.data.manifest import Manifest
from nevus.data.perceptual_hash import AUDIT_IMAGE_SIZE, FREQUENCIES, near_duplicates, pack_bits, perceptual_hash
from nevus.errors import NevusError
from nevus.models.registry import PRETRAINED


@dataclass(frozen=True)
class TrainingImages:
    """The images that a network was trained on.

    Attributes:
        network: its name.
        images: a row an image: `image`, `lesion_id` (each str, or empty), `digest` (16 bytes, the first half of the
            file's SHA-256) and `hash` (18 bytes, see `pack_bits`).

    """

    network: str
    images: pd.DataFrame


@dataclass(frozen=True)
class Overlap:
    """Images of a data set that a network was trained on.

    Attributes:
        network: its name.
        n_listed: number of its training images.
        found: one row for each image of the data set that is among them: `row` of the data set, `by` (`file`: the
            same bytes; `id`: the same ISIC id; `lesion`: the same lesion id; `hash`: a near-duplicate), and `image`,
            its name in the index.

    """

    network: str
    n_listed: int
    found: pd.DataFrame

    def sentence(self, manifest: Manifest) -> str:
        """Return the result in one sentence."""
        list_of = f"the {self.n_listed:,} images that {self.network} was trained on"
        if self.found.empty:
            return (
                f"None of the {len(manifest):,} images of {manifest.name} is among {list_of}, by file, ISIC id, "
                "lesion id and perceptual hash."
            )
        counted = self.found["by"].value_counts()
        how = ", ".join(f"{counted[by]:,} by {by}" for by in ("file", "id", "lesion", "hash") if by in counted)
        return (
            f"{len(self.found):,} of the {len(manifest):,} images of {manifest.name} are among {list_of}, or show "
            f"the same lesions ({how}). Its metrics on them are not metrics on unseen lesions."
        )

    def as_dict(self, manifest: Manifest) -> dict[str, Any]:
        """Return plain values for `audit.json`."""
        names = manifest.table["image"].to_numpy()[self.found["row"].to_numpy(np.int64)]
        return {
            "network": self.network,
            "listed": self.n_listed,
            "found": self.found.assign(row=names).rename(columns={"row": "image", "image": "as"}).to_dict("records"),
        }


def available() -> tuple[str, ...]:
    """Return the built-in networks that have an index of their training images: backbones, then classifiers."""
    return (*_backbones(), *builtin_names())


def training_images(name: str) -> list[TrainingImages]:
    """Return the indexes of a built-in network; of a classifier also those of its backbones.

    Raises:
        NevusError: there is none of that name.

    """
    backbones = _backbones()
    if name in backbones:
        return [_list(name, PRETRAINED.joinpath(backbones[name]["images"]))]
    if name not in builtin_names():
        raise NevusError(
            f"Cannot check the overlap with '{name}': it is not built in. Choose one of {', '.join(available())}."
        )
    found = [
        TrainingImages(name if who == OWN else who.removeprefix(BACKBONE), table)
        for who, table in training_indexes(load_bundle(CLASSIFIERS / name))
    ]
    if not found:
        raise NevusError(
            f"Cannot check the overlap with '{name}': pyarrow is missing. Install it with pip install \"nevus[train]\"."
        )
    return found


def find_overlap(
    manifest: Manifest, lesion_groups: LesionGroups, lists: Sequence[TrainingImages]
) -> tuple[Overlap, ...]:
    """Find the images of a data set that networks were trained on.

    Args:
        manifest: the data set, with the lesion ids that are known.
        lesion_groups: of the data set, with its decoded images.
        lists: indexes of training images.

    """
    rows = lesion_groups.usable_rows[lesion_groups.is_own()[lesion_groups.usable_rows]]
    squares = lesion_groups.squares.subset(slice(0, len(rows)))
    digests = pd.Series(squares.digests, rows, dtype=str)
    prints = _prints(squares)
    found = []
    for one in lists:
        copies = near_duplicates(prints, one.images["hash"].tolist())
        by_hash = {int(rows[k]): ("hash", match) for k, match in copies.items()}
        # What is more certain than a hash replaces it.
        matches = by_hash | same_images(one.images, manifest, digests)
        listed = one.images["image"]
        rows_found = [(row, by, listed.iloc[k]) for row, (by, k) in sorted(matches.items())]
        found.append(Overlap(one.network, len(one.images), pd.DataFrame(rows_found, columns=["row", "by", "image"])))
    return tuple(found)


def index_images(images: DecodedDataset) -> pd.DataFrame:
    """Make the index of training images that a bundle holds; see `TrainingImages`. No image is part of it."""
    manifest = images.manifest
    table = manifest.table
    index = pd.DataFrame(
        {
            "source": table["source"].to_numpy(),
            "image": [f"{path.parent.name}/{path.name}" for path in manifest.paths],
            "lesion_id": table["lesion_id"].fillna("").to_numpy() if "lesion_id" in table.columns else "",
            "digest": [bytes.fromhex(digest)[:16] for digest in images.pixels.digests],
            "hash": pack_bits(_prints(images.pixels.at_size(AUDIT_IMAGE_SIZE))),
        }
    )
    return index.sort_values(["source", "image"], ignore_index=True)


def _backbones() -> dict[str, dict[str, Any]]:
    about = json.loads(PRETRAINED.joinpath("backbones.json").read_text(encoding="utf-8"))
    return {name: one for name, one in about.items() if "images" in one}


def _list(name: str, path: Any) -> TrainingImages:
    return TrainingImages(name, pd.read_parquet(Path(str(path))))


def _prints(squares: DecodedImages) -> NDArray[np.float32]:
    with progress() as bar:
        task = bar.add_task("perceptual hashes", total=len(squares), note="")
        prints = []
        for k in range(len(squares)):
            prints.append(perceptual_hash(squares[k : k + 1][0]))
            bar.advance(task)
    return np.stack(prints) if prints else np.zeros((0, FREQUENCIES**2 - 1), np.float32)
