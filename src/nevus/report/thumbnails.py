"""Contact sheets: many small images with captions."""

from __future__ import annotations

import base64
import io
import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

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
        href: of the image file; empty where it is not linked.

    """

    uri: str
    lines: tuple[str, ...]
    href: str = ""


def tile(path: Path, *lines: str, image_size: int = THUMBNAIL_SIZE, link_from: Path | None = None) -> Tile | None:
    """Make a thumbnail in the image's own proportions; None where it cannot be read.

    Args:
        path: of the image.
        lines: of the caption.
        image_size: largest side in pixels.
        link_from: folder of the page, which then links to the file.

    """
    try:
        image = Image.fromarray(decode(path))
    except ImageError:
        return None
    image.thumbnail((2 * image_size, 2 * image_size))  # twice, for dense screens
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80)
    return Tile("data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode(), lines, _href(path, link_from))


def _href(path: Path, folder: Path | None) -> str:
    if folder is None:
        return ""
    try:
        return quote(Path(os.path.relpath(path.absolute(), folder.absolute())).as_posix())
    except (ValueError, UnicodeEncodeError):  # another drive, or a name that is not UTF-8
        return ""
