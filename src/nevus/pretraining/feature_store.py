"""What a network says of images, computed once for each and kept in the cache."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from itertools import islice

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from nevus._io import cache_folder
from nevus._progress import progress
from nevus.data.images import Pixels
from nevus.data.parallel import prefetch_map
from nevus.errors import NevusError

BATCH = 16
_NAME = 65
"""Bytes of a line of the index: 64 hexadecimal digits and the line's end."""


class FeatureStore:
    """Vectors of one length by the digest of an image's file, half precision, appended to one file.

    Two files: `vectors`, records one after another, and `index`, the digest of each on a line. A record is written
    before its line, and what is not whole is cut off when the store is opened: so a killed process loses a batch
    at most. One process writes at a time.
    """

    def __init__(self, name: str, width: int) -> None:
        """Open or begin.

        Args:
            name: of what made the vectors; whatever could change them belongs into it.
            width: numbers in a vector.

        Raises:
            NevusError: the cache cannot be written, or another process is writing to it.

        """
        self.width, self._record = width, 2 * width
        folder = cache_folder("features") / name
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(folder / ".lock")
            self._vectors = (folder / "vectors").open("a+b")
            self._index = (folder / "index").open("a+b")
            self._lock.acquire(blocking=False)
        except Timeout:
            self.close()
            raise NevusError(f"another process is writing to {folder}; wait for it.") from None
        except OSError as error:
            raise NevusError(f"{folder} cannot be written ({error.strerror}); set NEVUS_CACHE.") from None
        self._path = folder / "vectors"
        self._index.seek(0)
        lines = self._index.read()
        whole = min(len(lines) // _NAME, os.fstat(self._vectors.fileno()).st_size // self._record)
        self._index.truncate(whole * _NAME)
        self._vectors.truncate(whole * self._record)
        names = lines[: whole * _NAME].decode("ascii", "replace").split("\n")[:-1]
        self._rows = {digest: row for row, digest in enumerate(names)}

    def __contains__(self, digest: str) -> bool:
        return digest in self._rows

    def add(self, digests: Sequence[str], vectors: NDArray[np.floating]) -> None:
        """Keep vectors (n, width)."""
        self._vectors.write(np.ascontiguousarray(vectors, np.float16).tobytes())
        self._vectors.flush()
        self._index.write("".join(f"{digest}\n" for digest in digests).encode("ascii"))
        self._index.flush()
        for digest in digests:
            self._rows[digest] = len(self._rows)

    def of(self, digests: Sequence[str]) -> tuple[NDArray[np.float16], NDArray[np.int64]]:
        """All vectors, mapped into memory, and the row of each digest."""
        rows = np.array([self._rows[digest] for digest in digests], np.int64)
        return np.memmap(self._path, np.float16, "r").reshape(-1, self.width), rows

    def close(self) -> None:
        """Let the files go."""
        self._lock.release()
        self._vectors.close()
        self._index.close()

    def __enter__(self) -> FeatureStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def fill_store(
    store: FeatureStore,
    digests: Sequence[str],
    pixels: Callable[[int], Pixels],
    vectors_of: Callable[[NDArray[np.uint8]], NDArray[np.float32]],
    *,
    what: str,
) -> None:
    """Compute the vectors that are not kept yet, in batches, with a progress bar.

    Args:
        store: keeps them.
        digests: of the images' files.
        pixels: of an image by its row, uint8 (image_size, image_size, 3).
        vectors_of: uint8 (n, image_size, image_size, 3) to float (n, width).
        what: is shown.

    """
    missing = list({digest: row for row, digest in enumerate(digests) if digest not in store}.items())
    if not missing:
        return
    squares = prefetch_map(pixels, (row for _, row in missing))
    with progress() as bar:
        task = bar.add_task(what, total=len(missing), note="")
        for start in range(0, len(missing), BATCH):
            names = [digest for digest, _ in missing[start : start + BATCH]]
            store.add(names, vectors_of(np.stack(list(islice(squares, len(names))))))
            bar.advance(task, len(names))
