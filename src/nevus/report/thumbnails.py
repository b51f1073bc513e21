"""Contact sheets: many small images with captions."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from nevus.data.images import decode
from nevus.errors import ImageError

THUMBNAIL_SIZE = 148


@dataclass(frozen=True)
class Tile:
    """One image of a sheet.

    Attributes:
        uri: JPEG data URI of at most `THUMBNAIL_SIZE` pixels a side.
        lines: of the caption.

    """

    uri: str
    lines: tuple[str, ...]


def tile(path: Path, *lines: str, image_size: int = THUMBNAIL_SIZE) -> Tile | None:
    """A thumbnail in the image's own proportions; None where it cannot be read."""
    try:
        image = Image.fromarray(decode(path))
    except ImageError:
        return None
    image.thumbnail((2 * image_size, 2 * image_size))  # twice, for dense screens
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80)
    return Tile("data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode(), lines)
