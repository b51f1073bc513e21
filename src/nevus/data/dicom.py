"""Which files are DICOM; `nevus.data.dicom_picture` reads them where pydicom is installed."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from nevus.errors import ImageError

MAGIC = b"DICM"
_PREAMBLE = 128


def is_dicom(content: bytes) -> bool:
    """Whether a file's bytes begin as a DICOM file's (PS3.10, section 7.1)."""
    return content[_PREAMBLE : _PREAMBLE + 4] == MAGIC


def is_dicom_file(path: Path | str) -> bool:
    """Whether a file begins as a DICOM file does; False where it cannot be read."""
    try:
        with open(path, "rb") as file:
            return is_dicom(file.read(_PREAMBLE + 4))
    except OSError:
        return False


def dicom_size(path: Path) -> tuple[int, int]:
    """Return width and height by a DICOM file's header.

    Raises:
        ImageError: pydicom is not installed.
        Exception: whatever a damaged file makes pydicom raise.

    """
    _need_pydicom(str(path))
    from nevus.data import dicom_picture as reader

    return reader.dicom_size(path)


def dicom_picture(content: bytes, name: str, most_pixels: int) -> Image.Image:
    """Read the first frame of a DICOM file; see `nevus.data.dicom_picture.dicom_picture`.

    Raises:
        ImageError: pydicom is not installed, or the frame cannot be used.
        Exception: whatever a damaged file makes pydicom raise.

    """
    _need_pydicom(name)
    from nevus.data import dicom_picture as reader

    return reader.dicom_picture(content, name, most_pixels)


def _need_pydicom(name: str) -> None:
    try:
        import pydicom  # noqa: F401 - whether it can be imported is the question
    except ImportError:
        raise ImageError(
            f'Cannot read {name}: pydicom is missing. Install it with pip install "nevus[dicom]".'
        ) from None
