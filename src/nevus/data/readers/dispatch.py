"""The choice of the reader for a data set."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import pandas as pd

from nevus._progress import console
from nevus.data.manifest import Manifest, check_case, ordered_classes
from nevus.data.public.base import Archive, read_archive
from nevus.data.public.ham10000 import HAM10000
from nevus.data.public.isic import ISIC
from nevus.data.public.others import DERM7PT, FITZPATRICK17K, PAD_UFES_20, PH2
from nevus.data.readers.class_folders import read_folder
from nevus.data.readers.table import OWN_NAMES, read_table
from nevus.data.walker import LeftOut
from nevus.errors import NevusError

TABLES = (".csv", ".tsv", ".tab", ".txt", ".parquet", ".pq")


ARCHIVES = {a.name: a for a in (HAM10000, *ISIC, PAD_UFES_20, FITZPATRICK17K, DERM7PT, PH2)}
"""Public data sets that are known by their published layouts."""


@dataclass(frozen=True)
class DataConfig:
    """How a data set is read.

    Attributes:
        images: folder that the paths in a csv or Parquet file start from (default: the file's own folder).
        columns: columns of a csv or Parquet file under their names here, as image=filename label=diagnosis.
        positive: the class whose detection counts, of two (default: the one that is named malignant,
            melanoma or the like, else the alphabetically last).
        task: Labels of a public data set: its own (`diagnosis`), benign or malignant (`malignant`), or
            nevi and melanomas only (`nevi`).
        layout: name of the public data set whose layout the folder has (default: recognized); none reads class folders.
        labels: new names of labels, as melanoma=malignant nevus=benign; LABEL= leaves its images out.

    """

    images: Path | None = None
    columns: tuple[str, ...] = ()
    positive: str | None = None
    task: Literal["diagnosis", "malignant", "nevi"] = "diagnosis"
    layout: str | None = None
    labels: tuple[str, ...] = ()

    def mapping(self) -> Mapping[str, str]:
        """`columns` as a mapping from our names to the file's.

        Raises:
            NevusError: an entry is not of the form name=column.

        """
        for entry in self.columns:
            if not all(entry.partition("=")):
                raise NevusError(
                    f"Cannot use --columns {entry}: it is not of the form name=column. Write it as in image=filename."
                )
        return dict(entry.split("=", 1) for entry in self.columns)

    def plain(self) -> DataConfig:
        """Return the configuration for reading labels as they are: the positive class may be a new name."""
        return replace(self, labels=(), positive=None) if self.labels else self

    def renamed(self, manifest: Manifest) -> Manifest:
        """Rename labels as `labels` says.

        Raises:
            NevusError: an entry is no LABEL=NAME, or no image has such a label.

        """
        if not self.labels:
            return manifest
        names: dict[str, str] = {}
        for entry in self.labels:
            old, sign, new = (part.strip() for part in entry.partition("="))
            if not sign or not old:
                raise NevusError(f"Cannot read --labels '{entry}': it is no LABEL=NAME. Write it as in nevus=benign.")
            if old not in manifest.classes:
                known = ", ".join(manifest.classes)
                raise NevusError(f"Cannot rename the label '{old}': no image has it. The labels are {known}.")
            names[old] = new
        table = manifest.table.assign(label=[names.get(label, label) for label in manifest.table["label"]])
        table = table[table["label"] != ""].reset_index(drop=True)
        classes = ordered_classes(table["label"], positive=self.positive)
        return Manifest(table, manifest.root, classes, manifest.name, manifest.left_out)


def read(data: Path | str | Sequence[Path | str], config: DataConfig | None = None) -> Manifest:
    """Read one data set, or several as one.

    A csv or Parquet file is read as such; a folder by its `manifest.*` file where it has one, as a public data
    set where it has the layout of one, else as class folders. Several keep their `source`; their paths start
    from the folder that holds them all.

    Raises:
        NevusError: see the readers.

    """
    config = config or DataConfig()
    places = [data] if isinstance(data, Path | str) else list(data)
    if not places:
        raise NevusError("Cannot read data: none are given. Give a folder, or a csv or Parquet file.")
    read_all = [_read_one(Path(one), config.plain()) for one in places]
    positive = None if config.labels else config.positive
    manifest = config.renamed(read_all[0] if len(read_all) == 1 else joined(read_all, positive=positive))
    check_case(manifest.table["label"])
    LeftOut(list(manifest.left_out)).report(manifest.name)
    return manifest


def joined(manifests: Sequence[Manifest], *, positive: str | None = None) -> Manifest:
    """Join data sets.

    Equal group ids of two sets are different groups. A set without splits is train where another one has splits.

    Raises:
        NevusError: two of them list the same file.

    """
    root = Path(os.path.commonpath([m.root.absolute() for m in manifests]))
    tables = []
    for number, manifest in enumerate(manifests):
        table = manifest.table.copy()
        table["image"] = [os.path.relpath(path.absolute(), root) for path in manifest.paths]
        table["group"] = f"{number}:{manifest.name}:" + table["group"]
        tables.append(table)
    table = pd.concat(tables, ignore_index=True)
    twice = table.index[table.duplicated("image")]
    if len(twice):
        raise NevusError(
            f"Cannot join the data sets: the image '{table['image'][twice[0]]}' is in two. Give each set once."
        )
    if any(m.splits() for m in manifests):
        table["split"] = table["split"].replace("", "train")
    name = " + ".join(m.name for m in manifests)
    left_out = tuple(entry for m in manifests for entry in m.left_out)
    return Manifest(table, root, ordered_classes(table["label"], positive=positive), name, left_out)


def _read_one(data: Path, config: DataConfig) -> Manifest:
    if not data.exists():
        raise NevusError(f"Cannot read '{data}': it does not exist. Give a folder, or a csv or Parquet file.")
    if config.layout is not None and config.layout not in (*ARCHIVES, "none"):
        raise NevusError(
            f"Cannot use --layout {config.layout}: there is none. Choose one of {', '.join(ARCHIVES)}, none."
        )
    own = next((data / name for name in OWN_NAMES if (data / name).is_file()), None) if data.is_dir() else None
    if own or data.suffix.lower() in TABLES:
        return read_table(own or data, images=config.images, columns=config.mapping(), positive=config.positive)
    if config.columns or config.images:
        raise NevusError(
            f"Cannot use --columns and --images with '{data}': it is a folder. Leave them out, or give the table."
        )
    if not data.is_dir():
        raise NevusError(
            f"Cannot read '{data}': it is no folder and, by its name, no csv or Parquet file. Give one of these."
        )
    archive = _archive_of(data, config)
    if archive is not None:
        return read_archive(archive, data, task=config.task, positive=config.positive)
    if config.task != "diagnosis":
        raise NevusError(f"Cannot use --task with '{data}': it has the layout of no public data set. Leave it out.")
    return read_folder(data, positive=config.positive)


def _archive_of(data: Path, config: DataConfig) -> Archive | None:
    if config.layout == "none":
        return None
    if config.layout is not None:
        archive = ARCHIVES[config.layout]
        if not archive.recognize(data):
            raise NevusError(f"Cannot read '{data}' as {archive.name}: its table is missing. Put it there.")
        return archive
    found = next((archive for archive in ARCHIVES.values() if archive.recognize(data)), None)
    if found is not None:
        console.print(
            f"'{data}' has the table of {found.name} and is read as that. --layout none reads class folders instead.",
            highlight=False,
        )
    return found
