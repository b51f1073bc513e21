"""The walk over a folder of images: one set of rules for class folders, public data sets and predictions."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from nevus._progress import console
from nevus.data.images import named_as_image

HIDDEN, NO_IMAGE, BAD_NAME, LOOP, UNREADABLE = (
    "hidden",
    "no image by its name",
    "its name is not UTF-8",
    "a link back to a folder above it",
    "the folder cannot be read",
)
"""Reasons for which a file or folder is left out."""


@dataclass
class LeftOut:
    """Files and folders that are left out, each with its reason.

    Attributes:
        entries: paths and reasons, in the order in which they were found.

    """

    entries: list[tuple[str, str]] = field(default_factory=list)

    def add(self, path: Path | str, reason: str) -> None:
        """Note a path; characters that are not UTF-8 are escaped."""
        self.entries.append((os.fspath(path).encode("utf-8", "backslashreplace").decode(), reason))

    def report(self, what: str) -> None:
        """Print the number of entries by reason, if there are any."""
        counts = Counter(reason for _, reason in self.entries)
        if counts:
            parts = ", ".join(f"{n:,} ({reason})" for reason, n in counts.most_common())
            first = self.entries[0][0]
            console.print(f"Left out of {what}: {parts}. The first: {first}", style="yellow")

    def lines(self) -> list[str]:
        """Return one line for each entry, for `skipped.txt`."""
        return [f"{path}: {reason}" for path, reason in self.entries]


def walk_images(folder: Path, left_out: LeftOut) -> Iterator[Path]:
    """Find every image at any depth, in the order of the names.

    Links to files and folders are followed; a link back to a folder above it is left out. Hidden files and folders,
    files whose names are no image's, and names that are not UTF-8 are left out.

    Args:
        folder: where to begin.
        left_out: what is left out is added to it.

    """
    yield from _walk(folder, left_out, (_identity(folder),))


def _walk(folder: Path, left_out: LeftOut, above: tuple[tuple[int, int], ...]) -> Iterator[Path]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        left_out.add(folder, UNREADABLE)
        return
    files = [entry for entry in entries if not entry.is_dir()]
    for entry in files:
        if entry.name.startswith("."):
            left_out.add(entry.path, HIDDEN)
        elif not named_as_image(entry.path):
            left_out.add(entry.path, NO_IMAGE)
        elif not is_utf8(entry.path):
            left_out.add(entry.path, BAD_NAME)
        else:
            yield Path(entry.path)
    for below in subfolders(folder, left_out):
        identity = _identity(below)
        if identity in above:
            left_out.add(below, LOOP)
        else:
            yield from _walk(below, left_out, (*above, identity))


def subfolders(folder: Path, left_out: LeftOut) -> list[Path]:
    """Return the folders directly below, links included, in the order of their names; hidden ones are left out."""
    below = []
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.is_dir():
            if entry.name.startswith("."):
                left_out.add(entry.path, HIDDEN)
            else:
                below.append(Path(entry.path))
    return below


def is_utf8(name: str) -> bool:
    """Return whether a name can be written to a table."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def found_images(paths: Iterable[Path], left_out: LeftOut) -> Iterator[Path]:
    """Return files as given, and the images in folders; a folder without images itself, to be reported."""
    for path in paths:
        if not os.path.isdir(path):  # unlike Path.is_dir, it takes a name that no file can have
            yield path
            continue
        empty = True
        for image in walk_images(path, left_out):
            empty = False
            yield image
        if empty:
            yield path


def _identity(folder: Path) -> tuple[int, int]:
    try:
        state = folder.stat()
    except OSError:
        return (0, 0)
    return state.st_dev, state.st_ino
