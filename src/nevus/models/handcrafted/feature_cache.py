"""Handcrafted features that were computed before, by the pixels that they describe."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import sqlite3
import time
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from nevus._io import cache_folder
from nevus.models.handcrafted.classifier import vectors
from nevus.models.handcrafted.features import VERSION, names

_AT_ONCE = 500
"""Digests in a query: SQLite takes no more than 999 values."""


def _kind() -> str:
    """What could change features, or the time they take."""
    libraries = [cv2.__version__, *map(version, ("numpy", "scipy", "scikit-image"))]
    told = [VERSION, libraries, platform.node(), os.cpu_count()]
    return hashlib.sha256(repr(told).encode()).hexdigest()[:16]


class CachedFeatures:
    """`vectors` with a memory: a table in the cache that several systems, seeds and processes share.

    What an image took when it was computed is remembered, too, so that times can be told as if nothing had been.
    A memory that cannot be read or written is none: then everything is computed.

    Attributes:
        saved: seconds that what was remembered took when it was computed.

    """

    def __init__(self, path: Path | None = None) -> None:
        """Open or begin.

        Args:
            path: of the table; by default in the cache, one for each machine, and for each version of the features
                and of the libraries that they are computed with.

        """
        self.saved = 0.0
        self._path = path or cache_folder("handcrafted") / f"{_kind()}.sqlite"

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """As `vectors`: uint8 (n, 128, 128, 3) to float32 (n, features)."""
        digests = [hashlib.sha256(np.ascontiguousarray(one).tobytes()).digest() for one in pixels]
        known = self._known(digests)
        missing = [row for row, digest in enumerate(digests) if digest not in known]
        made = np.empty((len(pixels), len(names())), np.float32)
        for row, digest in enumerate(digests):
            if digest in known:
                made[row], seconds = known[digest]
                self.saved += seconds
        if missing:
            began = time.perf_counter()
            made[missing] = vectors(pixels[missing])
            seconds = (time.perf_counter() - began) / len(missing)
            self._keep([(digests[row], made[row].tobytes(), seconds) for row in missing])
        return made

    def _known(self, digests: list[bytes]) -> dict[bytes, tuple[NDArray[np.float32], float]]:
        found: dict[bytes, tuple[NDArray[np.float32], float]] = {}
        if not self._path.exists():
            return found
        with contextlib.suppress(sqlite3.Error, TypeError), contextlib.closing(self._table()) as table:
            for start in range(0, len(digests), _AT_ONCE):
                part = digests[start : start + _AT_ONCE]
                query = f"SELECT digest, vector, seconds FROM vectors WHERE digest IN ({','.join('?' * len(part))})"
                for digest, vector, seconds in table.execute(query, part):
                    if len(vector) == 4 * len(names()):
                        found[digest] = np.frombuffer(vector, np.float32), float(seconds)
        return found

    def _keep(self, lines: list[tuple[bytes, bytes, float]]) -> None:
        with contextlib.suppress(sqlite3.Error, OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.closing(self._table()) as table, table:
                table.execute("CREATE TABLE IF NOT EXISTS vectors (digest BLOB PRIMARY KEY, vector BLOB, seconds REAL)")
                table.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?, ?)", lines)

    def _table(self) -> sqlite3.Connection:
        return sqlite3.connect(self._path, timeout=60)  # another process may be writing
