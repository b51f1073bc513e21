"""DICOM files of dermoscopy and photographs: their first frame as a picture."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import config, dcmread
from pydicom.dataset import Dataset, FileDataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi_lut
from pydicom.pixels.utils import pixel_array
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEGBaseline8Bit, JPEGExtended12Bit

from nevus.errors import ImageError

# What matters of a file is said in our own sentences; odd values elsewhere in it are no reason to refuse it.
config.settings.reading_validation_mode = config.IGNORE


def dicom_size(path: Path) -> tuple[int, int]:
    """Width and height by a DICOM file's header.

    Raises:
        Exception: whatever a damaged file makes pydicom raise.

    """
    header = _opened(path.read_bytes(), str(path), header=True)
    return int(header.Columns), int(header.Rows)


def dicom_picture(content: bytes, name: str, most_pixels: int) -> Image.Image:
    """The first frame of a DICOM file, mode RGB or L, with its ICC profile in `info` where it has one.

    YBR and palette colors become RGB (PS3.3, section C.7.6.3.1.2). Gray values go through the modality and the
    VOI look-up, as a viewer shows them, and MONOCHROME1, where the least is white, is turned over.

    Args:
        content: the file.
        name: of the file, for errors.
        most_pixels: limit, checked on the header before anything is decoded.

    Raises:
        ImageError: it holds no picture, is too large, or is compressed in a way that cannot be read here.
        Exception: whatever a damaged file makes pydicom raise.

    """
    dataset = _opened(content, name)
    if "PixelData" not in dataset or "Rows" not in dataset or "Columns" not in dataset:
        raise ImageError(f"Cannot read '{name}': it is a DICOM file without a picture. Export the image itself.")
    pixels = int(dataset.Rows) * int(dataset.Columns)
    if pixels > most_pixels:
        raise ImageError(
            f"Cannot read '{name}': it has {dataset.Columns:,} x {dataset.Rows:,} pixels, over the limit of "
            f"{most_pixels:,}. Save it smaller."
        )
    frame = _first_frame(dataset, name)
    kind = str(dataset.PhotometricInterpretation)
    if kind == "PALETTE COLOR":
        frame = _to_8_bits(apply_color_lut(frame, dataset), int(dataset.RedPaletteColorLookupTableDescriptor[2]))
    elif frame.ndim == 3:
        frame = _to_8_bits(frame, int(dataset.BitsStored))
    elif kind in ("MONOCHROME1", "MONOCHROME2"):
        frame = _windowed(frame, dataset)
    else:
        raise ImageError(f"Cannot read '{name}': its colors are of the kind {kind[:30]}. Save it as RGB.")
    picture = Image.fromarray(np.ascontiguousarray(frame))
    if "ICCProfile" in dataset:
        picture.info["icc_profile"] = bytes(dataset.ICCProfile)
    return picture


def _opened(content: bytes, name: str, *, header: bool = False) -> FileDataset:
    # A file that is deflated as a whole may unfold to any size while it is opened. Its syntax is named in clear
    # text; that an honest file says the same somewhere else is rarer than that anyone deflates a photograph.
    if DeflatedExplicitVRLittleEndian.encode() in content:
        raise ImageError(f"Cannot read '{name}': it is deflated as a whole. Save it with another transfer syntax.")
    return dcmread(io.BytesIO(content), stop_before_pixels=header)


def _first_frame(dataset: FileDataset, name: str) -> NDArray[np.generic]:
    syntax = dataset.file_meta.TransferSyntaxUID
    try:
        readable = get_decoder(syntax).is_available
    except NotImplementedError:  # it knows no such syntax
        readable = False
    if not readable:
        raise ImageError(
            f"Cannot read '{name}': it is compressed as {syntax.name}, which cannot be decoded here. Save it as JPEG "
            "or uncompressed."
        )
    if syntax in (JPEGExtended12Bit, JPEGBaseline8Bit) and int(dataset.BitsStored) > 8:
        raise ImageError(
            f"Cannot read '{name}': it is a JPEG of {int(dataset.BitsStored)} bits, which cannot be decoded here. Save "
            "it uncompressed or as JPEG of 8 bits."
        )
    frames = int(dataset.get("NumberOfFrames") or 1)
    return pixel_array(dataset, index=0) if frames > 1 else pixel_array(dataset)


def _to_8_bits(values: NDArray[np.generic], bits: int) -> NDArray[np.uint8]:
    if values.dtype == np.uint8 and bits <= 8:
        return values.astype(np.uint8)
    return (values.astype(np.int64) >> max(0, bits - 8)).clip(0, 255).astype(np.uint8)


def _windowed(values: NDArray[np.generic], dataset: Dataset) -> NDArray[np.uint8]:
    shown = np.asarray(apply_voi_lut(apply_modality_lut(values, dataset), dataset), np.float64)
    low, high = shown.min(), shown.max()
    if "WindowCenter" not in dataset and "VOILUTSequence" not in dataset and "ModalityLUTSequence" not in dataset:
        # Nothing says what is shown as black and white: the range that the stored bits have.
        slope, level = float(dataset.get("RescaleSlope", 1)), float(dataset.get("RescaleIntercept", 0))
        signed = int(dataset.get("PixelRepresentation", 0))
        bits = int(dataset.BitsStored)
        low = (-(2 ** (bits - 1)) if signed else 0) * slope + level
        high = (2 ** (bits - 1) - 1 if signed else 2**bits - 1) * slope + level
    gray: NDArray[np.uint8] = ((shown - low) / max(high - low, 1e-9) * 255).round().clip(0, 255).astype(np.uint8)
    return np.uint8(255) - gray if dataset.PhotometricInterpretation == "MONOCHROME1" else gray
