"""Safe decoding: any image file, PIL image or array to 8-bit RGB."""

from __future__ import annotations

import io
import os
import struct
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, UnidentifiedImageError

from nevus.data.dicom import dicom_picture, dicom_size, is_dicom, is_dicom_file
from nevus.data.jpeg import is_truncated, without_exif
from nevus.errors import ImageError

FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF", "JPEG2000", "AVIF")
"""Formats that Pillow may try: each is an attack surface, so only those that lesion images come in. (Its JPEG reader
gives MPO for the JPEG with a preview that some cameras and phones write. HEIC files are read by pi-heif.)"""
SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jfif", ".jpe", ".png", ".tif", ".tiff", ".webp", ".bmp", ".gif", ".jp2", ".heic", ".heif"}
    | {".avif", ".dcm", ".dicom"}
)
"""Suffixes of image files, in lower case."""
HEIF_SUFFIXES = (".heic", ".heif")
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1")

Pixels = NDArray[np.uint8]
"""Decoded image: uint8, shape (height, width, 3), sRGB."""
Source = Path | str | Image.Image | np.ndarray


@dataclass(frozen=True)
class Limits:
    """Limits of an untrusted image.

    Attributes:
        pixels: largest number of pixels, checked on the header before anything is decoded. The default is 268 MB of
            RGB; Pillow itself warns from there on.
        bytes: largest file.
        min_side: shortest side in pixels; less shows no lesion.

    """

    pixels: int = 89_478_485
    bytes: int = 256 * 1024 * 1024
    min_side: int = 16


LIMITS = Limits()


def named_as_image(path: Path | str) -> bool:
    """Return whether a file is an image by its suffix or, without one (`IM0001`, `1.2.840.113619`), a DICOM file."""
    suffix = os.path.splitext(path)[1].lower()
    if suffix in SUFFIXES:
        return True
    return (not suffix or suffix[1:].isdigit()) and is_dicom_file(path)


def size_of(path: Path) -> tuple[int, int]:
    """Return width and height by a file's header; nothing is decoded.

    Raises:
        ImageError: the header cannot be read.

    """
    try:
        if is_dicom_file(path):
            return dicom_size(path)
        with open_image(path) as image:
            return image.size
    except Exception as error:  # see _guarded
        raise _damaged(str(path), _short(error)) from None


def open_image(path: Path) -> Image.Image:
    """Open an image file other than DICOM without decoding it, for its metadata.

    Raises:
        Exception: whatever Pillow meets in a hostile file.

    """
    return open_content(path.read_bytes(), str(path))


def open_content(content: bytes, name: str) -> Image.Image:
    """Open the content of an image file without decoding it; EXIF data are in `info` and are not read.

    Raises:
        Exception: whatever Pillow meets in a hostile file.

    """
    rest, exif = without_exif(content)  # Pillow would read the resolution there, and warn of every odd entry
    image = Image.open(io.BytesIO(rest), formats=_formats(content[:12], name))
    if exif:
        image.info["exif"] = exif
    return image


def decode(source: Source, limits: Limits = LIMITS) -> Pixels:
    """Decode to uint8 RGB of shape (height, width, 3).

    EXIF orientation and an embedded ICC profile are applied (to sRGB), transparency is composed over white, 16 bits
    are scaled to 8 by the range that the file states, CMYK, palette, YBR and gray become RGB. Of a DICOM file with
    several frames and of a GIF the first frame is used.

    Args:
        source: path, PIL image, or array: uint8 of shape (h, w), (h, w, 3) or (h, w, 4).
        limits: see `Limits`.

    Raises:
        ImageError: one sentence with the file and the reason.

    """
    if isinstance(source, np.ndarray):
        return _from_array(source, limits)
    if isinstance(source, Image.Image):
        return _guarded(source, "the image", limits)
    if not isinstance(source, str | Path):
        raise ImageError(f"Cannot read {type(source).__name__}: it is no image. Give a path, PIL image or uint8 array.")
    return decode_content(_content(source, limits), str(source), limits)


def decode_content(content: bytes, name: str, limits: Limits = LIMITS) -> Pixels:
    """Decode the content of an image file, as `decode` does.

    Args:
        content: of the file.
        name: of the file, for messages.
        limits: see `Limits`; of `bytes` and `pixels` whichever is met first counts.

    Raises:
        ImageError: one sentence with the name and the reason.

    """
    if not content:
        raise ImageError(f"Cannot read '{name}': it is empty (0 bytes). Get the file again.")
    if len(content) > limits.bytes:
        raise ImageError(f"Cannot read '{name}': it has more than {limits.bytes:,} bytes. Save it smaller.")
    try:
        if is_dicom(content):
            image: Image.Image = dicom_picture(content, name, limits.pixels)
        else:
            image = open_content(content, name)
    except ImageError:
        raise
    except UnidentifiedImageError:
        raise ImageError(
            f"Cannot read '{name}': it is no JPEG, PNG, TIFF, WebP, BMP, GIF, JPEG 2000, AVIF, HEIC or DICOM image, "
            "whatever its name."
        ) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ImageError(f"Cannot read '{name}': it has more than {limits.pixels:,} pixels. Save it smaller.") from None
    except Exception as error:  # see _guarded
        raise _damaged(name, _short(error)) from None
    with image:
        return _guarded(image, name, limits, content)


def _content(source: Path | str, limits: Limits) -> bytes:
    path, name = Path(source), str(source)
    try:
        size = path.stat().st_size
        if path.is_dir():
            raise ImageError(f"Cannot read '{name}': it is a folder, not an image.")
        if size == 0:
            raise ImageError(f"Cannot read '{name}': it is empty (0 bytes). Get the file again.")
        if size > limits.bytes:
            raise ImageError(f"Cannot read '{name}': it has more than {limits.bytes:,} bytes. Save it smaller.")
        return path.read_bytes()
    except FileNotFoundError:
        raise ImageError(f"Cannot read '{name}': it does not exist.") from None
    except OSError as error:
        raise ImageError(f"Cannot read '{name[:200]}': {error.strerror}.") from None
    except ValueError:
        raise ImageError(f"Cannot read {name!a}: it is no path.") from None


def _damaged(name: str, reason: str) -> ImageError:
    return ImageError(f"Cannot read '{name}': it is damaged ({reason}). Get the file again.")


@cache
def _heif_opener() -> bool:
    try:
        from pi_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener()
    return True


def _formats(head: bytes, name: str) -> tuple[str, ...]:
    if head[4:8] != b"ftyp" or head[8:12] not in _HEIF_BRANDS:
        return FORMATS
    if not _heif_opener():
        raise ImageError(f"Cannot read '{name}': pi-heif is missing. Install it with pip install \"nevus[heic]\".")
    return ("HEIF",)


def _guarded(image: Image.Image, name: str, limits: Limits, content: bytes | None = None) -> Pixels:
    width, height = image.size
    if width * height > limits.pixels:
        raise ImageError(
            f"Cannot read '{name}': it has {width:,} x {height:,} pixels, more than {limits.pixels:,}. Save it smaller."
        )
    if min(width, height) < limits.min_side:
        raise ImageError(
            f"Cannot read '{name}': it has {width} x {height} pixels, fewer than {limits.min_side} a side."
        )
    try:
        frames = int(getattr(image, "n_frames", 1))
    except Exception as error:  # it walks through the file; see below
        raise _damaged(name, _short(error)) from None
    if image.format not in ("MPO", "GIF") and frames > 1:
        raise ImageError(
            f"Cannot read '{name}': it is animated or has several pages ({frames}). Save one as a still image."
        )
    try:
        image.load()
        progressive = "progressive" in image.info
        if content and image.format in ("JPEG", "MPO") and is_truncated(content, np.asarray(image), progressive):
            raise ValueError("its data end before the last block")
        return np.asarray(_to_rgb(image, content))
    except ImageError as error:
        raise ImageError(f"Cannot read '{name}': {error}.") from None
    except Exception as error:
        # Pillow's decoders meet hostile bytes here and raise OSError, SyntaxError, ValueError, struct.error,
        # EOFError, IndexError, KeyError, TypeError, MemoryError and others: each means the same to the user.
        raise _damaged(name, _short(error)) from None


_ORIENTATIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def orientation_of(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8; 1 where it is not stated. Other EXIF data are not read."""
    exif = image.info.get("exif")
    if isinstance(exif, bytes):
        return _exif_orientation(exif.removeprefix(b"Exif\0\0"))
    try:
        value = image.getexif().get(0x0112, 1)
    except Exception:  # metadata never decide whether pixels can be used
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _exif_orientation(tiff: bytes) -> int:
    """Read the tag Orientation of the first directory (TIFF 6.0, section 2), and nothing else."""
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None or len(tiff) < 8:
        return 1
    place = struct.unpack(order + "I", tiff[4:8])[0]
    if place + 2 > len(tiff):
        return 1
    count = struct.unpack(order + "H", tiff[place : place + 2])[0]
    for entry in range(place + 2, min(place + 2 + 12 * count, len(tiff) - 11), 12):
        tag, kind = struct.unpack(order + "HH", tiff[entry : entry + 4])
        if tag == 0x0112:
            value = struct.unpack(
                order + ("I" if kind == 4 else "H"), tiff[entry + 8 : entry + (12 if kind == 4 else 10)]
            )
            return value[0] if kind in (3, 4) and 1 <= value[0] <= 8 else 1
    return 1


def _to_rgb(image: Image.Image, content: bytes | None) -> Image.Image:
    profile = image.info.get("icc_profile")
    orientation, heif = orientation_of(image), image.format == "HEIF"
    largest = _largest_value(image, content)
    if not heif and orientation in _ORIENTATIONS:  # libheif has applied it
        image = image.transpose(_ORIENTATIONS[orientation])
    if image.mode.startswith("I;16"):
        wide = np.asarray(image).astype(np.uint32).clip(max=largest)
        image = Image.fromarray(((wide * 255 + largest // 2) // largest).astype(np.uint8))
    elif image.mode in ("I", "F"):
        image = _from_wide(image, largest)
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "RGBa", "La"):
        color = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), color).convert("RGB")
    elif image.mode in ("P", "1"):
        image = image.convert("RGB")
    if profile:
        image = _to_srgb(image, profile)
    return image.convert("RGB")


def _largest_value(image: Image.Image, content: bytes | None) -> int:
    """Return the largest value of 16-bit pixels: as TIFF's MaxSampleValue or PNG's sBIT state it, else 65,535."""
    stated: Any = None
    if image.format == "TIFF":
        stated = getattr(image, "tag_v2", {}).get(281)
    elif image.format == "PNG" and content:
        chunk = content.find(b"sBIT", 0, 4096)
        if chunk > 0 and 8 < content[chunk + 4] < 16:
            stated = 2 ** content[chunk + 4] - 1
    values = stated if isinstance(stated, tuple) else (stated,)
    if not values or not isinstance(values[0], int) or not 255 < values[0] < 65535:
        return 65535
    largest = int(values[0])
    # PNG scales smaller samples to 16 bits by a shift (PNG specification, 13.12), unless its writer did not.
    return largest if int(np.asarray(image).max()) <= largest else 65535


def _from_wide(image: Image.Image, largest: int) -> Image.Image:
    values = np.asarray(image)
    if image.mode == "F" or values.min() < 0 or values.max() > 65535:
        raise ImageError("its pixels have no known range: save it with 8 or 16 bits")
    return Image.fromarray((values.clip(max=largest).astype(np.uint32) * 255 // largest).astype(np.uint8))


def _to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    try:
        theirs = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        ours = ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, theirs, ours, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return image  # a damaged profile, or one of another color space: the values are taken as sRGB
    return converted or image


def _from_array(array: np.ndarray, limits: Limits) -> Pixels:
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        raise ImageError(
            f"Cannot use an array of dtype {array.dtype} and shape {array.shape} as an image. Give uint8 of shape "
            "(height, width, 3), values 0 to 255."
        )
    return _guarded(Image.fromarray(array), "the array", limits)


def _short(error: BaseException) -> str:
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    return text.strip().rstrip(".")[:120]
