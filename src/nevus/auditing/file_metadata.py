"""Metadata of image files, and problems of their content."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd

from nevus._progress import progress
from nevus.data.cache import pixel_digest
from nevus.data.dicom import is_dicom_file
from nevus.data.images import decode, open_image, orientation_of
from nevus.data.manifest import Manifest
from nevus.data.parallel import prefetch_map
from nevus.data.quality import image_issue
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
