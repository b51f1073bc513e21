"""Reader: images without labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from nevus._progress import console
from nevus.data.manifest import REQUIRED, Manifest
from nevus.data.readers.dispatch import TABLES
from nevus.data.readers.table import read_table
from nevus.data.walker import LeftOut, walk_images
from nevus.errors import NevusError

LABEL = "unlabeled"


def read_unlabeled(data: Sequence[Path]) -> Manifest:
    """Every image below some folders, and every row of some tables, whatever their labels.

    Args:
        data: folders of any layout, and csv or Parquet files with a column `image`; a table may hold any of the
            columns of a Manifest.

    Raises:
        NevusError: there is no image, or a table is at fault.

    """
    tables = []
    for place in data:
        if place.suffix.lower() in TABLES:
            found = read_table(place, label=LABEL)
            table = found.table.assign(image=[str(path.absolute()) for path in found.paths])
        elif place.is_dir():
            left_out = LeftOut()
            images = [str(path.absolute()) for path in walk_images(place, left_out)]
            left_out.report(str(place))
            known = sum("test" in Path(image).relative_to(place.absolute()).parts[:-1] for image in images)
            if known:
                console.print(
                    f"{known} of the images of {place} are in a folder named test: a backbone that was trained on them "
                    "cannot be evaluated on them. Give the other folders by name to leave them out.",
                    style="yellow",
                    highlight=False,
                )
            table = pd.DataFrame({"image": images, "group": images, "source": place.resolve().name}, dtype=str)
        else:
            raise NevusError(f"Cannot read {place}: it is no folder and no csv or Parquet file. Give one of these.")
        if table.empty:
            raise NevusError(
                f"Cannot read {place}: it holds no images. Give a folder with images at any depth, or a table."
            )
        tables.append(table.assign(label=LABEL, split="train"))
    table = pd.concat(tables, ignore_index=True)[list(REQUIRED)]
    table = table.drop_duplicates("image").reset_index(drop=True)
    return Manifest(table, Path("/"), (LABEL,), " + ".join(place.resolve().stem for place in data))
