"""The figures that a run is looked at by."""

from __future__ import annotations

from pathlib import Path

from nevus.bundle import load_bundle
from nevus.report import plots


def write_run(folder: Path) -> tuple[Path, str]:
    """Draw `curves.png`, accuracy and loss by epoch (the paper's Fig. 3).

    Args:
        folder: of a finished run.

    Returns:
        The picture's path, and a sentence with training and validation accuracy and the gap between them.

    """
    provenance = load_bundle(folder / "bundle").provenance
    fit, rows = provenance["fit"], provenance["history"]
    path = folder / "curves.png"
    plots.save(plots.training_curves(rows, fit), path)
    accuracy = fit["validation"]["accuracy"]
    return path, (
        f"training accuracy {fit['training_accuracy']:.1%} (n {fit['training_n']:,}), validation accuracy "
        f"{accuracy['value']:.1%} ({accuracy['low']:.1%} to {accuracy['high']:.1%}, n {accuracy['n']:,}), "
        f"gap {100 * fit['gap']:+.1f} points"
    )
