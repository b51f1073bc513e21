"""Pairs of images that belong together."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from nevus._io import cache_folder, ensure_writable
from nevus._progress import progress
from nevus.auditing.duplicates.alignment import Alignment, aligned
from nevus.auditing.duplicates.candidates import by_key_points, by_perceptual_hash
from nevus.auditing.duplicates.descriptors import ImageDescriptors, describe_images
from nevus.auditing.duplicates.thresholds import Thresholds, chosen
from nevus.data.decoded import DecodedImages
from nevus.data.parallel import prefetch_map
from nevus.errors import NevusError

KINDS = ("exact", "copy", "lesion")
COLUMNS = ("a", "b", "kind", "similarity", "overlap", "matches")


def find_pairs(squares: DecodedImages, thresholds: Thresholds | None = None) -> pd.DataFrame:
    """Find copies of one picture, and several pictures of one lesion.

    What is found depends on the images alone, not on their order. Time grows a little faster than their number,
    memory by some 35 kB an image, of which half lies in a temporary file that is mapped into it.

    Args:
        squares: of `nevus.auditing.duplicates.descriptors.SIDE` pixels.
        thresholds: by default those that come with the package.

    Returns:
        A row a pair, the surest first: rows `a` < `b` of the two; `kind`; `similarity`, `overlap` and `matches` as
        in `Alignment`. Of many equal images each is paired with the first one. The kinds are `exact` for equal
        squares; `copy` for nearly equal pictures: one edited (another size, squeezed, cropped, shifted, turned by
        90 degrees, mirrored, compressed, brighter), or two photographs in nearly the same framing; `lesion` for
        another picture of the same lesion.

    """
    place: Path | None = cache_folder("audit")
    try:
        ensure_writable(cache_folder("audit"))
    except NevusError:  # then where the system keeps such files
        place = None
    with tempfile.TemporaryDirectory(dir=place, ignore_cleanup_errors=True) as folder:
        looks = describe_images(squares, Path(folder))
        return _pairs(looks, thresholds or chosen())


def _pairs(looks: ImageDescriptors, thresholds: Thresholds) -> pd.DataFrame:
    found: list[tuple[int, int, str, Alignment]] = []
    first: dict[str, int] = {}
    for row, digest in enumerate(looks.digests):
        one = first.setdefault(digest, row)
        if one != row:
            found.append((one, row, "exact", Alignment(1.0, 1.0, int(looks.counts[row]))))
    rows = np.array([first[digest] for digest in sorted(first)], np.int64)
    turns = by_perceptual_hash(looks, rows)
    pairs = sorted({*turns, *by_key_points(looks, rows)}, key=lambda pair: [looks.digests[row] for row in pair])

    def look(pair: tuple[int, int]) -> Alignment:
        return aligned(looks, *pair, turns.get(pair), thresholds.matches)

    with progress(unit="pairs") as bar:
        task = bar.add_task("comparing", total=len(pairs), note="")
        for pair, alignment in zip(pairs, prefetch_map(look, pairs), strict=True):
            kind = kind_of(alignment, thresholds)
            if kind:
                found.append((min(pair), max(pair), kind, alignment))
            bar.advance(task)
    table = pd.DataFrame(
        [(a, b, kind, r.similarity, r.overlap, r.matches) for a, b, kind, r in found], columns=list(COLUMNS)
    )
    order = np.lexsort([table["b"], table["a"], -table["similarity"], table["kind"].map(KINDS.index)])
    return table.iloc[order].reset_index(drop=True)


def kind_of(alignment: Alignment, thresholds: Thresholds) -> str | None:
    """What two images are to each other; None for nothing that is known."""
    sure = alignment.matches >= thresholds.matches
    if alignment.similarity >= thresholds.copy and (sure or alignment.overlap >= thresholds.overlap):
        return "copy"
    return "lesion" if sure and alignment.similarity >= thresholds.lesion else None
