"""The log of a bundle's evaluations on test splits."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nevus._io import append_line, cache_folder, ensure_writable, to_json
from nevus.bundle.builtin import is_builtin
from nevus.bundle.bundle import Bundle
from nevus.errors import NevusError

TEST_LOG = "test_log.jsonl"


def log_test_evaluation(bundle: Bundle, entry: Mapping[str, Any]) -> None:
    """Add a line to the bundle's log of evaluations on test splits, with the time.

    Raises:
        NevusError: the bundle has not been saved, or cannot be written.

    """
    if bundle.folder is None:
        raise NevusError("an evaluation on a test split is logged in the bundle; save the bundle first.")
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    append_line(_own_log(bundle), to_json({"time": now, **entry}, indent=None))


def read_test_log(bundle: Bundle) -> list[dict[str, Any]]:
    """The log of evaluations on test splits, oldest first; of a shipped classifier its makers' and one's own."""
    found: list[dict[str, Any]] = []
    assert bundle.folder is not None
    for path in dict.fromkeys((bundle.folder / TEST_LOG, _own_log(bundle))):
        found += _entries(path)
    return found


def _own_log(bundle: Bundle) -> Path:
    """In the bundle; but the folder of a classifier of the package is not the user's: in the cache."""
    assert bundle.folder is not None
    if not is_builtin(bundle.folder):
        return bundle.folder / TEST_LOG
    name = f"{bundle.folder.name}-{bundle.digest.removeprefix('sha256:')[:16]}.jsonl"
    return ensure_writable(cache_folder("evaluations")) / name


def _entries(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    found = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            found.append({"damaged": line})  # it still was a look
    return found
