"""The decoded images of a Manifest."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nevus._progress import console, progress
from nevus.data.cache import Cache
from nevus.data.images import Pixels, decode
from nevus.data.manifest import Manifest
from nevus.data.parallel import prefetch_map
from nevus.data.preprocess import Preprocess, resize_square
from nevus.errors import ImageError, NevusError


class DecodedImages:
    """Images as squares of one side, read from the cache when they are used: uint8 (n, image_size, image_size, 3).

    Memory holds a path and a digest for each image.

    Attributes:
        image_size: in pixels.
        digests: SHA-256 of each image's file, hexadecimal.

    """

    def __init__(self, paths: Sequence[Path], digests: Sequence[str], image_size: int, cache: Cache) -> None:
        self._paths, self.digests, self._cache = list(paths), list(digests), cache
        self.image_size = image_size

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, rows: slice | np.ndarray) -> Pixels:
        """Uint8 (rows, image_size, image_size, 3), a copy.

        Raises:
            NevusError: an image is no longer in the cache, and its file was changed or deleted.

        """
        numbers = np.arange(len(self))[rows]
        pixels = np.empty((len(numbers), self.image_size, self.image_size, 3), np.uint8)
        for place, row in enumerate(numbers):
            pixels[place] = self._one(int(row))
        return pixels

    def subset(self, rows: slice) -> DecodedImages:
        """Return a range of the images, or every k-th of them; nothing is read."""
        return DecodedImages(self._paths[rows], self.digests[rows], self.image_size, self._cache)

    def at_size(self, image_size: int) -> DecodedImages:
        """Return the same images at another size; nothing is read."""
        return DecodedImages(self._paths, self.digests, image_size, self._cache)

    def _one(self, row: int) -> Pixels:
        digest, path = self.digests[row], self._paths[row]
        pixels = self._cache.load_pixels(digest, self.image_size)
        if pixels is not None:
            return pixels
        try:
            unchanged = self._cache.file_digest(path) == digest
        except OSError:
            unchanged = False
        if not unchanged:
            raise NevusError(f"Cannot read '{path}': it was changed or deleted meanwhile. Restore it and start again.")
        pixels = Preprocess(self.image_size).pixels(path)
        self._cache.store_pixels(digest, pixels)
        return pixels


@dataclass(frozen=True)
class DecodedDataset:
    """The images of a Manifest that could be read.

    Attributes:
        manifest: their rows.
        pixels: in the same order, read from the cache when they are used.
        faults: one sentence for each image that cannot be used.

    """

    manifest: Manifest
    pixels: DecodedImages
    faults: tuple[str, ...]


def decode_dataset(
    manifest: Manifest,
    image_size: int,
    cache: Cache,
    *,
    also: Collection[int] = (),
    begin: float = 0.0,
    what: str = "decoding",
) -> DecodedDataset:
    """Decode every image to a square of `image_size` pixels in the cache; unusable ones are left out and reported.

    Args:
        manifest: the images.
        image_size: side of the squares, in pixels. For a training that takes crops it is larger than the network's.
        cache: of the squares.
        also: other sizes that will be needed, in pixels: each file is decoded once for all.
        begin: share of the images after which to begin, in a circle. Processes that begin at different places share
            the work, since each finds in the cache what another has decoded.
        what: title of the progress bar.

    Raises:
        NevusError: no image can be used.

    """

    def one(path: Path) -> str | ImageError:
        try:
            digest = cache.file_digest(path)
            missing = [size for size in sizes if not cache.has_pixels(digest, size)]
            if missing:
                pixels = decode(path)
                cache.store_pixels(digest, *(resize_square(pixels, size) for size in missing))
            return digest
        except ImageError as error:
            return error
        except (OSError, ValueError):  # the decoder reports the reason
            try:
                decode(path)
            except ImageError as error:
                return error
            return ImageError(f"Cannot read '{path}': it changed while it was read. Try again.")

    sizes = sorted({image_size, *also})
    paths = manifest.paths
    order = np.roll(np.arange(len(paths)), -int(begin * len(paths)))
    digests: dict[int, str] = {}
    faults: dict[int, str] = {}
    with progress() as bar:
        task = bar.add_task(what, total=len(manifest), note="")
        for row, result in zip(order.tolist(), prefetch_map(one, (paths[row] for row in order)), strict=True):
            if isinstance(result, ImageError):
                faults[row] = str(result)
            else:
                digests[row] = result
            bar.advance(task)
    errors = tuple(faults[row] for row in sorted(faults))
    if not digests:
        raise NevusError(f"Cannot use any of the {len(manifest)} images of {manifest.name}. The first: {errors[0]}")
    if errors:
        console.print(f"{len(errors)} of {len(manifest)} images cannot be used. The first: {errors[0]}")
    rows = sorted(digests)
    kept = manifest.where(np.isin(np.arange(len(paths)), rows))
    return DecodedDataset(kept, DecodedImages(kept.paths, [digests[row] for row in rows], image_size, cache), errors)
