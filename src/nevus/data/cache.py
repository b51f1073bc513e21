"""Decoded images on disk, so that each is decoded once."""

from __future__ import annotations

import mmap
import os
import threading
import time
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nevus.data.digests import Digests
from nevus.data.images import Pixels
from nevus.errors import NevusError
from nevus.files import cache_folder, written_whole
from nevus.progress import console

FORMAT = "squares-1"
"""Changes whenever decoding or resizing gives other pixels."""
_CHECK = 4
_STALE = 24 * 3600.0


@dataclass(frozen=True)
class CacheConfig:
    """Where decoded images are kept.

    Attributes:
        folder: of the cache (default: `pixels` below `$NEVUS_CACHE`, else `~/.cache/nevus`).
        gigabytes: most that it may take; the images that were not used for longest go first. 0 keeps none, and
            each image is decoded whenever it is wanted.

    """

    folder: Path | None = None
    gigabytes: float = 20.0

    def __post_init__(self) -> None:
        if not self.gigabytes >= 0:
            raise NevusError(f"a cache of {self.gigabytes} GB cannot be; correct --cache.gigabytes.")

    @property
    def place(self) -> Path:
        """The folder."""
        return self.folder or cache_folder("pixels")


class Cache:
    """Squares of pixels by the digest of the file that they come from.

    A square is a file of its own: uint8 (side, side, 3) and the CRC-32 of these bytes. It is written aside and
    renamed, so two processes may build the same cache; it is mapped into memory while it is read; and one that is
    damaged counts as missing. Nothing is fsynced: what a power cut takes is decoded again.
    """

    def __init__(self, config: CacheConfig | None = None) -> None:
        config = config or CacheConfig()
        self.folder = config.place / FORMAT
        self.digests = Digests(config.place / "digests.sqlite")
        self._most = int(config.gigabytes * 1e9)
        self._lock = threading.Lock()
        self._began = time.time()
        self._held: int | None = None  # bytes; counted at the first write
        self._since = 0  # bytes written since
        self._oldest: list[tuple[float, int, Path]] = []
        self._writing = self._most > 0

    def path(self, digest: str, side: int) -> Path:
        """Where a square lies, or would lie."""
        return self.folder / str(side) / digest[:2] / digest

    def has(self, digest: str, side: int) -> bool:
        """Whether a square is there, by its length; marks it as used."""
        path = self.path(digest, side)
        try:
            if path.stat().st_size != side * side * 3 + _CHECK:
                return False
            os.utime(path)
        except OSError:
            return False
        return True

    def load(self, digest: str, side: int) -> Pixels | None:
        """A square, read-only and mapped into memory; None where there is none, or a damaged one."""
        size = side * side * 3
        try:
            with self.path(digest, side).open("rb") as file:
                if os.fstat(file.fileno()).st_size != size + _CHECK:
                    return None
                content = mmap.mmap(file.fileno(), size + _CHECK, access=mmap.ACCESS_READ)
        except (OSError, ValueError):
            return None
        pixels = np.frombuffer(content, np.uint8, size)
        if zlib.crc32(memoryview(content)[:size]) != int.from_bytes(content[size:], "little"):
            return None
        return pixels.reshape(side, side, 3)

    def store(self, digest: str, pixels: Pixels) -> None:
        """Keep a square, uint8 (side, side, 3), where there is room for it."""
        path, size = self.path(digest, len(pixels)), pixels.size + _CHECK
        content = pixels.tobytes()
        content += zlib.crc32(content).to_bytes(_CHECK, "little")
        with self._lock:  # while it is written, too: else a recount would miss it
            if not self._room(size):
                return
            try:
                with written_whole(path, durable=False) as aside:
                    aside.write_bytes(content)
            except NevusError as error:
                console.print(f"{error} Until then each image is decoded whenever it is wanted.", style="yellow")
                self._writing = False

    def close(self) -> None:
        """Let the memory of digests go."""
        self.digests.close()

    def _room(self, size: int) -> bool:
        if not self._writing:
            return False
        if self._held is None or self._since > self._most // 20:
            self._count()  # again and again, for other processes write, too
        assert self._held is not None
        while self._held + size > self._most and self._oldest:
            _, freed, path = self._oldest.pop()
            try:
                if path.stat().st_mtime >= self._began:
                    continue  # used since it was counted
                path.unlink()
            except OSError:
                pass  # another process was faster
            self._held -= freed
        if self._held + size > self._most:
            console.print(
                f"the cache in {self.folder.parent} is full ({self._most / 1e9:g} GB); the images that have no "
                "room are decoded whenever they are wanted. Allow it more with --cache.gigabytes.",
                style="yellow",
            )
            self._writing = False
            return False
        self._held += size
        self._since += size
        return True

    def _count(self) -> None:
        self._held, self._since = 0, 0
        self._oldest.clear()
        for here, _, names in os.walk(self.folder):
            for name in names:
                path = Path(here, name)
                try:
                    state = path.stat()
                    if name.startswith(".") and state.st_mtime < self._began - _STALE:
                        path.unlink()  # of a process that was killed while it wrote
                        continue
                except OSError:
                    continue
                self._held += state.st_size
                if state.st_mtime < self._began:
                    self._oldest.append((state.st_mtime, state.st_size, path))
        self._oldest.sort(reverse=True)
