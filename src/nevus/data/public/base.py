"""A public data set: a table, images somewhere below, and its own labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from nevus.data.image_index import ImageIndex
from nevus.data.manifest import ISIC_COLUMNS, REQUIRED, Manifest, checked, ordered_classes, without_twins
from nevus.data.public.same_lesion import join_groups
from nevus.data.table_file import MISSING_LABELS
from nevus.data.walker import NO_IMAGE, LeftOut
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
        malignant: malignant labels; None where the labels of the set are malignant and benign.

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
        task: `diagnosis` keeps its labels; `malignant` makes benign and malignant of them; `nevi` keeps nevi and
            melanomas only.
        positive: see `ordered_classes`.

    Raises:
        NevusError: the table cannot be read, an image is missing or two files fit its id, or the labels are too
            coarse for the task.

    """
    left_out = LeftOut()
    table = archive.table(folder).reset_index(drop=True)
    table = _with_labels(table, folder, left_out)
    table = for_task(table, archive, task)
    index = ImageIndex(folder, left_out)
    table["image"] = [_place(str(name), index, folder, archive.name) for name in table.pop("id")]
    if "group" not in table.columns:
        table["group"] = ""
    for column in ("patient_id", "lesion_id", "image"):  # the widest group that is known of each row
        if column in table.columns:
            table["group"] = table["group"].where(table["group"].astype(str) != "", _text(table[column]))
    table["group"] = archive.name + ":" + join_groups(table["image"], table["group"])
    for column in ISIC_COLUMNS:  # an unknown value is none
        if column in table.columns and not pd.api.types.is_numeric_dtype(table[column]):
            table[column] = table[column].where(_text(table[column]) != "", None)
    if "split" not in table.columns:
        table["split"] = ""
    if "source" not in table.columns:
        table["source"] = archive.name
    table = table[[*REQUIRED, *(c for c in table.columns if c not in REQUIRED)]]
    table = checked(table, name=str(folder), rows=list(table["image"]))
    table = without_twins(table, str(folder), [f"row {row + 1}" for row in range(len(table))])
    tables = (".csv", ".tab", ".txt", ".tsv")  # the set's own tables and texts are no images by design
    entries = tuple(e for e in left_out.entries if not (e[1] == NO_IMAGE and e[0].lower().endswith(tables)))
    return Manifest(table, folder, ordered_classes(table["label"], positive=positive), archive.name, entries)


def _with_labels(table: pd.DataFrame, folder: Path, left_out: LeftOut) -> pd.DataFrame:
    label = _text(table["label"])
    missing = label.str.lower().isin(list(MISSING_LABELS))
    for row in table.index[missing]:
        left_out.add(str(table["id"][row]), "no definite label")
    if missing.all():
        raise NevusError(f"Cannot read '{folder}': no image in its table has a label.")
    return table.assign(label=label)[~missing].reset_index(drop=True)


def for_task(table: pd.DataFrame, archive: Archive, task: str) -> pd.DataFrame:
    """Return the rows of a task, with its labels."""
    if task == "diagnosis":
        return table
    if task == "nevi":
        kept = table[table["label"].isin(NEVI)].reset_index(drop=True)
        if kept["label"].nunique() < 2:
            raise NevusError(f"Cannot use --task nevi: {archive.name} does not distinguish nevi from melanomas.")
        return kept
    if task != "malignant":
        raise NevusError(f"Cannot use --task {task}: there is none of that name. Choose one of {', '.join(TASKS)}.")
    if archive.malignant is None:
        return table
    label = table["label"].isin(list(archive.malignant)).map({True: "malignant", False: "benign"})
    return table.assign(diagnosis=table["label"], label=label)


def _text(column: pd.Series[str]) -> pd.Series[str]:
    return column.astype(object).where(column.notna(), "").astype(str).str.strip()


def _place(name: str, index: ImageIndex, folder: Path, archive: str) -> str:
    path = index.find(name)
    if path is None:
        raise NevusError(
            f"Cannot read '{folder}' as {archive}: its table lists the image {name}, which is not there. Unpack the "
            "images there."
        )
    return path


def one_hot(table: pd.DataFrame, classes: Iterable[str]) -> pd.Series[str]:
    """Return the name of the column that has the 1 of each row, in lower case; empty where none has.

    Raises:
        NevusError: the table has none of the columns.

    """
    columns = [c for c in classes if c in table.columns]
    if not columns:
        raise NevusError(f"Cannot read the classes: the table has no column {' or '.join(classes)}.")
    values = np.stack([numbers(table[column]).to_numpy() for column in columns], 1)
    labels = [columns[c].lower() for c in values.argmax(axis=1)]
    return pd.Series(labels, index=table.index, dtype=str).where(values.max(axis=1) >= 0.5, "")


def numbers(column: pd.Series[str]) -> pd.Series[float]:
    """Return a column of text as numbers; 0 where it is none."""
    return pd.to_numeric(column, errors="coerce").fillna(0.0).astype(float)


def first(folder: Path, *patterns: str) -> Path | None:
    """Return the first file below `folder` that matches a pattern, at most two folders deep."""
    for pattern in patterns:
        for deep in ("", "*/", "*/*/"):
            found = sorted(folder.glob(deep + pattern))
            if found:
                return found[0]
    return None
