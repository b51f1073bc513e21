"""What every public data set has: a table, images somewhere below, labels in its own words."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from nevus.data.images import SUFFIXES
from nevus.data.manifest import REQUIRED, Manifest, checked, ordered_classes
from nevus.errors import NevusError

TASKS = ("diagnosis", "malignant", "nevi")
NEVI = {"nv", "nevus", "mel", "melanoma"}


@dataclass(frozen=True)
class Archive:
    """A public data set.

    Attributes:
        name: how users name it.
        recognize: whether a folder holds it.
        table: reads a folder's table: columns `id` (an image's name, with or without suffix, or a path below
            the folder), `label`, and any of the manifest's others.
        malignant: which labels are malignant; None where the set says malignant or benign itself.

    """

    name: str
    recognize: Callable[[Path], bool]
    table: Callable[[Path], pd.DataFrame]
    malignant: frozenset[str] | None


def read_archive(archive: Archive, folder: Path, *, task: str, positive: str | None) -> Manifest:
    """Read a public data set.

    Args:
        archive: which.
        folder: where it was unpacked.
        task: `diagnosis` keeps its labels; `malignant` says benign or malignant; `nevi` keeps nevi and
            melanomas only.
        positive: see `ordered_classes`.

    Raises:
        NevusError: an image is missing, a row is at fault, or the set does not know what the task asks.

    """
    table = archive.table(folder).reset_index(drop=True)
    table = for_task(table, archive, task)
    places = _images_below(folder)
    table["image"] = [_place(str(name), places, folder, archive.name) for name in table.pop("id")]
    if "group" not in table.columns:
        table["group"] = ""
    for column in ("patient_id", "lesion_id", "image"):  # the widest group that is known of each row
        if column in table.columns:
            table["group"] = table["group"].where(table["group"].astype(str) != "", _text(table[column]))
    table["group"] = archive.name + ":" + table["group"]
    if "split" not in table.columns:
        table["split"] = ""
    table["source"] = archive.name
    table = table[[*REQUIRED, *(c for c in table.columns if c not in REQUIRED)]]
    table = checked(table, name=str(folder), rows=list(table["image"]))
    return Manifest(table, folder, ordered_classes(table["label"], positive=positive), archive.name)


def for_task(table: pd.DataFrame, archive: Archive, task: str) -> pd.DataFrame:
    """Labels, and rows, that a task is about."""
    if task == "diagnosis":
        return table
    if task == "nevi":
        kept = table[table["label"].isin(NEVI)].reset_index(drop=True)
        if kept["label"].nunique() < 2:
            raise NevusError(f"{archive.name} does not tell nevi from melanomas; choose --task malignant.")
        return kept
    if task != "malignant":
        raise NevusError(f"there is no task '{task}'; choose one of {', '.join(TASKS)}.")
    if archive.malignant is None:
        return table
    label = table["label"].isin(list(archive.malignant)).map({True: "malignant", False: "benign"})
    return table.assign(diagnosis=table["label"], label=label)


def _text(column: pd.Series[str]) -> pd.Series[str]:
    return column.astype(object).where(column.notna(), "").astype(str).str.strip()


def _images_below(folder: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for here, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            stem, suffix = os.path.splitext(name)
            if suffix.lower() in SUFFIXES and not name.startswith("."):
                path = str(Path(here, name).relative_to(folder))
                found.setdefault(stem, path)
                found.setdefault(path, path)
    return found


def _place(name: str, places: Mapping[str, str], folder: Path, archive: str) -> str:
    for candidate in (name, Path(name).stem):
        if candidate in places:
            return places[candidate]
    raise NevusError(f"{archive} lists the image {name}, which is not below {folder}; unpack its images there.")


def one_hot(table: pd.DataFrame, classes: Iterable[str]) -> pd.Series[str]:
    """The name of the column that holds the 1 of each row, in lower case.

    Raises:
        NevusError: a row has none.

    """
    columns = [c for c in classes if c in table.columns]
    values = table[columns].astype(float).to_numpy()
    none = np.flatnonzero(values.max(axis=1) < 0.5)
    if len(none):
        raise NevusError(f"the image {table.iloc[none[0], 0]} has no class; correct the table.")
    return pd.Series([columns[c].lower() for c in values.argmax(axis=1)], index=table.index, dtype=str)


def first(folder: Path, *patterns: str) -> Path | None:
    """The first file below `folder` that matches, at most two folders deep."""
    for pattern in patterns:
        for deep in ("", "*/", "*/*/"):
            found = sorted(folder.glob(deep + pattern))
            if found:
                return found[0]
    return None
