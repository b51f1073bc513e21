"""Which reader a data set wants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nevus.data.folder import read_folder
from nevus.data.manifest import Manifest
from nevus.data.table import OWN_NAMES, read_table
from nevus.errors import NevusError

TABLES = (".csv", ".tsv", ".txt", ".parquet", ".pq")


@dataclass(frozen=True)
class DataConfig:
    """How a data set is read.

    Attributes:
        images: folder that the paths in a csv or Parquet file start from (default: the file's own folder).
        columns: columns of a csv or Parquet file under their names here, as image=filename label=diagnosis.
        positive: the class whose detection counts, of two (default: the one that is named malignant,
            melanoma or the like, else the alphabetically last).

    """

    images: Path | None = None
    columns: tuple[str, ...] = ()
    positive: str | None = None

    def mapping(self) -> Mapping[str, str]:
        """`columns` as a mapping from our names to the file's.

        Raises:
            NevusError: an entry is not of the form name=column.

        """
        for entry in self.columns:
            if not all(entry.partition("=")):
                raise NevusError(f"--columns {entry} is not of the form name=column, as in image=filename.")
        return dict(entry.split("=", 1) for entry in self.columns)


def read(data: Path | str, config: DataConfig | None = None) -> Manifest:
    """Read a data set: a csv or Parquet file, a folder with a `manifest.*` file, or class folders.

    Raises:
        NevusError: see the readers.

    """
    config = config or DataConfig()
    data = Path(data)
    if not data.exists():
        raise NevusError(f"{data} does not exist; give a folder of class folders, or a csv or Parquet file.")
    own = next((data / name for name in OWN_NAMES if (data / name).is_file()), None) if data.is_dir() else None
    if own or data.suffix.lower() in TABLES:
        return read_table(own or data, images=config.images, columns=config.mapping(), positive=config.positive)
    if config.columns or config.images:
        raise NevusError(
            f"{data} is read as class folders, where --columns and --images say nothing; leave them "
            "out, or give the csv or Parquet file."
        )
    return read_folder(data, positive=config.positive)
