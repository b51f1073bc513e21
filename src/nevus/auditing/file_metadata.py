"""Metadata of image files, and problems of their content."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nevus._progress import progress
from nevus.data.cache import pixel_digest
from nevus.data.dicom import is_dicom_file
from nevus.data.images import Pixels, decode, open_image, orientation_of
from nevus.data.manifest import Manifest
from nevus.data.parallel import prefetch_map
from nevus.errors import ImageError

COLUMNS = (
    "format",
    "mode",
    "width",
    "height",
    "bytes",
    "tables",
    "coarseness",
    "orientation",
    "profile",
    "digest",
    "issue",
)
MIN_STD = 3.0
"""Standard deviation of the luminance, in gray levels, below which an image is nearly uniform."""
MAX_BLACK = 24
"""Luminance of the 99th percentile below which an image is nearly black, as 12 bits in 16-bit files are."""
MAX_FLAT = 0.15
"""Share of blocks without any variation, neither black nor white, from which an image has a large flat region."""
MAX_WHITE = 0.5
"""Share of nearly white pixels from which an image counts as a document or a drawing."""
MAX_GRAY_DIFFERENCE = 6
"""Difference of a pixel's largest and smallest channel up to which it counts as gray."""


def file_metadata(manifest: Manifest) -> pd.DataFrame:
    """Read every file once.

    Returns:
        One row for each image: `format` (JPEG, PNG, ... or DICOM), `mode` as Pillow names it, `width` and `height` in
        pixels as stored, `bytes`, `tables` (digest of the JPEG quantization tables, which differ by the program
        that wrote the file), `coarseness` (their mean), EXIF `orientation`, whether there is a color `profile`,
        `digest` of the decoded pixels, and `issue`: a problem in a few words, or an empty string. Unknown values are
        empty or 0.

    """
    with progress() as bar:
        task = bar.add_task("reading files", total=len(manifest), note="")
        rows = []
        for row in prefetch_map(_metadata, manifest.paths):
            rows.append(row)
            bar.advance(task)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _metadata(path: Path) -> tuple[object, ...]:
    try:
        pixels = decode(path)
    except ImageError as error:
        return ("", "", 0, 0, 0, "", 0.0, 0, False, "", str(error))
    size = path.stat().st_size
    height, width = pixels.shape[:2]
    digest, issue = pixel_digest(pixels), image_issue(pixels)
    if is_dicom_file(path):
        return ("DICOM", "RGB", width, height, size, "", 0.0, 0, False, digest, issue)
    with open_image(path) as image:
        tables = getattr(image, "quantization", None) or {}
        flat = np.array([v for key in sorted(tables) for v in tables[key]], np.int64)
        mark = hashlib.blake2b(flat.tobytes(), digest_size=4).hexdigest() if len(flat) else ""
        orientation = orientation_of(image)
        issue = issue or ("" if image.mode in ("RGB", "RGBA", "P", "YCbCr", "CMYK") else f"no color: mode {image.mode}")
        return (
            str(image.format),
            image.mode,
            *image.size,
            size,
            mark,
            float(flat.mean()) if len(flat) else 0.0,
            orientation,
            "icc_profile" in image.info,
            digest,
            issue,
        )


def _flat_share(pixels: Pixels) -> float:
    """Return the share of blocks of 8 x 8 pixels that have one color, which is neither black nor white."""
    height, width = (side // 8 * 8 for side in pixels.shape[:2])
    blocks = pixels[:height, :width].reshape(height // 8, 8, width // 8, 8, 3)
    low, high = blocks.min((1, 3)), blocks.max((1, 3))
    flat = (low == high).all(-1) & (low.max(-1) > 10) & (low.min(-1) < 245)
    return float(flat.mean())


def image_issue(pixels: Pixels) -> str:
    """Return why an image, uint8 (h, w, 3), probably shows no lesion; an empty string where there is no reason."""
    step = max(1, min(pixels.shape[:2]) // 128)
    values: NDArray[np.int16] = pixels[::step, ::step].astype(np.int16)
    if float(np.percentile(values.mean(-1), 99)) < MAX_BLACK:
        return "nearly black"
    if float(values.mean(-1).std()) < MIN_STD:
        return "nearly uniform"
    if _flat_share(pixels) > MAX_FLAT:
        return "a large flat region, as a damaged file has"
    color = values.max(-1) - values.min(-1)
    if float(((values.min(-1) > 225) & (color < MAX_GRAY_DIFFERENCE * 2)).mean()) > MAX_WHITE:
        return "a document or a drawing: mostly white"
    return "no color" if float((color <= MAX_GRAY_DIFFERENCE).mean()) > 0.98 else ""
