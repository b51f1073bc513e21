"""The figures that a run is looked at by."""

from __future__ import annotations

import json
from pathlib import Path

from nevus.report import plots
from nevus.training.history import epochs_of
from nevus.training.run import METRICS


def write_run(folder: Path) -> tuple[Path, str]:
    """Draw `curves.png`, accuracy and loss by epoch (the paper's Fig. 3).

    Args:
        folder: of a finished run.

    Returns:
        The picture's path, and a sentence with training and validation accuracy and the gap between them.

    """
    fit = json.loads((folder / "fit.json").read_text(encoding="utf-8"))
    lines = (folder / METRICS).read_text(encoding="utf-8").splitlines()
    rows = epochs_of([json.loads(line) for line in lines])
    path = folder / "curves.png"
    plots.save(plots.training_curves(rows, fit), path)
    accuracy = fit["validation"]["accuracy"]
    return path, (
        f"training accuracy {fit['training_accuracy']:.1%} (n {fit['training_n']:,}), validation accuracy "
        f"{accuracy['value']:.1%} ({accuracy['low']:.1%} to {accuracy['high']:.1%}, n {accuracy['n']:,}), "
        f"gap {100 * fit['gap']:+.1f} points"
    )
