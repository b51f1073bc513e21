"""The built-in classifiers."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

CLASSIFIERS = Path(str(files("nevus").joinpath("pretrained", "classifiers")))
"""Folder of their bundles."""


def builtin_names() -> tuple[str, ...]:
    """Return the names of the built-in classifiers."""
    found = CLASSIFIERS.iterdir() if CLASSIFIERS.is_dir() else ()
    return tuple(sorted(path.name for path in found if (path / "config.json").is_file()))


def resolve_bundle(bundle: Path | str) -> Path:
    """The folder of a bundle: the path itself, or that of a shipped classifier of this name where there is no path.

    A folder of one's own goes before a shipped classifier of the same name.
    """
    path = Path(bundle)
    if not path.exists() and str(bundle) in builtin_names():
        return CLASSIFIERS / str(bundle)
    return path


def is_builtin(folder: Path) -> bool:
    """Whether a bundle's folder is the package's own, in which nothing is ever written."""
    return folder.parent == CLASSIFIERS
