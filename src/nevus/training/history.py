"""A training by epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np


def epochs_of(metrics: Sequence[Mapping[str, float]]) -> list[dict[str, float]]:
    """A run's lines of metrics to one a look at validation: epoch, both losses, both accuracies.

    The training values are means over the steps since the look before, on the augmented images as they were
    trained on.
    """
    rows: list[dict[str, float]] = []
    losses: list[float] = []
    rights: list[float] = []
    for line in metrics:
        if "validation_loss" in line:
            rows.append(
                {
                    "epoch": line["epoch"],
                    "training_loss": float(np.mean(losses)) if losses else float("nan"),
                    "training_accuracy": float(np.mean(rights)) if rights else float("nan"),
                    "validation_loss": line["validation_loss"],
                    "validation_accuracy": line["validation_accuracy"],
                }
            )
            losses, rights = [], []
        else:
            losses.append(line["loss"])
            rights.append(line["accuracy"])
    return rows
