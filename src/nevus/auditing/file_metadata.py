"""What a file says before its picture is looked at, and what is odd about it."""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from nevus._progress import progress
from nevus.data.cache import pixel_digest
from nevus.data.dicom import is_dicom_file
from nevus.data.images import FORMATS, Pixels, decode
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
    "odd",
)
FLAT = 3.0
"""Standard deviation of the luminance, in gray levels, below which there is nothing to be seen."""
PAPER = 0.5
"""Share of nearly white, colorless pixels from which a picture is taken for a document or a drawing."""
COLORLESS = 6
"""Difference of a pixel's largest and smallest channel up to which it has no color."""


def file_metadata(manifest: Manifest) -> pd.DataFrame:
    """Read every file once.

    Returns:
        A row an image. `format` (JPEG, PNG, ... or DICOM), `mode` as Pillow names it, `width` and `height` in
        pixels as stored, `bytes`, `tables` (digest of the JPEG quantization tables, which tell the program that
        wrote the file), `coarseness` (their mean), EXIF `orientation`, whether there is a color `profile`,
        `digest` of the decoded pixels, and `odd`: what is wrong with it in a few words, or an empty string. What
        cannot be known is empty or 0.

    """
    with progress() as bar:
        task = bar.add_task("reading files", total=len(manifest), note="")
        rows = []
        for row in prefetch_map(_facts, manifest.paths):
            rows.append(row)
            bar.advance(task)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _facts(path: Path) -> tuple[object, ...]:
    try:
        pixels = decode(path)
    except ImageError as error:
        return ("", "", 0, 0, 0, "", 0.0, 0, False, "", str(error))
    size = path.stat().st_size
    height, width = pixels.shape[:2]
    digest, odd = pixel_digest(pixels), image_issue(pixels)
    if is_dicom_file(path):
        return ("DICOM", "RGB", width, height, size, "", 0.0, 0, False, digest, odd)
    with warnings.catch_warnings(), Image.open(path, formats=FORMATS) as image:
        warnings.simplefilter("ignore")
        tables = getattr(image, "quantization", None) or {}
        flat = np.array([v for key in sorted(tables) for v in tables[key]], np.int64)
        mark = hashlib.blake2b(flat.tobytes(), digest_size=4).hexdigest() if len(flat) else ""
        try:
            orientation = int(image.getexif().get(0x0112, 0) or 0)
        except Exception:  # EXIF is hostile input, too, and says no more than how the camera was held
            orientation = 0
        odd = odd or ("" if image.mode in ("RGB", "RGBA", "P", "YCbCr", "CMYK") else f"no color: mode {image.mode}")
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
            odd,
        )


def image_issue(pixels: Pixels) -> str:
    """Why an image, uint8 (h, w, 3), is no picture of a lesion; an empty string where nothing speaks against it."""
    step = max(1, min(pixels.shape[:2]) // 128)
    values: NDArray[np.int16] = pixels[::step, ::step].astype(np.int16)
    if float(values.mean(-1).std()) < FLAT:
        return "nearly uniform"
    color = values.max(-1) - values.min(-1)
    if float(((values.min(-1) > 225) & (color < COLORLESS * 2)).mean()) > PAPER:
        return "a document or a drawing: mostly white"
    return "no color" if float((color <= COLORLESS).mean()) > 0.98 else ""
