"""Handcrafted features from the cache."""

from __future__ import annotations

import hashlib
import os
import platform
import time
from importlib.metadata import version

import cv2
import numpy as np
from numpy.typing import NDArray

from nevus.data.cache import Cache
from nevus.models.handcrafted.classifier import vectors
from nevus.models.handcrafted.features import VERSION, names

KIND = "handcrafted"


class CachedFeatures:
    """`vectors` with a cache that several methods, seeds and processes share.

    The time of an image's features is cached, too, so that a method can be charged with it. Keys contain whatever
    changes features or their time: versions and the machine.

    Attributes:
        saved: seconds that the cached features took when they were computed.

    """

    def __init__(self, cache: Cache) -> None:
        self.saved = 0.0
        self._cache = cache
        libraries = [cv2.__version__, *map(version, ("numpy", "scipy", "scikit-image"))]
        self._prefix = repr([VERSION, libraries, platform.node(), os.cpu_count()]).encode()

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Map uint8 (n, 128, 128, 3) to float32 (n, features), as `vectors` does."""
        keys = [hashlib.sha256(self._prefix + np.ascontiguousarray(one).tobytes()).hexdigest() for one in pixels]
        width = len(names())
        entries = self._cache.get_many(KIND, keys)
        known = {key: np.frombuffer(value, np.float32) for key, value in entries.items() if len(value) == 4 * width + 4}
        missing = [row for row, key in enumerate(keys) if key not in known]
        features = np.empty((len(pixels), width), np.float32)
        for row, key in enumerate(keys):
            if key in known:
                features[row] = known[key][:width]
                self.saved += float(known[key][width])
        if missing:
            began = time.perf_counter()
            features[missing] = vectors(pixels[missing])
            seconds = np.float32((time.perf_counter() - began) / len(missing))
            self._cache.put_many(KIND, {keys[row]: features[row].tobytes() + seconds.tobytes() for row in missing})
        return features
