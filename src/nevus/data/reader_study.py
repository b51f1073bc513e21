"""Decisions of readers (dermatologists), from a csv file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nevus._progress import console
from nevus.data.manifest import Manifest
from nevus.data.table_file import read_csv
from nevus.errors import NevusError

PAIRED = ("reader", "image", "decision")
SUMMARY = ("reader", "sensitivity", "specificity")


@dataclass(frozen=True)
class Reader:
    """One reader.

    Attributes:
        name: of the reader.
        rows: rows of the data set that the reader decided, int64 (n,); empty where the decisions are not known.
        decisions: class of each, int64 (n,).
        sensitivity: as the file gives it, where the decisions are not known; else None.
        specificity: in the same way.

    """

    name: str
    rows: NDArray[np.int64]
    decisions: NDArray[np.int64]
    sensitivity: float | None = None
    specificity: float | None = None


def read_reader_study(path: Path, manifest: Manifest) -> list[Reader]:
    """Read a csv file of one of two kinds.

    With the columns `reader, image, decision` each row is a decision: `image` is as in the data set, or its file name
    with or without suffix, and `decision` is a class. With `reader, sensitivity, specificity` each row is a reader.

    Args:
        path: of the file.
        manifest: the images, of two classes.

    Raises:
        NevusError: the file cannot be read, a column is missing, a value makes no sense, a reader decides on an image
            twice, or no row is of an image of the data set.

    """
    table, places = read_csv(path)
    if set(PAIRED) <= set(table.columns):
        return _paired(path, table, places, manifest)
    if set(SUMMARY) <= set(table.columns):
        readers = [_summary(path, row, place) for row, place in zip(table.to_dict("records"), places, strict=True)]
        names = [one.name for one in readers]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise NevusError(f"Cannot read '{path}': reader {twice} has two rows. Remove one.")
        return readers
    raise NevusError(
        f"Cannot read '{path}': it has neither the columns {', '.join(PAIRED)} nor {', '.join(SUMMARY)}. Name them so."
    )


def _paired(path: Path, table: pd.DataFrame, places: Sequence[str], manifest: Manifest) -> list[Reader]:
    rows_of = _names(manifest)
    classes = {name.casefold(): code for code, name in enumerate(manifest.classes)}
    found: dict[str, dict[int, int]] = {}
    unknown = 0
    for record, place in zip(table.to_dict("records"), places, strict=True):
        row = rows_of.get(str(record["image"]))
        decision = classes.get(str(record["decision"]).casefold())
        if decision is None:
            raise NevusError(
                f"Cannot read '{path}', {place}: the decision '{record['decision']}' is none of the classes "
                f"{', '.join(manifest.classes)}. Correct it."
            )
        if not record["reader"]:
            raise NevusError(f"Cannot read '{path}', {place}: it names no reader. Add the name.")
        if row is None:
            unknown += 1
            continue
        decided = found.setdefault(str(record["reader"]), {})
        if row in decided:
            raise NevusError(
                f"Cannot read '{path}', {place}: reader {record['reader']} decides on {record['image']} twice. "
                "Remove one."
            )
        decided[row] = decision
    if unknown and found:
        console.print(f"{unknown:,} of {len(table):,} rows of {path} are of images that are not in {manifest.name}.")
    if not found:
        raise NevusError(
            f"Cannot use '{path}': none of its images is one of {manifest.name}. Correct the column image."
        )
    return [
        Reader(name, np.array(list(decided), np.int64), np.array(list(decided.values()), np.int64))
        for name, decided in sorted(found.items())
    ]


def _names(manifest: Manifest) -> dict[str, int]:
    """Return the row of each image by its path, file name and stem; names that several images share are left out."""
    found: dict[str, int] = {}
    shared = set()
    for row, image in enumerate(manifest.table["image"]):
        path = PurePosixPath(image)
        for name in {image, path.name, path.stem}:
            if found.setdefault(name, row) != row:
                shared.add(name)
    return {name: row for name, row in found.items() if name not in shared}


def _summary(path: Path, record: Mapping[Any, Any], place: str) -> Reader:
    if not record["reader"]:
        raise NevusError(f"Cannot read '{path}', {place}: it names no reader. Add the name.")
    values = []
    for name in SUMMARY[1:]:
        try:
            value = float(record[name])
        except ValueError:
            value = -1.0
        if not 0 <= value <= 1:
            raise NevusError(
                f"Cannot read '{path}', {place}: the {name} '{record[name]}' is no number from 0 to 1. Correct it."
            )
        values.append(value)
    none = np.zeros(0, np.int64)
    return Reader(str(record["reader"]), none, none, *values)
