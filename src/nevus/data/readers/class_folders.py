"""Reader: class folders, with or without folders for the splits above them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from nevus._progress import console
from nevus.data.images import SUFFIXES, named_as_image
from nevus.data.manifest import REQUIRED, Manifest, checked, ordered_classes
from nevus.errors import NevusError

SPLIT_FOLDERS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}


def read_folder(folder: Path, *, positive: str | None = None) -> Manifest:
    """Read `folder/{class}/*` or `folder/{split}/{class}/*`.

    Split folders are known by the usual names (`train`, `val`, `test` and the like, any case). Files whose
    name is no image's are passed over, as are hidden ones; images lie at any depth below their class.
    Without ids each image is a group of its own.

    Raises:
        NevusError: the folder is missing or holds no images in class folders.

    """
    if not folder.is_dir():
        raise NevusError(f"{folder} is no folder; give a folder of class folders, or a csv or Parquet file.")
    below = _folders(folder)
    splits = {p: SPLIT_FOLDERS[p.name.lower()] for p in below if p.name.lower() in SPLIT_FOLDERS}
    parts = list(splits.items()) if splits else [(folder, "")]
    rows = [
        {"image": str(image.relative_to(folder)), "label": label.name, "split": split}
        for part, split in parts
        for label in _folders(part)
        for image in images_below(label)
    ]
    if not rows:
        raise NevusError(
            f"{folder} holds no images in class folders; put them in {folder / '<class>'} or "
            f"{folder / 'train' / '<class>'}, as {', '.join(sorted(SUFFIXES))}."
        )
    table = pd.DataFrame(rows, dtype=str)
    table["group"] = table["image"]
    table["source"] = folder.resolve().name
    table = table[list(REQUIRED)]
    table = checked(table, name=str(folder), rows=[str(row) for row in table["image"]])
    return Manifest(table, folder, ordered_classes(table["label"], positive=positive), folder.resolve().name)


def _folders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def images_below(folder: Path) -> Iterator[Path]:
    """Every image at any depth, in the order of the names; hidden files and folders are passed over."""
    for here, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and named_as_image(os.path.join(here, name)):
                try:
                    os.path.join(here, name).encode()
                except UnicodeEncodeError:  # no table can hold such a name
                    console.print(f"{os.path.join(here, name)!a} is left out: its name is not UTF-8.", style="yellow")
                    continue
                yield Path(here, name)
