"""Reader: class folders, with or without folders for the splits above them."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from nevus.data.images import SUFFIXES, named_as_image
from nevus.data.manifest import REQUIRED, Manifest, checked, ordered_classes
from nevus.data.walker import LeftOut, subfolders, walk_images
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
_PART = re.compile(r".*(part|images?|photos?|pictures?|data|input)[ _-]*\d+", re.IGNORECASE)
"""Names of folders among which the images of one set are divided."""
_ALL = re.compile(r"images?|photos?|pictures?|data|input", re.IGNORECASE)
"""Names of a folder for all images of a set."""
_TABLE_SUFFIXES = (".csv", ".tsv", ".parquet")
NO_CLASS = "an image in no class folder"


def read_folder(folder: Path, *, positive: str | None = None) -> Manifest:
    """Read `folder/{class}/*` or `folder/{split}/{class}/*`.

    Split folders have the usual names (`train`, `val`, `test` and the like, any case). Images are at any depth below
    their class folder; see `nevus.data.walker` for what is left out. Without ids each image is a group of its own.

    Raises:
        NevusError: the folder is missing, has no images in class folders, or its folders are no classes: parts of a
            set, or all its images with a table.

    """
    if not folder.is_dir():
        raise NevusError(f"Cannot read '{folder}': it is no folder. Give a folder of class folders, or a table.")
    left_out = LeftOut()
    below = subfolders(folder, left_out)
    splits = {p: SPLIT_FOLDERS[p.name.lower()] for p in below if p.name.lower() in SPLIT_FOLDERS}
    parts = list(splits.items()) if splits else [(folder, "")]
    for other in (p for p in below if splits and p not in splits):
        left_out.add(other, "a folder beside the splits")
    rows = []
    for part, split in parts:
        labels = subfolders(part, left_out if part != folder else LeftOut())
        for path in sorted(part.iterdir()):
            if path.is_file() and named_as_image(path):
                left_out.add(path, NO_CLASS)
        _check_classes(part, [label.name for label in labels])
        rows += [
            {"image": str(image.relative_to(folder)), "label": label.name, "split": split}
            for label in labels
            for image in walk_images(label, left_out)
        ]
    if not rows:
        raise NevusError(
            f"Cannot read '{folder}': it has no images in class folders. Put them in {folder / '<class>'} or "
            f"{folder / 'train' / '<class>'}, as {', '.join(sorted(SUFFIXES))}."
        )
    table = pd.DataFrame(rows, dtype=str)
    table["group"] = table["image"]
    table["source"] = folder.resolve().name
    table = table[list(REQUIRED)]
    table = checked(table, name=str(folder), rows=[str(row) for row in table["image"]])
    classes = ordered_classes(table["label"], positive=positive)
    return Manifest(table, folder, classes, folder.resolve().name, tuple(left_out.entries))


def _check_classes(folder: Path, names: list[str]) -> None:
    tables = sorted(path for path in folder.iterdir() if path.suffix.lower() in _TABLE_SUFFIXES)
    if len(names) == 1 and tables and _ALL.fullmatch(names[0]):
        raise NevusError(
            f"Cannot take {names[0]} in '{folder}' for a class: it is the only folder, and there is a table with it. "
            f"Give the table, as in {tables[0]}."
        )
    if len(names) > 1 and all(_PART.fullmatch(name) for name in names):
        raise NevusError(
            f"Cannot take {names[0]} and {names[1]} in '{folder}' for classes: by their names they are parts of one "
            "set. Put the set's table (such as HAM10000_metadata.csv or .tab) beside them, or rename the folders."
        )
