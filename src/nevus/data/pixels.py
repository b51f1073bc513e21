"""The decoded images of a Manifest."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nevus.data.images import Pixels
from nevus.data.manifest import Manifest
from nevus.data.preprocess import Preprocess
from nevus.errors import ImageError, NevusError
from nevus.progress import console, progress


@dataclass(frozen=True)
class Decoded:
    """The images of a Manifest that could be read.

    Attributes:
        manifest: their rows.
        pixels: uint8 of shape (n, side, side, 3), in the same order.
        faults: one sentence for each image that could not be used.

    """

    manifest: Manifest
    pixels: Pixels
    faults: tuple[str, ...]


def decode_all(manifest: Manifest, side: int, *, what: str = "decoding") -> Decoded:
    """Decode every image to a square of `side` pixels; bad ones are left out and reported.

    Raises:
        NevusError: none could be read.

    """
    pixels = np.empty((len(manifest), side, side, 3), np.uint8)
    good = np.zeros(len(manifest), bool)
    faults = []
    with progress() as bar:
        task = bar.add_task(what, total=len(manifest), note="")
        for index, image in enumerate(Preprocess(side).stream(manifest.paths)):
            if isinstance(image, ImageError):
                faults.append(str(image))
            else:
                pixels[index] = image
                good[index] = True
            bar.advance(task)
    if not good.any():
        raise NevusError(
            f"none of the {len(manifest)} images of {manifest.name} can be used; the first: {faults[0]}"
        )
    if faults:
        console.print(
            f"{len(faults)} of {len(manifest)} images cannot be used and are left out; the first: {faults[0]}",
        )
    return Decoded(manifest.where(good), pixels if good.all() else pixels[good], tuple(faults))
