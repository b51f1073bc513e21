"""The figures that a run is looked at by."""

from __future__ import annotations

import json
from pathlib import Path

from nevus.bundle.bundle import CARD, load_bundle
from nevus.report import plots
from nevus.training.history import metrics_by_epoch
from nevus.training.run_dir import METRICS


def write_run(folder: Path) -> tuple[Path, str]:
    """Draw `curves.png`, accuracy and loss by epoch (the paper's Fig. 3), where the training had epochs.

    Args:
        folder: of a finished run.

    Returns:
        The picture's path, else that of the model card, and a sentence with training and validation accuracy, the
        gap between them, and the time of each stage.

    """
    provenance = load_bundle(folder / "bundle").provenance
    fit, rows = provenance["fit"], provenance["history"]
    path = folder / "curves.png" if rows else folder / "bundle" / CARD
    if rows:
        plots.save(plots.training_curves(rows, fit), path)
    accuracy = fit["validation"]["accuracy"]
    return path, (
        f"training accuracy {fit['training_accuracy']:.1%} (n {fit['training_n']:,}), validation accuracy "
        f"{accuracy['value']:.1%} ({accuracy['ci_low']:.1%} to {accuracy['ci_high']:.1%}, n {accuracy['n']:,}), "
        f"gap {100 * fit['gap']:+.1f} points; "
        + ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in fit["seconds"].items())
    )


def write_upstream(folder: Path, score: str) -> tuple[Path, str]:
    """Draw `curves.png` of a pre-training or a distillation.

    Args:
        folder: of a finished run.
        score: what its objective calls its score.

    Returns:
        The picture's path, and a sentence on what was reached on the images that were held out.

    """
    about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
    lines = (folder / METRICS).read_text(encoding="utf-8").splitlines()
    judged = about["judged"]
    sentence = f"{score} of held-out images: {judged['score']:.1%}, loss {judged['loss']:.3f}"
    path = folder / "curves.png"
    plots.save(
        plots.upstream_curves(metrics_by_epoch([json.loads(line) for line in lines], score), score, sentence), path
    )
    return path, sentence
