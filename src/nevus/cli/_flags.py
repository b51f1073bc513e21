"""Flags that several commands share, and the titled groups in which help shows them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from nevus.data.cache import CacheConfig
from nevus.data.splits import SplitConfig


def flag(default: Any, group: str = "Options", *, advanced: bool = False, show: tuple[str, ...] = ()) -> Any:
    """Make a field of a command.

    Args:
        default: its value.
        group: title under which help shows it.
        advanced: only `--help-all` shows it.
        show: of a nested configuration, the fields that help shows; `--help-all` shows all.

    """
    return field(default=default, metadata={"group": group, "advanced": advanced, "show": show})


@dataclass(frozen=True)
class PreparationFlags:
    """How a data set is made ready before a training.

    Attributes:
        check_duplicates: Whether to search for near-duplicates and same-lesion images, and keep them in one split.
        drop_leaks: Exclude training images that share a lesion with a test image.
        use_corrected_split: Use the leak-free split that comes with nevus (isic-malignant-benign, ham10000).

    """

    check_duplicates: bool = True
    drop_leaks: bool = False
    use_corrected_split: bool = False
    split: Annotated[SplitConfig, tyro.conf.arg(name="")] = SplitConfig()
    cache: CacheConfig = CacheConfig()


def pairs(flag_name: str, entries: tuple[str, ...], example: str) -> Mapping[str, str]:
    """Read KEY=VALUE entries.

    Raises:
        NevusError: one is none.

    """
    from nevus.errors import NevusError

    values = {}
    for entry in entries:
        key, sign, value = (part.strip() for part in entry.partition("="))
        if not sign or not key or not value:
            raise NevusError(f"Cannot read {flag_name} '{entry}': it is no KEY=VALUE. Write it as in {example}.")
        values[key] = value
    return values


DataFlag = tyro.conf.Positional[tuple[Path, ...]]
"""Data sets given without a flag."""
