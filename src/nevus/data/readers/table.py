"""Reader: any csv or Parquet file with a column mapping."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from nevus.data.image_index import find_in_folder
from nevus.data.manifest import REQUIRED, Manifest, checked, ordered_classes, without_twins
from nevus.data.readers.class_folders import SPLIT_FOLDERS
from nevus.data.table_file import MISSING_LABELS, read_csv
from nevus.data.walker import LeftOut
from nevus.errors import NevusError

OWN_NAMES = ("manifest.parquet", "manifest.csv")
"""A table of this name belongs to its folder, and has the folder's name."""


def read_table(
    path: Path,
    *,
    images: Path | None = None,
    columns: Mapping[str, str] | None = None,
    positive: str | None = None,
    label: str | None = None,
) -> Manifest:
    """Read a csv (any of the usual separators, with or without a byte-order mark) or a Parquet file.

    Args:
        path: the file.
        images: folder that the image paths start from; by default the folder of the file, or the one that
            a manifest written by this program names.
        columns: our column names to the file's, as in `{"image": "filename", "label": "diagnosis"}`. `image`
            and `label` must be there in the end; `group` is by default the lesion's, else the patient's id,
            else the image itself; `split` is by default empty; `source` is the file's name.
        positive: see `ordered_classes`.
        label: of every row, whatever the file says of labels.

    Raises:
        NevusError: the file cannot be read; a column is missing; a row is at fault; an image is listed with
            two labels; a path leaves the folder of the images; no image is where the paths say.

    """
    if path.suffix.lower() in (".parquet", ".pq"):
        table, root, classes, name = _read_parquet(path)
        rows = [f"row {index + 1}" for index in range(len(table))]
    else:
        table, rows = read_csv(path)
        root = classes = name = None
    root = images or root or path.parent
    name = name or (path.resolve().parent.name if path.name in OWN_NAMES else path.stem)
    if label is not None:
        table["label"] = label
    table = _renamed(table, columns or {}, path)
    if table.empty:
        raise NevusError(f"Cannot read '{path}': it has no rows. Give a file that lists images.")
    table = _completed(table, name)
    left_out = LeftOut()
    table, rows = without_missing_labels(table, rows, path, left_out)
    table["image"] = _found(table["image"], root, path, rows)
    for column in ("patient_id", "lesion_id", "image"):  # row by row the widest group that is known
        if column in table.columns:
            table["group"] = table["group"].where(table["group"] != "", table[column])
    table = checked(table, name=str(path), rows=rows)
    table = without_twins(table, str(path), rows)
    order = classes if classes and positive is None and set(table["label"]) <= set(classes) else None
    classes = order or ordered_classes(table["label"], positive=positive)
    return Manifest(table, root, classes, name, tuple(left_out.entries))


def without_missing_labels(
    table: pd.DataFrame, rows: list[str], path: Path, left_out: LeftOut
) -> tuple[pd.DataFrame, list[str]]:
    """Leave out rows without a label, such as NaN, NA, None and ?.

    Raises:
        NevusError: no row has a label.

    """
    missing = table["label"].astype(str).str.strip().str.lower().isin(list(MISSING_LABELS)) & (table["image"] != "")
    for row in table.index[missing]:
        left_out.add(str(table["image"][row]), f"no label: '{table['label'][row]}'")
    if missing.all():
        raise NevusError(f"Cannot read '{path}': no row has a label. Name their column with --columns label=NAME.")
    kept = [row for row, gone in zip(rows, missing, strict=True) if not gone]
    return table[~missing].reset_index(drop=True), kept


def _read_parquet(path: Path) -> tuple[pd.DataFrame, Path | None, tuple[str, ...] | None, str | None]:
    try:
        import pyarrow
        import pyarrow.parquet as parquet
    except ImportError:
        raise NevusError(
            f"Cannot read '{path}': pyarrow is missing. Install it with pip install 'nevus[train]', or give a csv."
        ) from None
    try:
        arrow = parquet.read_table(path)
    except (OSError, pyarrow.ArrowInvalid) as error:
        raise NevusError(f"Cannot read {path} as Parquet: {str(error).splitlines()[0]}. Check the file.") from None
    meta = arrow.schema.metadata or {}
    root = meta.get(b"nevus.root")
    classes = meta.get(b"nevus.classes")
    name = meta.get(b"nevus.name")
    return (
        arrow.to_pandas(),
        Path(root.decode("utf-8", "surrogateescape")) if root else None,
        tuple(classes.decode().split("\n")) if classes else None,
        name.decode() if name else None,
    )


def _renamed(table: pd.DataFrame, columns: Mapping[str, str], path: Path) -> pd.DataFrame:
    have = ", ".join(map(str, table.columns))
    for ours, theirs in columns.items():
        if theirs not in table.columns:
            raise NevusError(
                f"Cannot read {path}: it has no column '{theirs}' (it has: {have}). Correct --columns {ours}={theirs}."
            )
    # A column of the file that happens to bear the name that another one is mapped to gives way.
    table = table.drop(columns=[c for c in columns if c in table.columns and columns[c] != c])
    table = table.rename(columns={theirs: ours for ours, theirs in columns.items()})
    for needed in ("image", "label"):
        if needed not in table.columns:
            raise NevusError(
                f"Cannot read {path}: it has no column '{needed}' (it has: {have}). Name it, as in --columns "
                f"{needed}=NAME."
            )
    return table


def _completed(table: pd.DataFrame, name: str) -> pd.DataFrame:
    table = table.copy()
    for column in (
        "image",
        "label",
        "group",
        "split",
        "source",
        "lesion_id",
        "patient_id",
        "fitzpatrick_skin_type",
    ):
        if column in table.columns:
            values = table[column]
            if pd.api.types.is_float_dtype(values) and (values.dropna() % 1 == 0).all():
                values = values.astype("Int64")  # ids with gaps: 12 and not 12.0
            values = values.astype(object).where(values.notna(), "").astype(str).str.strip()
            table[column] = values.map(lambda text: unicodedata.normalize("NFC", text)) if column == "label" else values
    if "group" not in table.columns:
        table["group"] = ""
    if "split" not in table.columns:
        table["split"] = ""
    table["split"] = table["split"].map(lambda s: SPLIT_FOLDERS.get(s.lower(), s))
    if "source" not in table.columns:
        table["source"] = name
    if "age_approx" in table.columns:
        table["age_approx"] = table["age_approx"].replace("", None)
    if "fitzpatrick_skin_type" in table.columns:
        table["fitzpatrick_skin_type"] = table["fitzpatrick_skin_type"].replace("", None)
    return table[[*REQUIRED, *(c for c in table.columns if c not in REQUIRED)]]


def _found(images: pd.Series[str], root: Path, path: Path, rows: list[str]) -> list[str]:
    """Complete names without a suffix (ISIC ids); refuse paths that leave the root; want one image at least."""
    inside = os.path.abspath(root)
    names: list[str] = []
    listings: dict[str, dict[str, list[str]]] = {}
    found = 0
    for row, image in zip(rows, images, strict=True):
        if not image:  # reported by `checked`
            names.append(image)
            continue
        # The path as it is written counts: a link inside the folder may lead out of it.
        here = os.path.normpath(os.path.join(inside, image))
        if not os.path.exists(here):
            here = os.path.normpath(os.path.join(inside, image.replace("\\", "/")))
        if not here.startswith(os.path.join(inside, "")):
            raise NevusError(
                f"Cannot read {path}, {row}: the path {image} leaves the folder {root}. Correct it, or name the folder "
                "of the images with --images."
            )
        if not os.path.exists(here):
            here = find_in_folder(here, listings)
        found += os.path.exists(here)
        names.append(os.path.relpath(here, inside))
    if not found:
        raise NevusError(
            f"Cannot read {path}: it lists {len(names)} images and none is in {root} (the first is {names[0]}). Name "
            "their folder with --images."
        )
    return names
