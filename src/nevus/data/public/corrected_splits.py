"""Corrected splits of public data sets, that come with the package."""

from __future__ import annotations

import io
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd

from nevus._progress import console, progress
from nevus.data.cache import pixel_digest
from nevus.data.images import decode
from nevus.data.manifest import Manifest
from nevus.data.parallel import prefetch_map
from nevus.errors import ImageError, NevusError

BY_DIGEST = "isic-malignant-benign"
"""Set without ids: rows are known by the digest of their decoded pixels."""
BY_ID = "ham10000"
"""Set whose images are known by their ids."""


def corrected_table(name: str) -> pd.DataFrame:
    """The published table of a set: `digest` or `image` (an id), `group`, `split` (train or test)."""
    text = files("nevus.data.public").joinpath("corrected", f"{name}.csv").read_text(encoding="utf-8")
    return pd.read_csv(io.StringIO(text), dtype=str)


def with_corrected_split(manifest: Manifest) -> Manifest:
    """A set with its corrected split and groups in place of its own.

    Images that the split does not know are left out, and how many those are is said.

    Raises:
        NevusError: no corrected split of this set comes with the package.

    """
    by_id = corrected_table(BY_ID).set_index("image")
    stems = pd.Series([path.stem for path in manifest.paths])
    if stems.isin(by_id.index).mean() > 0.5:
        return _with(manifest, stems, by_id, BY_ID)
    by_digest = corrected_table(BY_DIGEST).set_index("digest")
    if manifest.name != BY_DIGEST:
        first = _digests(manifest.where(np.linspace(0, len(manifest) - 1, min(20, len(manifest))).astype(int)))
        if first.isin(by_digest.index).mean() < 0.5:
            raise NevusError(
                f"Cannot use --use-corrected-split: no corrected split of {manifest.name} comes with nevus, only of "
                f"{BY_DIGEST} and {BY_ID}. Make one with nevus audit and nevus split."
            )
    return _with(manifest, _digests(manifest), by_digest, BY_DIGEST)


def _digests(manifest: Manifest) -> pd.Series[str]:
    def one(path: Path) -> str:
        try:
            return pixel_digest(decode(path))
        except ImageError:
            return ""

    found = []
    with progress() as bar:
        task = bar.add_task("recognising", total=len(manifest), note="")
        for digest in prefetch_map(one, manifest.paths):
            found.append(digest)
            bar.advance(task)
    return pd.Series(found, dtype=str)


def _with(manifest: Manifest, keys: pd.Series[str], known: pd.DataFrame, name: str) -> Manifest:
    there = keys.isin(known.index).to_numpy()
    if not there.any():
        raise NevusError(
            f"Cannot use the corrected split of {name}: it has none of the images of {manifest.name}. Leave "
            "--use-corrected-split out."
        )
    if not there.all():
        console.print(
            f"{int((~there).sum())} images of {manifest.name} are not in the corrected split of {name} and are "
            f"left out; the first: {manifest.table['image'][~there].iloc[0]}",
            style="yellow",
        )
    rows = known.loc[keys[there].tolist()]
    table = manifest.table[there].assign(group=rows["group"].to_numpy(), split=rows["split"].to_numpy())
    return manifest.with_table(table)
