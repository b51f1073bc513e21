"""Digests of files' bytes, remembered."""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
import threading
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nevus.files import digest_of_file

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
        digest = digest_of_file(path).removeprefix("sha256:")
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
