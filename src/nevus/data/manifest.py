"""The Manifest: a table, one row an image."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from nevus._io import atomic_path, sha256_bytes
from nevus._progress import console
from nevus.errors import NevusError

SPLITS = ("train", "validation", "test")
REQUIRED = ("image", "label", "group", "split", "source")
ISIC_COLUMNS = (
    "lesion_id",
    "patient_id",
    "age_approx",
    "sex",
    "anatom_site_general",
    "fitzpatrick_skin_type",
    "image_type",
    "diagnosis_confirm_type",
)
MALIGNANT_NAMES = ("malignant", "melanoma", "mel", "cancer", "cancerous", "malignancy")
"""Labels that state which of two classes is the positive one."""
POSITIVE_PAIRS = (("0", "1"), ("0.0", "1.0"), ("false", "true"), ("no", "yes"), ("negative", "positive"), ("n", "y"))
"""Pairs of labels, the second of which is positive by convention."""

SKIN_TYPES = ("I", "II", "III", "IV", "V", "VI")
OLDEST = 120.0
"""Years."""


@dataclass(frozen=True)
class Manifest:
    """A data set: a table with one row an image, the folder its paths start from, and its classes.

    Attributes:
        table: columns `image, label, group, split, source` (all str, never missing; `split` is empty where
            it is not known), the ISIC archive's own columns where known, and any others. Index 0..n-1.
        root: folder that the relative paths in `image` start from.
        classes: class names in the order of the model's outputs. With two, the second is the positive one.
        name: of the set.
        left_out: path and reason of each file that the reader left out.

    """

    table: pd.DataFrame
    root: Path
    classes: tuple[str, ...]
    name: str
    left_out: tuple[tuple[str, str], ...] = ()

    def __len__(self) -> int:
        return len(self.table)

    @cached_property
    def paths(self) -> list[Path]:
        """Absolute or root-relative path of each image, in the order of the rows."""
        return [self.root / image for image in self.table["image"]]

    @cached_property
    def targets(self) -> np.ndarray:
        """Class index of each row, int64 of shape (n,), in the order of `classes`.

        Raises:
            NevusError: a label is none of `classes`; the first such image is named.

        """
        known = {name: index for index, name in enumerate(self.classes)}
        for image, label in zip(self.table["image"], self.table["label"], strict=True):
            if label not in known:
                raise NevusError(
                    f"Cannot use {self.name}: the label '{label}' of {image} is none of the classes "
                    f"{', '.join(self.classes)}. Correct it or leave the row out."
                )
        return self.table["label"].map(known).to_numpy(np.int64, copy=True)

    @property
    def groups(self) -> np.ndarray:
        """Group of each row as an integer code of shape (n,)."""
        return pd.factorize(self.table["group"])[0].astype(np.int64)

    def with_image_type(self, kinds: Sequence[str]) -> Manifest:
        """Return the same data set; `image_type` is filled in where it is not known.

        Args:
            kinds: recognized kind of each image, `dermoscopic` or `clinical`, or an empty string.

        """
        recognized = pd.Series(list(kinds), index=self.table.index, dtype=object)
        if "image_type" not in self.table.columns:
            return self.with_table(self.table.assign(image_type=recognized))
        given = self.table["image_type"]
        return self.with_table(self.table.assign(image_type=given.where(given.notna() & (given != ""), recognized)))

    @cached_property
    def rows_digest(self) -> str:
        """SHA-256 over image and label of every row, whatever its split: says whether two sets are the same."""
        lines = sorted(
            f"{image}\t{label}" for image, label in zip(self.table["image"], self.table["label"], strict=True)
        )
        return sha256_bytes("\n".join(lines).encode("utf-8", "surrogateescape"))

    @cached_property
    def digest(self) -> str:
        """SHA-256 over what decides a figure: image, label, group, split and source of every row.

        The order of the rows and further columns do not matter.
        """
        columns = self.table[list(REQUIRED)].sort_values("image")
        lines = ("\t".join(row) for row in columns.itertuples(index=False, name=None))
        return sha256_bytes("\n".join(lines).encode("utf-8", "surrogateescape"))

    def splits(self) -> tuple[str, ...]:
        """Names of the splits that have rows, in the order train, validation, test."""
        present = set(self.table["split"].unique())
        return tuple(name for name in SPLITS if name in present)

    def split(self, name: str) -> Manifest:
        """The rows of one split; `all` gives every row.

        Raises:
            NevusError: there is no such split.

        """
        if name == "all":
            return self
        rows = self.table["split"] == name
        if not rows.any():
            have = ", ".join(self.splits()) or "none"
            raise NevusError(
                f"Cannot use {self.name}: it has no split '{name}' (its splits: {have}). Give manifest.parquet of the "
                "training run, name another split with --split, or use --split all."
            )
        return self.where(rows.to_numpy())

    def where(self, rows: np.ndarray) -> Manifest:
        """The rows that a boolean mask or an index array of them picks."""
        return self.with_table(self.table.iloc[np.flatnonzero(rows) if rows.dtype == bool else rows])

    def with_table(self, table: pd.DataFrame) -> Manifest:
        """The same data set with another table."""
        return replace(self, table=table.reset_index(drop=True))

    def with_classes(self, classes: Sequence[str]) -> Manifest:
        """The same rows with the class order of a model."""
        return replace(self, classes=tuple(classes))

    def counts(self) -> pd.DataFrame:
        """Images by split (rows) and class (columns)."""
        table = pd.crosstab(self.table["split"].replace("", "(none)"), self.table["label"])
        order = [s for s in (*SPLITS, "(none)") if s in table.index]
        return table.loc[order, [c for c in self.classes if c in table.columns]]

    def save(self, path: Path) -> None:
        """Write as Parquet, or as csv where `path` ends so; the root is kept absolute in Parquet's metadata."""
        with atomic_path(path) as aside:
            if path.suffix == ".csv":
                self.table.to_csv(aside, index=False, lineterminator="\n")
                return
            import pyarrow  # a part of the extra `train`: the base package reads csv files and folders
            import pyarrow.parquet as parquet

            arrow = pyarrow.Table.from_pandas(self.table, preserve_index=False)
            meta = {
                b"nevus.root": str(self.root.absolute()).encode("utf-8", "surrogateescape"),
                b"nevus.classes": "\n".join(self.classes).encode(),
                b"nevus.name": self.name.encode(),
            }
            parquet.write_table(arrow.replace_schema_metadata({**(arrow.schema.metadata or {}), **meta}), aside)


def checked(table: pd.DataFrame, *, name: str, rows: Sequence[str] | None = None) -> pd.DataFrame:
    """Check the columns that have a meaning.

    Args:
        table: with the columns of `REQUIRED`.
        name: of the file, for messages.
        rows: how to name each row in a message; by default `row 1` on.

    Returns:
        The table with its columns coerced and index 0..n-1.

    Raises:
        NevusError: naming the first faults with their row and column.

    """
    table = table.reset_index(drop=True)
    faults: dict[tuple[int, str], str] = {}

    def note(column: str, wrong: pd.Series[bool], what: str) -> None:
        for row in np.flatnonzero(wrong.to_numpy(bool)).tolist():
            where = rows[row] if rows else f"row {row + 1}"
            value = "" if what == "is empty" else f"'{table[column][row]}' "
            faults.setdefault((row, column), f"{where}, column '{column}': {value}{what}")

    missing = [column for column in REQUIRED if column not in table.columns]
    if missing:
        raise NevusError(f"Cannot read {name}: the column '{missing[0]}' is missing. Correct the table.")
    for column in ("image", "label", "group"):
        note(column, table[column].isna() | (table[column].astype(str) == ""), "is empty")
    for column in ("split", "source"):
        note(column, table[column].isna(), "is empty")
    note("split", ~table["split"].isin(["", *SPLITS]), "is none of the values allowed")
    if "age_approx" in table.columns:
        age = pd.to_numeric(table["age_approx"], errors="coerce").astype(float)
        given = table["age_approx"].notna()
        note("age_approx", given & age.isna(), "is no number")
        note("age_approx", age.notna() & ~age.between(0, OLDEST), "is out of range")
        coerced = table.assign(age_approx=age)
    else:
        coerced = table
    if "fitzpatrick_skin_type" in table.columns:
        skin = table["fitzpatrick_skin_type"]
        note("fitzpatrick_skin_type", skin.notna() & ~skin.isin(SKIN_TYPES), "is none of the values allowed")
    if faults:
        listed = [faults[key] for key in sorted(faults)]
        more = f"; and {len(listed) - 3} more faults" if len(listed) > 3 else ""
        raise NevusError(f"Cannot read {name}: {'; '.join(listed[:3])}{more}. Correct the table.")
    return coerced


def without_twins(table: pd.DataFrame, name: str, rows: Sequence[str]) -> pd.DataFrame:
    """Use an image that is listed twice once, with a notice.

    Args:
        table: with the columns of `REQUIRED`.
        name: of the file, for messages.
        rows: how to name each row in a message.

    Raises:
        NevusError: its rows differ in label, split or group.

    """
    twins = table.index[table.duplicated("image")]
    for index in twins:
        first = table.index[table["image"] == table["image"][index]][0]
        for column in ("label", "split", "group"):
            if table[column][index] != table[column][first]:
                raise NevusError(
                    f"Cannot read {name}, {rows[index]}: the image {table['image'][index]} has {column} "
                    f"'{table[column][index]}' here and '{table[column][first]}' in {rows[first]}. Correct one."
                )
    if len(twins):
        console.print(
            f"{name} lists {len(twins)} images twice (first in {rows[twins[0]]}); each is used once.", style="yellow"
        )
    return table.drop(index=twins).reset_index(drop=True)


def check_case(labels: Iterable[str]) -> None:
    """Refuse labels that differ only in case, which are two classes by an error of writing.

    Raises:
        NevusError: there are such labels.

    """
    seen: dict[str, str] = {}
    for label in sorted(set(labels)):
        other = seen.setdefault(label.casefold().strip(), label)
        if other != label:
            raise NevusError(
                f"Cannot take '{other}' and '{label}' for two classes: they differ in case only. Join them with "
                f"--labels {other}={label}."
            )


def ordered_classes(labels: Iterable[str], *, positive: str | None = None) -> tuple[str, ...]:
    """Class names in a fixed order: alphabetical, the positive one of two last.

    Args:
        labels: of all rows.
        positive: the class whose detection counts, for two classes; by default the one with a name that
            means malignant, else the second of a conventional pair, else the alphabetically last. Where no name
            means malignant, a notice says which was taken.

    Raises:
        NevusError: `positive` is none of the labels.

    """
    names = sorted(set(labels))
    if positive is not None and positive not in names:
        raise NevusError(
            f"Cannot take '{positive}' as the positive class: no image has this label. The labels are "
            f"{', '.join(names)}. Correct --positive."
        )
    if len(names) == 2:
        chosen = positive or positive_of(names)
        names = [n for n in names if n != chosen] + [chosen]
    return tuple(names)


def positive_of(names: Sequence[str]) -> str:
    """Return the positive one of two sorted class names; a notice says so where no name means malignant."""
    low = [name.strip().lower() for name in names]
    malignant = [name for name, key in zip(names, low, strict=True) if key in MALIGNANT_NAMES]
    if len(malignant) == 1:
        return malignant[0]
    pair = next((pair for pair in POSITIVE_PAIRS if set(pair) == set(low)), None)
    chosen = names[low.index(pair[1])] if pair else names[-1]
    why = "by convention" if pair else "the alphabetically last"
    console.print(
        f"The labels '{names[0]}' and '{names[1]}' do not say which is malignant: '{chosen}' ({why}) is taken as the "
        "positive class, on which sensitivity is computed. Choose with --positive.",
        style="yellow",
    )
    return chosen
