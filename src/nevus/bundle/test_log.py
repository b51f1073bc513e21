"""The log of a bundle's evaluations on test splits, and their results."""

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
TEST_RESULTS = "test_results.jsonl"


def log_test_evaluation(bundle: Bundle, entry: Mapping[str, Any]) -> None:
    """Add a line to the bundle's log of evaluations on test splits, with the time.

    Raises:
        NevusError: the bundle has not been saved, or cannot be written.

    """
    if bundle.folder is None:
        raise NevusError("Cannot log an evaluation on a test split: the bundle has not been saved. Save it first.")
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    append_line(_own_log(bundle), to_json({"time": now, **entry}, indent=None))


def log_test_result(bundle: Bundle, entry: Mapping[str, Any]) -> None:
    """Add a line to the results of the bundle on test splits, once the result of a logged evaluation is known.

    Raises:
        NevusError: the bundle cannot be written.

    """
    append_line(_own_log(bundle, TEST_RESULTS), to_json(entry, indent=None))


def read_test_log(bundle: Bundle) -> list[dict[str, Any]]:
    """The log of evaluations on test splits, oldest first; of a shipped classifier its makers' and one's own."""
    return _both(bundle, TEST_LOG)


def read_test_result(bundle: Bundle) -> dict[str, Any] | None:
    """The last result on a test split of the data set that the bundle was trained on, or else of another one.

    Returns:
        `data` (name), `split`, `n`, `positives`, `guaranteed` (the sensitivity of the operating point), `sensitivity`
        and `specificity`, each with `value`, `ci_low` and `ci_high`; None where there is no result at the bundle's
        operating point.

    """
    point = bundle.rule.operating_point
    if bundle.folder is None or point is None:
        return None
    found = [entry for entry in _both(bundle, TEST_RESULTS) if entry.get("guaranteed") == point.sensitivity]
    trained = bundle.provenance.get("data", {}).get("name")
    return next((entry for entry in reversed(found) if entry["data"] == trained), found[-1] if found else None)


def _both(bundle: Bundle, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    assert bundle.folder is not None
    for path in dict.fromkeys((bundle.folder / name, _own_log(bundle, name))):
        found += _entries(path)
    return found


def _own_log(bundle: Bundle, file: str = TEST_LOG) -> Path:
    """In the bundle; but the folder of a classifier of the package is not the user's: in the cache."""
    assert bundle.folder is not None
    if not is_builtin(bundle.folder):
        return bundle.folder / file
    kind = "" if file == TEST_LOG else "-results"
    name = f"{bundle.folder.name}-{bundle.digest.removeprefix('sha256:')[:16]}{kind}.jsonl"
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
