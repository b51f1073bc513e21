"""The last images, in memory, for their heat maps."""

from __future__ import annotations

import io
from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock

from PIL import Image

from nevus.data.images import Pixels

MAX_BYTES = 24 * 1024 * 1024
"""Of all images that are kept in memory: about 120 of the built-in classifier."""


@dataclass(frozen=True)
class RecentImage:
    """An image that was predicted a short time ago.

    Attributes:
        square: uint8 (image_size, image_size, 3), what the model got.
        preview: a JPEG, of formats that browsers do not show; else empty.

    """

    square: Pixels
    preview: bytes

    def picture(self) -> Image.Image:
        """Return the preview, or else the square, as RGB."""
        return Image.open(io.BytesIO(self.preview)).convert("RGB") if self.preview else Image.fromarray(self.square)

    @property
    def size(self) -> int:
        """Bytes in memory."""
        return self.square.nbytes + len(self.preview)


class RecentImages:
    """Images by the id of their prediction; the oldest give way."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes, self._bytes = max_bytes, 0
        self._images: OrderedDict[str, RecentImage] = OrderedDict()
        self._lock = Lock()

    def add(self, identifier: str, image: RecentImage) -> None:
        """Keep an image."""
        with self._lock:
            self._images[identifier] = image
            self._bytes += image.size
            while self._bytes > self._max_bytes and len(self._images) > 1:
                _, oldest = self._images.popitem(last=False)
                self._bytes -= oldest.size

    def get(self, identifier: str) -> RecentImage | None:
        """Return an image, or None where it is no longer kept."""
        with self._lock:
            return self._images.get(identifier)
