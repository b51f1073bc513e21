"""Safe decoding: any image file, PIL image or array to 8-bit RGB."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from nevus.data.dicom import dicom_picture, dicom_size, is_dicom, is_dicom_file
from nevus.errors import ImageError

FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "BMP")
"""What Pillow may try: each format is an attack surface, so only those that lesion images come in. (Its JPEG
reader gives MPO for the JPEG with a preview that some cameras and telephones write.)"""
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp", ".dcm", ".dicom"})

Pixels = NDArray[np.uint8]
"""Decoded image: uint8, shape (height, width, 3), sRGB."""
Source = Path | str | Image.Image | np.ndarray


@dataclass(frozen=True)
class Limits:
    """What an untrusted image may be.

    Attributes:
        pixels: most pixels, checked on the header before anything is decoded. The default is 268 MB of
            RGB; Pillow itself warns from there on.
        bytes: largest file.
        image_size: shortest side, in pixels; less shows no lesion.

    """

    pixels: int = 89_478_485
    bytes: int = 256 * 1024 * 1024
    image_size: int = 16


LIMITS = Limits()


def named_as_image(path: Path | str) -> bool:
    """Whether a file is to be taken for an image: by its suffix, or, of a name such as `IM0001` or
    `1.2.840.113619`, by the mark that a DICOM file begins with.
    """
    suffix = os.path.splitext(path)[1].lower()
    if suffix in SUFFIXES:
        return True
    return (not suffix or suffix[1:].isdigit()) and is_dicom_file(path)


def size_of(path: Path) -> tuple[int, int]:
    """Width and height by a file's header; nothing is decoded.

    Raises:
        Exception: whatever Pillow or pydicom meets in a hostile file.

    """
    if is_dicom_file(path):
        return dicom_size(path)
    with Image.open(path, formats=FORMATS) as image:
        return image.size


def decode(source: Source, limits: Limits = LIMITS) -> Pixels:
    """Decode to uint8 RGB of shape (height, width, 3).

    EXIF orientation and an embedded ICC profile are applied (to sRGB), transparency is laid over white, 16
    bits are scaled to 8, CMYK, palette, YBR and gray become RGB. Of a DICOM file with several frames the first
    is taken.

    Args:
        source: path, PIL image, or array: uint8 of shape (h, w), (h, w, 3) or (h, w, 4).
        limits: see `Limits`.

    Raises:
        ImageError: with one sentence that names the file and says what is wrong with it.

    """
    if isinstance(source, np.ndarray):
        return _from_array(source, limits)
    if isinstance(source, Image.Image):
        return _guarded(source, "the image", limits)
    if not isinstance(source, str | Path):
        raise ImageError(f"{type(source).__name__} is no image; give a path, a PIL image or a uint8 array.")
    path = Path(source)
    name = str(path)
    try:
        size = path.stat().st_size
        if path.is_dir():
            raise ImageError(f"{name} is a folder, not an image.")
        if size == 0:
            raise ImageError(f"{name} is empty (0 bytes); get the file again.")
        if size > limits.bytes:
            raise ImageError(f"{name} has {size:,} bytes, over the limit of {limits.bytes:,}; save it smaller.")
        content = path.read_bytes()
    except FileNotFoundError:
        raise ImageError(f"{name} does not exist.") from None
    except OSError as error:
        raise ImageError(f"{name[:200]} cannot be read: {error.strerror}.") from None
    except ValueError:
        raise ImageError(f"{name!a} is no path.") from None
    try:
        if is_dicom(content):
            image: Image.Image = dicom_picture(content, name, limits.pixels)
        else:
            image = Image.open(io.BytesIO(content), formats=FORMATS)
    except ImageError:
        raise
    except UnidentifiedImageError:
        raise ImageError(f"{name} is no JPEG, PNG, TIFF, WebP, BMP or DICOM image, whatever its name says.") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ImageError(f"{name} is over the limit of {limits.pixels:,} pixels; save it smaller.") from None
    except Exception as error:  # see _guarded
        raise ImageError(f"{name} is damaged ({_short(error)}); get the file again.") from None
    with image:
        return _guarded(image, name, limits)


def _guarded(image: Image.Image, name: str, limits: Limits) -> Pixels:
    width, height = image.size
    if width * height > limits.pixels:
        raise ImageError(
            f"{name} is {width:,} x {height:,} pixels, over the limit of {limits.pixels:,}; save it smaller."
        )
    if min(width, height) < limits.image_size:
        raise ImageError(f"{name} is {width} x {height} pixels; at least {limits.image_size} a side are needed.")
    try:
        frames = int(getattr(image, "n_frames", 1))
    except Exception as error:  # it walks through the file; see below
        raise ImageError(f"{name} is damaged ({_short(error)}); get the file again.") from None
    if image.format != "MPO" and frames > 1:
        raise ImageError(f"{name} is animated or has several pages ({frames}); save one as a still image.")
    try:
        return np.asarray(_to_rgb(image))
    except Exception as error:
        # Pillow's decoders meet hostile bytes here and raise OSError, SyntaxError, ValueError, struct.error,
        # EOFError, IndexError, KeyError, TypeError, MemoryError and others: each means the same to the user.
        raise ImageError(f"{name} is damaged ({_short(error)}); get the file again.") from None


def _to_rgb(image: Image.Image) -> Image.Image:
    image.load()
    profile = image.info.get("icc_profile")
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):
        wide = np.asarray(image).astype(np.uint32)
        image = Image.fromarray(((wide * 255 + 32767) // 65535).astype(np.uint8))
    elif image.mode in ("I", "F"):
        image = _from_wide(image)
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "RGBa", "La"):
        color = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), color).convert("RGB")
    elif image.mode in ("P", "1"):
        image = image.convert("RGB")
    if profile:
        image = _to_srgb(image, profile)
    return image.convert("RGB")


def _from_wide(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    if image.mode == "F" or values.min() < 0 or values.max() > 65535:
        raise ValueError(f"pixels of mode {image.mode} with no known range")
    return Image.fromarray((values.astype(np.uint32) * 255 // 65535).astype(np.uint8))


def _to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    try:
        theirs = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        ours = ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, theirs, ours, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return image  # a profile that is damaged or of another color space says nothing: take the numbers as sRGB
    return converted or image


def _from_array(array: np.ndarray, limits: Limits) -> Pixels:
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        raise ImageError(
            f"an array of dtype {array.dtype} and shape {array.shape} is no image; give uint8 of shape "
            "(height, width, 3), values 0 to 255."
        )
    return _guarded(Image.fromarray(array), "the array", limits)


def _short(error: BaseException) -> str:
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    return text.strip().rstrip(".")[:120]
