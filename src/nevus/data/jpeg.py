"""The structure of JPEG files: their EXIF data, and whether their image data are complete."""

from __future__ import annotations

import io
import re

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_SOI, _EOI, _SOS, _SOF2 = 0xD8, 0xD9, 0xDA, 0xC2
_LAST_BITS = b"\x10"
"""Ah and Al, four bits each, of a scan that sends bit 0 of coefficients whose bit 1 is known."""
_UNSENT = 16
"""More bits than a coefficient has."""
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7]")
_WITHOUT_LENGTH = {0x01, _SOI, *range(0xD0, 0xD8)}
_CORNER = 4
"""Pixels of the last block that are compared: at its other sides color is interpolated with its neighbors'."""
_EXTRA = b"\x5a\xa5\x3c\xc3" * 64
"""Bytes that continue any entropy-coded segment; none of them is a marker."""


def is_truncated(content: bytes, pixels: NDArray[np.uint8], progressive: bool) -> bool:
    """Return whether the entropy-coded data of a JPEG end before its last block.

    A decoder needs no byte after the last block of an image. So further data in front of the end marker change no
    pixel of a complete file, and change those of a truncated one. That takes a second decoding, and is tried only
    where the last block is flat, as a decoder leaves a missing one, and for progressive files, unless they end in a
    scan that sends the last bits of coefficients: nothing more can be missing there.

    Args:
        content: the file.
        pixels: decoded, uint8 (h, w, channels) or (h, w), before any rotation.
        progressive: whether the file is progressive: missing data then blur the image, and leave nothing flat.

    """
    corner = pixels[-_CORNER:, -_CORNER:]
    if not progressive and (corner != corner[-1, -1]).any():
        return False
    end, last_bits = _end_of_image(content)
    if end is None or (progressive and last_bits):
        return False  # without an end marker Pillow itself reports truncated files
    with Image.open(io.BytesIO(content[:end] + _EXTRA + content[end:]), formats=("JPEG",)) as image:
        try:
            image.load()
        except (OSError, SyntaxError, ValueError):
            return True
        return not np.array_equal(np.asarray(image), pixels)


def without_exif(content: bytes) -> tuple[bytes, bytes]:
    """Return a JPEG file without its EXIF segments, and the data of the first one; other files unchanged."""
    if not content.startswith(b"\xff\xd8\xff"):
        return content, b""
    kept, exif, place = [content[:2]], b"", 2
    while place + 4 <= len(content) and content[place] == 0xFF and 0xE0 <= content[place + 1] <= 0xEF:
        end = place + 2 + int.from_bytes(content[place + 2 : place + 4], "big")
        segment = content[place:end]
        if segment[1] == 0xE1 and segment[4:10] == b"Exif\0\0":
            exif = exif or segment[4:]
        else:
            kept.append(segment)
        place = max(end, place + 4)
    return (b"".join([*kept, content[place:]]), exif) if exif else (content, b"")


def _end_of_image(content: bytes) -> tuple[int | None, bool]:
    """Return the place of the end marker of the first image in a file, and whether only last bits can be missing.

    A progressive file sends coefficients 0 to 63 of each component without their last bits first, and refines them
    (ITU-T T.81, G.1.1). Only last bits can be missing where the last scan sends them and all others are known.
    """
    place, components, lacking, last = 2, 0, dict[int, list[int]](), b""
    while place + 4 <= len(content):
        if content[place] != 0xFF:
            return None, False
        marker = content[place + 1]
        if marker == 0xFF:  # fill bytes
            place += 1
            continue
        if marker == _EOI:
            break
        if marker in _WITHOUT_LENGTH:
            place += 2
            continue
        end = place + 2 + int.from_bytes(content[place + 2 : place + 4], "big")
        segment, place = content[place + 4 : end], end
        if marker == _SOF2 and len(segment) > 5:
            components = segment[5]
        if marker == _SOS:
            _note_scan(segment, lacking)
            last = segment[-1:]
            found = _next_marker(content, place)
            if found is None:
                return None, False
            place = found
    known = len(lacking) == components and all(max(bits) <= 1 for bits in lacking.values())
    return (place if content[place : place + 2] == b"\xff\xd9" else None), last == _LAST_BITS and known


def _note_scan(segment: bytes, lacking: dict[int, list[int]]) -> None:
    """Note how many bits of which coefficients a scan leaves to later ones, by component (ITU-T T.81, B.2.3)."""
    if len(segment) < 4:
        return
    first, final, bits = segment[-3], segment[-2], segment[-1] & 15
    for component in segment[1:-3:2]:
        of = lacking.setdefault(component, [_UNSENT] * 64)
        for coefficient in range(first, min(final, 63) + 1):
            of[coefficient] = bits


def _next_marker(content: bytes, place: int) -> int | None:
    """Return the place of the next marker after entropy-coded data; stuffed bytes and restarts are part of these."""
    found = _MARKER.search(content, place)
    return found.start() if found else None
