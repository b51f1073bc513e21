"""The cache: one SQLite file with whatever can be computed again, found by the digest of what it was computed from."""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
import threading
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nevus._io import cache_folder, sha256_file
from nevus._progress import console
from nevus.data.images import Pixels
from nevus.errors import NevusError

NAME = "cache.sqlite"
PIXELS_VERSION = 2
"""Of decoding and resizing; another version invalidates the decoded images."""
KINDS = {
    "pixels": "decoded images",
    "digests": "digests of image files",
    "pairs": "results of duplicate checks",
    "handcrafted": "handcrafted features",
    "teachers": "outputs of teachers, for distillation",
    "graphs": "converted networks",
}
"""Kinds of entries, and what they are."""
MAX_ENTRY = 500_000_000
"""Bytes; larger values are not cached."""
_CHUNK = 500
"""Keys in a query: SQLite allows no more than 999 values."""
_EVICTED = 256
"""Entries that are deleted at a time."""
_RECOUNT = 0.02
"""Share of the limit after whose writing the file is measured again, since other processes write, too."""
_SCHEMA = (
    "PRAGMA page_size = 16384",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = OFF",  # an entry that a power failure takes is computed again
    "CREATE TABLE IF NOT EXISTS entries (id INTEGER PRIMARY KEY, kind TEXT, key TEXT, size INTEGER, crc INTEGER, "
    "used REAL, UNIQUE (kind, key))",
    "CREATE INDEX IF NOT EXISTS by_use ON entries (used)",
    "CREATE TABLE IF NOT EXISTS contents (id INTEGER PRIMARY KEY, value BLOB)",
)

_PUT = (
    "INSERT INTO entries (kind, key, size, crc, used) VALUES (?, ?, ?, ?, ?) ON CONFLICT (kind, key) DO UPDATE SET "
    "size = excluded.size, crc = excluded.crc, used = excluded.used RETURNING id"
)


@dataclass(frozen=True)
class CacheConfig:
    """Where decoded images and other intermediate results are kept.

    Attributes:
        folder: of the cache (default: `$NEVUS_CACHE`, else `~/.cache/nevus`).
        gigabytes: largest size; the least recently used entries are deleted first. 0 keeps nothing, and each image
            is decoded each time it is used.

    Raises:
        NevusError: the size is negative.

    """

    folder: Path | None = None
    gigabytes: float = 20.0

    def __post_init__(self) -> None:
        if not self.gigabytes >= 0:
            raise NevusError(f"Cannot use a cache of {self.gigabytes} GB. Correct --cache.gigabytes.")

    @property
    def path(self) -> Path:
        """The database file."""
        return (self.folder or cache_folder("")) / NAME


class Cache:
    """Values by kind and key, in one SQLite file that several threads and processes share.

    Every value is stored with its CRC-32: a damaged one counts as missing, and a damaged file is replaced. Where the
    file cannot be written or the disk is full, one sentence says so, and everything is computed each time.
    """

    def __init__(self, config: CacheConfig | None = None) -> None:
        config = config or CacheConfig()
        self.path = config.path
        self._limit = int(config.gigabytes * 1e9)
        self._lock = threading.RLock()
        self._began = time.time()
        self._written: int | None = None  # bytes since the file was measured
        self._free = 0
        self._in_memory = not self._limit  # digests of files alone, for this process
        self._writes = True
        self._database = self._open()

    def get(self, kind: str, key: str) -> bytes | None:
        """Return a value; None where there is none, or a damaged one."""
        return self.get_many(kind, [key]).get(key)

    def get_many(self, kind: str, keys: Sequence[str]) -> dict[str, bytes]:
        """Return the values that are there, by key."""
        found: dict[str, bytes] = {}
        for start in range(0, len(keys), _CHUNK):
            part = list(keys[start : start + _CHUNK])
            query = (
                "SELECT key, crc, value, used FROM entries JOIN contents USING (id) WHERE kind = ? AND key IN "
                f"({','.join('?' * len(part))})"
            )
            rows = self._execute(query, (kind, *part))
            found |= {key: value for key, crc, value, _ in rows if zlib.crc32(value) == crc}
            self._touch(kind, [key for key, _, _, used in rows if used < self._began])
        return found

    def has(self, kind: str, key: str) -> bool:
        """Return whether there is a value, without reading it, and mark it as used."""
        rows = self._execute("SELECT used FROM entries WHERE kind = ? AND key = ?", (kind, key))
        if rows and rows[0][0] < self._began:
            self._touch(kind, [key])
        return bool(rows)

    def put(self, kind: str, key: str, value: bytes) -> None:
        """Store a value, if there is room for it."""
        self.put_many(kind, {key: value})

    def put_many(self, kind: str, values: Mapping[str, bytes]) -> None:
        """Store values by key, if there is room for them, in one transaction."""
        if self._in_memory and kind != "digests":
            return
        with self._lock:
            room = [key for key, value in values.items() if len(value) <= MAX_ENTRY and self._make_room(len(value))]
            if not room:
                return
            with self._transaction():
                for key in room:
                    value = values[key]
                    entry = (kind, key, len(value), zlib.crc32(value), time.time())
                    for (number,) in self._execute(_PUT, entry):
                        self._execute("INSERT OR REPLACE INTO contents VALUES (?, ?)", (number, value))

    def file_digest(self, path: Path) -> str:
        """Return the hexadecimal SHA-256 of a file, without reading it if path, size and time of change are known.

        Raises:
            OSError: it cannot be read.

        """
        state = path.stat()
        key = f"{path.absolute()}\0{state.st_size}\0{state.st_mtime_ns}"
        key = hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
        known = self.get("digests", key)
        if known is not None and len(known) == 32:
            return known.hex()
        digest = sha256_file(path).removeprefix("sha256:")
        self.put("digests", key, bytes.fromhex(digest))
        return digest

    def has_pixels(self, digest: str, image_size: int) -> bool:
        """Return whether the decoded image of a file is there, by the digest of the file."""
        return self.has("pixels", _pixels_key(digest, image_size))

    def load_pixels(self, digest: str, image_size: int) -> Pixels | None:
        """Return a decoded image, uint8 (image_size, image_size, 3), read-only; None where there is none."""
        value = self.get("pixels", _pixels_key(digest, image_size))
        if value is None or len(value) != image_size * image_size * 3:
            return None
        return np.frombuffer(value, np.uint8).reshape(image_size, image_size, 3)

    def store_pixels(self, digest: str, *squares: Pixels) -> None:
        """Store an image at several sizes, each uint8 (image_size, image_size, 3)."""
        self.put_many("pixels", {_pixels_key(digest, len(pixels)): pixels.tobytes() for pixels in squares})

    def sizes(self) -> dict[str, tuple[int, int]]:
        """Return the number of entries and their bytes, by kind."""
        rows = self._execute("SELECT kind, COUNT(*), SUM(size) FROM entries GROUP BY kind")
        return {kind: (int(n), int(size)) for kind, n, size in rows}

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._database is not None:
                self._database.close()
                self._database = None

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._execute("BEGIN IMMEDIATE")
        yield
        if self._database is not None and self._database.in_transaction:  # it is not after an error
            self._execute("COMMIT")

    def _execute(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        with self._lock:
            if self._database is None:
                return []
            try:
                return self._database.execute(query, values).fetchall()
            except sqlite3.Error as error:
                self._fail(error)
                return []

    def _fail(self, error: sqlite3.Error) -> None:
        """Go on without what failed: without writing where that failed, else without the cache."""
        assert self._database is not None
        with contextlib.suppress(sqlite3.Error):
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
        if "locked" in str(error):  # another process is writing: this entry is not cached
            return
        if self._writes:
            self._warn(str(error))
        self._writes = False
        if not isinstance(error, sqlite3.OperationalError):  # a damaged file
            self._database.close()
            self._database = None
            with contextlib.suppress(OSError):
                self.path.unlink()

    def _warn(self, reason: str) -> None:
        console.print(
            f"Cannot write the cache '{self.path}': {reason}. Images are decoded each time they are used. Set "
            "--cache.folder or NEVUS_CACHE to another folder.",
            style="yellow",
        )

    def _touch(self, kind: str, keys: Sequence[str]) -> None:
        if keys and self._writes:
            marks = ",".join("?" * len(keys))
            query = f"UPDATE entries SET used = ? WHERE kind = ? AND key IN ({marks})"
            self._execute(query, (time.time(), kind, *keys))

    def _delete(self, where: str, values: Sequence[Any]) -> int:
        self._execute(f"DELETE FROM contents WHERE id IN (SELECT id FROM entries WHERE {where})", values)
        return len(self._execute(f"DELETE FROM entries WHERE {where} RETURNING id", values))

    def _make_room(self, size: int) -> bool:
        if not self._writes:
            return False
        if self._written is None or self._written > self._limit * _RECOUNT:
            self._measure()
        while self._free - (self._written or 0) < size:
            oldest = "id IN (SELECT id FROM entries WHERE used < ? ORDER BY used LIMIT ?)"
            with self._transaction():
                deleted = self._delete(oldest, (self._began, _EVICTED))
            self._measure()
            if not deleted:
                break
        if self._free - (self._written or 0) < size:
            console.print(
                f"The cache '{self.path}' is full ({self._limit / 1e9:g} GB). Images without room are decoded at each "
                "use. Raise --cache.gigabytes.",
                style="yellow",
            )
            self._writes = False
            return False
        self._written = (self._written or 0) + size
        return True

    def _measure(self) -> None:
        used = self._execute("SELECT COALESCE(SUM(size), 0) FROM entries")
        self._free, self._written = self._limit - int(used[0][0] if used else 0), 0

    def _open(self) -> sqlite3.Connection | None:
        if self._in_memory:
            self._limit = MAX_ENTRY
            return self._connect(":memory:")
        for _ in range(2):
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                return self._connect(str(self.path))
            except sqlite3.OperationalError as error:
                self._warn(str(error))
                break
            except sqlite3.DatabaseError:  # damaged: it is made again
                with contextlib.suppress(OSError):
                    self.path.unlink()
            except OSError as error:
                self._warn(error.strerror or str(error))
                break
        self._writes = False
        return None

    def _connect(self, path: str) -> sqlite3.Connection:
        # Without transactions of its own each statement is written at once, and locks out other processes shortly.
        database = sqlite3.connect(path, timeout=10, check_same_thread=False, isolation_level=None)
        for statement in _SCHEMA:
            database.execute(statement)
        return database


def clear_cache(config: CacheConfig) -> None:
    """Delete the cache's file."""
    for suffix in ("", "-wal", "-shm"):
        with contextlib.suppress(OSError):
            config.path.with_name(NAME + suffix).unlink()


def _pixels_key(digest: str, image_size: int) -> str:
    return f"{PIXELS_VERSION}-{image_size}-{digest}"


def pixel_digest(pixels: NDArray[np.uint8]) -> str:
    """Return the digest of decoded pixels, uint8 (h, w, 3): 20 hexadecimal digits of SHA-256 over size and values.

    Files with the same pixels have the same digest, whatever their lossless format.
    """
    head = "x".join(map(str, pixels.shape[:2])).encode() + b":"
    return hashlib.sha256(head + np.ascontiguousarray(pixels).tobytes()).hexdigest()[:20]
