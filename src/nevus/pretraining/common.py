"""What pre-training and distillation have in common: a run that ends with a backbone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
from torch import nn

from nevus._io import write_json
from nevus._progress import console
from nevus.data.manifest import Manifest
from nevus.errors import NevusError
from nevus.licenses import license_of
from nevus.models.checkpoint import save_backbone
from nevus.runtime.device import machine
from nevus.training.loop import ValidationResult
from nevus.training.run_dir import RunDir

BACKBONE = "backbone.safetensors"
HELD_OUT, MOST = 0.02, 1000
"""Share of the images on which a training is judged, and the most of them."""


def held_out(manifest: Manifest, seed: int) -> tuple[Manifest, Manifest]:
    """The images to train on, and a few to judge by: those of the split `validation`, else some groups.

    Raises:
        NevusError: there are fewer than two groups.

    """
    if "validation" in manifest.splits():
        return manifest.split("train"), manifest.split("validation")
    manifest = manifest.where((manifest.table["split"] != "test").to_numpy())
    groups = pd.factorize(manifest.table["group"], sort=True)[0]
    if len(manifest) < 2 or groups.max() < 1:
        raise NevusError(f"Cannot hold images out: {manifest.name} is one image or one group. Give more.")
    order = np.random.default_rng(seed).permutation(groups.max() + 1)
    wanted = min(MOST, max(1, round(HELD_OUT * len(manifest))))
    counts = np.bincount(groups)[order]
    taken = order[: max(1, int(np.searchsorted(counts.cumsum(), wanted)))]
    held = np.isin(groups, taken)
    return manifest.where(~held), manifest.where(held)


def license_of_all(manifest: Manifest, others: Sequence[str], start: str) -> str:
    """Return the license of weights that were trained on images, perhaps with teachers.

    `start` names the initial weights.
    """
    images = license_of([manifest.name, *sorted(set(manifest.table["source"]))], start)
    return "; ".join(dict.fromkeys([images, *others]))


def finished(run: RunDir) -> Path | None:
    """The backbone of a run that is complete."""
    path = run.folder / BACKBONE
    if not path.exists():
        return None
    console.print(f"{run.folder} is complete; its backbone is {path}")
    return path


def written(backbone: nn.Module, run: RunDir, judged: ValidationResult, seconds: float, precision: str) -> Path:
    """Write a run's backbone with what is known of it."""
    path = run.folder / BACKBONE
    about = {
        **run.config,
        "judged": asdict(judged),
        "seconds": seconds,  # of this process: a resumed run counts from where it went on
        "machine": {**machine(), "precision": precision},
        "versions": {name: version(name) for name in ("nevus", "torch", "timm")},
    }
    write_json(run.folder / "about.json", about)
    save_backbone(backbone, path, about)
    return path
