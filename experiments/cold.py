"""From image files to a saved bundle, with nothing remembered from before: seconds on the clock, by stage.

    python -m experiments.cold

Each setting is trained by a process of its own with an empty cache, with the audit's groups and without
(`--no-audit`, as the paper did). Nothing else is to run on the machine. The test split is not looked at.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any

from experiments.common import RUNS, keep, nevus, read
from experiments.transfer import ADAPTED, PAPER, SETTINGS

WAYS = ("head-dermoscopy-wide", "head-dermoscopy-smaller", "head-dermoscopy-mirrored")
"""With the adapted trunk; the generic one has the same size."""


def cold(way: str, audited: bool) -> dict[str, Any]:
    """Seconds on the clock and by stage, and how sure the bundle is of its validation split."""
    assert ADAPTED in SETTINGS[f"{way}-official"]["flags"]
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NEVUS_CACHE"] = str(Path(folder) / "cache")
        out = RUNS / "cold" / Path(folder).name / way
        flags = [*SETTINGS[f"{way}-official"]["flags"], "--seed", 0, *([] if audited else ["--no-audit"])]
        begun = time.perf_counter()
        command = nevus("train", PAPER, "--out", out, *flags)
        wall = time.perf_counter() - begun
    return {
        "way": way,
        "audited": audited,
        "command": command.replace(f"/{Path(folder).name}", ""),
        "wall": wall,
        "fit": read(out / "fit.json"),
    }


if __name__ == "__main__":
    keep("cold", {"rows": [cold(way, audited) for way in WAYS for audited in (False, True)]})
