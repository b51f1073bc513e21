"""Flags that several commands share, and the titled groups in which help shows them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Any

import tyro


def flag(default: Any, group: str = "Options", *, advanced: bool = False, show: tuple[str, ...] = ()) -> Any:
    """Make a field of a command.

    Args:
        default: its value.
        group: title under which help shows it.
        advanced: only `--help-all` shows it.
        show: of a nested configuration, the fields that help shows; `--help-all` shows all.

    """
    return field(default=default, metadata={"group": group, "advanced": advanced, "show": show})


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
