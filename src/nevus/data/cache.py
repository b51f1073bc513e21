"""Decoded images on disk, so that each is decoded once."""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
import sqlite3
import threading
import time
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nevus._io import atomic_path, cache_folder, sha256_file
from nevus._progress import console
from nevus.data.images import Pixels
from nevus.errors import NevusError

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

    A square is a file of its own: uint8 (image_size, image_size, 3) and the CRC-32 of these bytes. It is written aside
    and renamed, so two processes may build the same cache. It is mapped into memory while it is read. One that is
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

    def path(self, digest: str, image_size: int) -> Path:
        """Where a square lies, or would lie."""
        return self.folder / str(image_size) / digest[:2] / digest

    def has(self, digest: str, image_size: int) -> bool:
        """Whether a square is there, by its length; marks it as used."""
        path = self.path(digest, image_size)
        try:
            if path.stat().st_size != image_size * image_size * 3 + _CHECK:
                return False
            os.utime(path)
        except OSError:
            return False
        return True

    def load(self, digest: str, image_size: int) -> Pixels | None:
        """A square, read-only and mapped into memory; None where there is none, or a damaged one."""
        size = image_size * image_size * 3
        try:
            with self.path(digest, image_size).open("rb") as file:
                if os.fstat(file.fileno()).st_size != size + _CHECK:
                    return None
                content = mmap.mmap(file.fileno(), size + _CHECK, access=mmap.ACCESS_READ)
        except (OSError, ValueError):
            return None
        pixels = np.frombuffer(content, np.uint8, size)
        if zlib.crc32(memoryview(content)[:size]) != int.from_bytes(content[size:], "little"):
            return None
        return pixels.reshape(image_size, image_size, 3)

    def store(self, digest: str, pixels: Pixels) -> None:
        """Keep a square, uint8 (image_size, image_size, 3), where there is room for it."""
        path, size = self.path(digest, len(pixels)), pixels.size + _CHECK
        content = pixels.tobytes()
        content += zlib.crc32(content).to_bytes(_CHECK, "little")
        with self._lock:  # while it is written, too: else a recount would miss it
            if not self._room(size):
                return
            try:
                with atomic_path(path, durable=False) as aside:
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


_TABLE = "CREATE TABLE IF NOT EXISTS digests (path TEXT PRIMARY KEY, size INTEGER, changed INTEGER, digest TEXT)"

_FORGET = "DELETE FROM digests WHERE rowid <= (SELECT max(rowid) FROM digests) - 1000000"
"""Of files that are long gone: what was computed last is remembered, some 200 MB at most."""


class Digests:
    """SHA-256 of files, remembered by path, size and time of change in an SQLite file.

    A large archive is so read once, not at every start. Several processes may share the file. Where it cannot be
    written or is damaged, digests are computed again.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._database = self._opened()

    def of(self, path: Path) -> str:
        """Hexadecimal digest of a file.

        Raises:
            OSError: it cannot be read.

        """
        name, state = str(path.absolute()), path.stat()
        with self._lock, contextlib.suppress(sqlite3.Error):
            if self._database is not None:
                row = self._database.execute(
                    "SELECT digest FROM digests WHERE path = ? AND size = ? AND changed = ?",
                    (name, state.st_size, state.st_mtime_ns),
                ).fetchone()
                if row:
                    return str(row[0])
        digest = sha256_file(path).removeprefix("sha256:")
        with self._lock, contextlib.suppress(sqlite3.Error):
            if self._database is not None:
                self._database.execute(
                    "INSERT OR REPLACE INTO digests VALUES (?, ?, ?, ?)",
                    (name, state.st_size, state.st_mtime_ns, digest),
                )
        return digest

    def close(self) -> None:
        """Let the file go."""
        with self._lock:
            if self._database is not None:
                self._database.close()
                self._database = None

    def __enter__(self) -> Digests:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _opened(self) -> sqlite3.Connection | None:
        for _ in range(2):
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                # Uncommitted rows of one process lock out the others: without a transaction each is written at
                # once, and without fsync that is fast. A lost row is computed again.
                database = sqlite3.connect(self._path, timeout=10, check_same_thread=False, isolation_level=None)
                database.execute("PRAGMA journal_mode = WAL")
                database.execute("PRAGMA synchronous = OFF")
                database.execute(_TABLE)
                database.execute(_FORGET)
                return database
            except sqlite3.DatabaseError as error:
                if isinstance(error, sqlite3.OperationalError):
                    return None  # cannot be written, or is locked for good
                with contextlib.suppress(OSError):
                    self._path.unlink()
            except OSError:
                return None
        return None


def pixel_digest(pixels: NDArray[np.uint8]) -> str:
    """Digest of decoded pixels, uint8 (h, w, 3): 20 hexadecimal digits of SHA-256 over height, width and values.

    It is that of the picture, whatever file without loss it is packed in.
    """
    head = "x".join(map(str, pixels.shape[:2])).encode() + b":"
    return hashlib.sha256(head + np.ascontiguousarray(pixels).tobytes()).hexdigest()[:20]
