"""From image files to a saved and checked bundle: `nevus train --preset fast`, with nothing cached, by stage.

    python -m benchmarks.fast DATA [--keep]

Once with the duplicate check and once without, each in a process of its own with an empty cache. `rest` is the start of
Python, the splits, decision rule and image check, and the bundle.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.rows import keep, machine_name, show

RUNS = {"with the duplicate check": [], "without": ["--no-check-duplicates"]}
STAGES = {"audit": "check", "decoding": "decoding", "features": "features", "linear probe": "linear_probe"}
"""Columns, by the names of the stages in `fit.json`. The check decodes the files for the training, too."""


def measure(data: Path, flags: list[str]) -> dict[str, Any]:
    """Train once; return the seconds by stage."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        command = [sys.executable, "-m", "nevus", "train", str(data), "--preset", "fast", "--out", str(run), *flags]
        began = time.perf_counter()
        subprocess.run(
            command,
            check=True,
            env={**os.environ, "NEVUS_CACHE": str(Path(folder) / "cache")},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        seconds = time.perf_counter() - began
        fit = json.loads((run / "fit.json").read_text("utf-8"))
    stages = {column: fit["seconds"].get(stage, 0.0) for stage, column in STAGES.items()}
    precision = {"precision": fit["machine"]["precision"]}
    return {"seconds": seconds, **stages, "rest": seconds - sum(stages.values()), **precision}


def main() -> None:
    """Print the table; with --keep also write it to results/fast.csv."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    rows = [{"run": name, "data": options.data.name, **measure(options.data, flags)} for name, flags in RUNS.items()]
    show(rows, f"seconds of nevus train {options.data.name} --preset fast on {machine_name()}", digits=1)
    if options.keep:
        keep(rows, "fast", ["run", "data"])


if __name__ == "__main__":
    main()
