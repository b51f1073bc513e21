"""The images of a folder by the names that a table gives them."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

from nevus.data.images import SUFFIXES, named_as_image
from nevus.data.walker import LeftOut, walk_images
from nevus.errors import NevusError

MASK_WORDS = ("mask", "segmentation", "groundtruth", "ground_truth", "superpixel", "annotation")
"""Parts of the names of folders and files that hold masks of images, not images."""


class ImageIndex:
    r"""Finds images below a folder by path or id.

    A name may be a path or an id, with or without suffix, with / or \ between folders, in composed or decomposed
    Unicode, and its suffix in any case.
    """

    def __init__(self, folder: Path, left_out: LeftOut | None = None) -> None:
        """Walk over a folder once.

        Args:
            folder: of the images.
            left_out: what is left out is added to it.

        """
        self._folder = folder
        self._by_path: dict[str, list[str]] = {}
        self._by_stem: dict[str, list[str]] = {}
        for image in walk_images(folder, left_out or LeftOut()):
            path = image.relative_to(folder).as_posix()
            root = os.path.splitext(path)[0]
            for key in {_key(path), _key(root)}:
                self._by_path.setdefault(key, []).append(path)
            for key in {_key(os.path.basename(path)), _key(os.path.basename(root))}:
                self._by_stem.setdefault(key, []).append(path)

    def find(self, name: str) -> str | None:
        """Return the path of an image relative to the folder; None where there is none.

        Of several images with a name, masks are not considered, and an exact match of the path goes first.

        Raises:
            NevusError: several images fit.

        """
        name = name.replace("\\", "/").strip()
        for candidates in self._candidates(name):
            images = [path for path in candidates if not _is_mask(path)] or candidates
            if len(images) > 1:
                exact = [path for path in images if unicodedata.normalize("NFC", path) == _nfc(name)]
                images = exact or images
            if len(images) > 1:
                raise NevusError(
                    f"Cannot find the image '{name}' in {self._folder}: {images[0]} and {images[1]} both fit. Remove "
                    "one, or give the path of the image."
                )
            if images:
                return images[0]
        return None

    def _candidates(self, name: str) -> list[list[str]]:
        base = name.rsplit("/", 1)[-1]
        keys = [
            (self._by_path, name),
            (self._by_path, _root(name)),
            (self._by_stem, base),
            (self._by_stem, _root(base)),
        ]
        return [table.get(_key(key), []) for table, key in keys]


def find_in_folder(path: str, listings: dict[str, dict[str, list[str]]]) -> str:
    """Return the path of a file whose name is given without suffix, in another Unicode form or case of the suffix.

    Args:
        path: that does not exist.
        listings: of folders that were read before; filled by this function.

    Returns:
        The path of the file, or `path` where there is none.

    Raises:
        NevusError: several files fit.

    """
    folder, name = os.path.split(path)
    if folder not in listings:
        listing: dict[str, list[str]] = {}
        for entry in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
            if named_as_image(os.path.join(folder, entry)):
                for key in {_key(entry), _key(_root(entry))}:
                    listing.setdefault(key, []).append(entry)
        listings[folder] = listing
    for key in (_key(name), _key(_root(name))):
        found = listings[folder].get(key, [])
        images = [entry for entry in found if not _is_mask(entry)] or found
        if len(images) > 1:
            raise NevusError(
                f"Cannot find the image '{name}' in {folder}: {images[0]} and {images[1]} both fit. Remove one, or "
                "give the name with its suffix."
            )
        if images:
            return os.path.join(folder, images[0])
    return path


def _nfc(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _root(name: str) -> str:
    root, suffix = os.path.splitext(name)
    return root if suffix.lower() in SUFFIXES else name


def _key(name: str) -> str:
    """Return a name in composed Unicode with its suffix in lower case."""
    root, suffix = os.path.splitext(_nfc(name))
    return root + suffix.lower()


def _is_mask(path: str) -> bool:
    low = path.lower()
    return any(word in low for word in MASK_WORDS)
