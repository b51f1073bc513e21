"""Descriptors of images that are similar for other images of the same lesion: perceptual hash and key points."""

from __future__ import annotations

import hashlib
import os
import threading
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from nevus._progress import progress
from nevus.data.decoded import DecodedImages
from nevus.data.images import Pixels
from nevus.data.parallel import prefetch_map
from nevus.data.perceptual_hash import FREQUENCIES, gray, perceptual_hash
from nevus.errors import NevusError

BLACK_LEVEL = 50
"""Luminance below which a region that reaches a corner is the black around the field of view."""
BLACK_MARGIN = 21
"""Width in pixels by which that region is dilated: its edge is soft."""
MAX_KEYPOINTS = 128
"""Largest number of key points of an image, the strongest first."""

_local = threading.local()
_ZEROS = 1 << 20


@dataclass(frozen=True)
class ImageDescriptors:
    """Descriptors of n images; those of key points are mapped into memory from a file.

    Attributes:
        squares: the images.
        digests: of each square's pixels, hexadecimal. They define an order that does not depend on that of the files.
        fingerprints: float32 (n, 143), of length 1: see `nevus.data.perceptual_hash`.
        places: float32 (n, MAX_KEYPOINTS, 2), x and y of each key point in pixels of the square.
        descriptors: uint8 (n, MAX_KEYPOINTS, 128): the square roots of SIFT's histograms (Arandjelovic and
            Zisserman 2012), times 255.
        counts: number of key points of each image.

    """

    squares: DecodedImages
    digests: list[str]
    fingerprints: NDArray[np.float32]
    places: NDArray[np.float32]
    descriptors: NDArray[np.uint8]
    counts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.digests)


def describe_images(squares: DecodedImages, folder: Path) -> ImageDescriptors:
    """Compute the descriptors of every image.

    Args:
        squares: of `AUDIT_IMAGE_SIZE` pixels.
        folder: an empty folder for the descriptors of key points, about 17 kB an image.

    """
    n = len(squares)
    descriptors = _allocated(folder / "descriptors", (n, MAX_KEYPOINTS, 128))
    places = np.zeros((n, MAX_KEYPOINTS, 2), np.float32)
    fingerprints = np.zeros((n, FREQUENCIES**2 - 1), np.float32)
    counts = np.zeros(n, np.int64)
    digests = [""] * n

    def one_image(row: int) -> None:
        pixels = squares[row : row + 1][0]
        digests[row] = hashlib.blake2b(pixels.tobytes(), digest_size=16).hexdigest()
        fingerprints[row] = perceptual_hash(pixels)
        at, what = key_points(pixels)
        counts[row] = len(at)
        places[row, : len(at)], descriptors[row, : len(at)] = at, what

    with progress() as bar:
        task = bar.add_task("describing images", total=n, note="")
        for _ in prefetch_map(one_image, range(n)):
            bar.advance(task)
    return ImageDescriptors(squares, digests, fingerprints, places, np.asarray(descriptors), counts)


def _allocated(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Map a new file whose space is allocated: a full disk is then an error here, and no signal later.

    Raises:
        NevusError: there is not enough space.

    """
    size = int(np.prod(shape))
    try:
        with path.open("wb") as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                for start in range(0, size, _ZEROS):
                    file.write(bytes(min(_ZEROS, size - start)))
        return np.memmap(path, np.uint8, "r+", shape=shape)
    except OSError as error:
        raise NevusError(
            f"Cannot write '{path.parent}': {error.strerror} ({size / 1e6:,.0f} MB are needed). Free space, or set "
            "NEVUS_CACHE to another folder."
        ) from None


def field_of_view_mask(picture: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return where a luminance image (image_size, image_size) shows skin.

    The black around a dermoscope's round field of view and its edge are excluded: they are at the same place in all
    images of an instrument.
    """
    dark = np.asarray(picture < BLACK_LEVEL, np.uint8)
    corners = np.ix_([0, -1], [0, -1])
    if not dark[corners].any():
        return np.ones(picture.shape, bool)
    _, parts = cv2.connectedComponents(dark)
    outside = np.unique(parts[corners])
    black = np.isin(parts, outside[outside > 0]).astype(np.uint8)
    return np.asarray(
        cv2.dilate(black, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (BLACK_MARGIN, BLACK_MARGIN))) == 0
    )


def key_points(pixels: Pixels) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Detect SIFT key points (Lowe 2004), the strongest first.

    Skin has little contrast: the threshold on it is an eighth of the usual one.

    Returns:
        Places (k, 2) and descriptors (k, 128), k at most `MAX_KEYPOINTS`.

    """
    if not hasattr(_local, "sift"):  # it holds buffers: one a thread
        _local.sift = cv2.SIFT.create(nfeatures=MAX_KEYPOINTS, contrastThreshold=0.005, edgeThreshold=20)
    picture = gray(pixels)
    points, found = _local.sift.detectAndCompute(picture, field_of_view_mask(picture).astype(np.uint8))
    if found is None:
        return np.zeros((0, 2), np.float32), np.zeros((0, 128), np.uint8)
    order = np.lexsort([[p.pt[1] for p in points], [p.pt[0] for p in points], [-p.response for p in points]])[
        :MAX_KEYPOINTS
    ]
    places = np.array([points[k].pt for k in order], np.float32)
    found = np.sqrt(found[order] / np.maximum(found[order].sum(1, keepdims=True), 1e-6))
    return places, np.round(found * 255).clip(0, 255).astype(np.uint8)
