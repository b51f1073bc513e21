"""The decoded images of a Manifest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nevus._progress import console, progress
from nevus.data.cache import Cache
from nevus.data.images import Pixels
from nevus.data.manifest import Manifest
from nevus.data.parallel import prefetch_map
from nevus.data.preprocess import Preprocess
from nevus.errors import ImageError, NevusError


class DecodedImages:
    """Images as squares of one side, read from the cache as they are wanted: uint8 (n, image_size, image_size, 3).

    What is held in memory is a name and a digest for each image.

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
            NevusError: an image is no longer in the cache, and its file has changed or gone.

        """
        wanted = np.arange(len(self))[rows]
        found = np.empty((len(wanted), self.image_size, self.image_size, 3), np.uint8)
        for place, row in enumerate(wanted):
            found[place] = self._one(int(row))
        return found

    def subset(self, rows: slice) -> DecodedImages:
        """A stretch of the images; nothing is read."""
        return DecodedImages(self._paths[rows], self.digests[rows], self.image_size, self._cache)

    def at_size(self, image_size: int) -> DecodedImages:
        """The same images at another side; nothing is read."""
        return DecodedImages(self._paths, self.digests, image_size, self._cache)

    def _one(self, row: int) -> Pixels:
        digest, path = self.digests[row], self._paths[row]
        pixels = self._cache.load(digest, self.image_size)
        if pixels is not None:
            return pixels
        try:
            unchanged = self._cache.digests.of(path) == digest
        except OSError:
            unchanged = False
        if not unchanged:
            raise NevusError(f"{path} has changed or gone since it was first read; put it back and begin again.")
        pixels = Preprocess(self.image_size).pixels(path)
        self._cache.store(digest, pixels)
        return pixels


@dataclass(frozen=True)
class DecodedDataset:
    """The images of a Manifest that could be read.

    Attributes:
        manifest: their rows.
        pixels: uint8 of shape (n, image_size, image_size, 3), in the same order.
        faults: one sentence for each image that could not be used.

    """

    manifest: Manifest
    pixels: DecodedImages
    faults: tuple[str, ...]


def decode_dataset(
    manifest: Manifest, image_size: int, cache: Cache, *, begin: float = 0.0, what: str = "decoding"
) -> DecodedDataset:
    """Have every image as a square of `image_size` pixels in the cache; bad ones are left out and reported.

    Args:
        manifest: which images.
        image_size: in pixels.
        cache: keeps the squares.
        begin: share of the images after which to begin, in a circle. Several processes that begin at different
            places share the work: each finds in the cache what another has decoded.
        what: is shown beside the progress bar.

    Raises:
        NevusError: none could be read.

    """

    def one(path: Path) -> str | ImageError:
        try:
            digest = cache.digests.of(path)
            if not cache.has(digest, image_size):
                cache.store(digest, Preprocess(image_size).pixels(path))
            return digest
        except ImageError as error:
            return error
        except (OSError, ValueError):  # the decoder says what is wrong with it
            try:
                Preprocess(image_size).pixels(path)
            except ImageError as error:
                return error
            return ImageError(f"{path} came and went while it was read; try again.")

    paths = manifest.paths
    order = np.roll(np.arange(len(paths)), -int(begin * len(paths)))
    found: dict[int, str] = {}
    faults: dict[int, str] = {}
    with progress() as bar:
        task = bar.add_task(what, total=len(manifest), note="")
        for row, result in zip(order.tolist(), prefetch_map(one, (paths[row] for row in order)), strict=True):
            if isinstance(result, ImageError):
                faults[row] = str(result)
            else:
                found[row] = result
            bar.advance(task)
    told = tuple(faults[row] for row in sorted(faults))
    if not found:
        raise NevusError(f"none of the {len(manifest)} images of {manifest.name} can be used; the first: {told[0]}")
    if told:
        console.print(f"{len(told)} of {len(manifest)} images cannot be used and are left out; the first: {told[0]}")
    rows = sorted(found)
    kept = manifest.where(np.isin(np.arange(len(paths)), rows))
    return DecodedDataset(kept, DecodedImages(kept.paths, [found[row] for row in rows], image_size, cache), told)
