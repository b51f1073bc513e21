"""The search for duplicates and for several images of one lesion."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from nevus._io import cache_folder, ensure_writable
from nevus._progress import progress
from nevus.auditing.duplicates.alignment import Alignment, align, matching_points
from nevus.auditing.duplicates.candidates import by_key_points, by_perceptual_hash
from nevus.auditing.duplicates.descriptors import ImageDescriptors, describe_images
from nevus.auditing.duplicates.thresholds import Thresholds, default_thresholds
from nevus.data.decoded import DecodedImages
from nevus.data.parallel import prefetch_map
from nevus.errors import NevusError

KINDS = ("exact_duplicate", "near_duplicate", "same_lesion")
PAIRS = 16
"""Pairs whose key points are compared together."""
COLUMNS = ("a", "b", "kind", "similarity", "overlap", "matches")


def find_pairs(squares: DecodedImages, thresholds: Thresholds | None = None) -> pd.DataFrame:
    """Find duplicates, and several images of one lesion.

    The result depends on the images alone, not on their order. Time grows a little faster than their number, memory
    by about 40 kB an image, half of it in a temporary file that is mapped into memory.

    Args:
        squares: of `nevus.data.perceptual_hash.AUDIT_IMAGE_SIZE` pixels.
        thresholds: by default the built-in ones.

    Returns:
        One row for each pair, by kind and decreasing similarity: rows `a` < `b`; `kind`; `similarity`, `overlap` and
        `matches` as in `Alignment`. Of several equal images each is paired with the first one. The kinds are
        `exact_duplicate` (equal squares); `near_duplicate` (one image edited: resized, squeezed, cropped, shifted,
        rotated by 90 degrees, mirrored, compressed, brighter; or two photographs in nearly the same framing);
        `same_lesion` (another image of the same lesion).

    """
    place: Path | None = cache_folder("")
    try:
        ensure_writable(cache_folder(""))
    except NevusError:  # then the system's temporary folder
        place = None
    with tempfile.TemporaryDirectory(dir=place, ignore_cleanup_errors=True) as folder, _one_thread_each():
        described = describe_images(squares, Path(folder))
        return _pairs(described, thresholds or default_thresholds())


@contextlib.contextmanager
def _one_thread_each() -> Iterator[None]:
    """Let each thread of this search compute alone: threads of libraries inside it would only wait for each other."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        cv2.setNumThreads(threads)


def _pairs(described: ImageDescriptors, thresholds: Thresholds) -> pd.DataFrame:
    found: list[tuple[int, int, str, Alignment]] = []
    first: dict[str, int] = {}
    for row, digest in enumerate(described.digests):
        one = first.setdefault(digest, row)
        if one != row:
            found.append((one, row, "exact_duplicate", Alignment(1.0, 1.0, int(described.counts[row]))))
    rows = np.array([first[digest] for digest in sorted(first)], np.int64)
    turns = by_perceptual_hash(described, rows)
    pairs = sorted({*turns, *by_key_points(described, rows)}, key=lambda pair: [described.digests[row] for row in pair])

    def align_pairs(start: int) -> list[Alignment]:
        part = pairs[start : start + PAIRS]
        matches = matching_points(described, part)
        return [
            align(described, pair, matching, turns.get(pair), thresholds.matches)
            for pair, matching in zip(part, matches, strict=True)
        ]

    with progress(unit="pairs") as bar:
        task = bar.add_task("comparing", total=len(pairs), note="")
        starts = range(0, len(pairs), PAIRS)
        for start, alignments in zip(starts, prefetch_map(align_pairs, starts), strict=True):
            for pair, alignment in zip(pairs[start : start + PAIRS], alignments, strict=True):
                kind = kind_of(alignment, thresholds)
                if kind:
                    found.append((min(pair), max(pair), kind, alignment))
            bar.advance(task, len(alignments))
    table = pd.DataFrame(
        [(a, b, kind, r.similarity, r.overlap, r.matches) for a, b, kind, r in found], columns=list(COLUMNS)
    )
    order = np.lexsort([table["b"], table["a"], -table["similarity"], table["kind"].map(KINDS.index)])
    return table.iloc[order].reset_index(drop=True)


def kind_of(alignment: Alignment, thresholds: Thresholds) -> str | None:
    """Return the kind of a pair; None for images of different lesions."""
    matching = alignment.matches >= thresholds.matches
    if alignment.similarity >= thresholds.near_duplicate and (matching or alignment.overlap >= thresholds.overlap):
        return "near_duplicate"
    return "same_lesion" if matching and alignment.similarity >= thresholds.same_lesion else None
