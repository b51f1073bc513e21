"""A training by epoch."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence

import numpy as np


def metrics_by_epoch(metrics: Sequence[Mapping[str, float]], score: str = "accuracy") -> list[dict[str, float]]:
    """A run's lines of metrics to one a look at validation: epoch, both losses, both scores.

    The training values are means over the steps since the look before, on the augmented images as they were
    trained on. A last stretch of less than half the usual length is counted with the one before it: the mean of
    a step or two says nothing.
    """
    before: tuple[list[float], list[float]] = ([], [])
    rows: list[dict[str, float]] = []
    losses: list[float] = []
    rights: list[float] = []
    for line in metrics:
        if "validation_loss" in line:
            if len(losses) < len(before[0]) / 2:
                losses, rights = before[0] + losses, before[1] + rights
            before = (losses, rights)
            rows.append(
                {
                    "epoch": line["epoch"],
                    "training_loss": float(np.mean(losses)) if losses else float("nan"),
                    f"training_{score}": float(np.mean(rights)) if rights else float("nan"),
                    "validation_loss": line["validation_loss"],
                    f"validation_{score}": line[f"validation_{score}"],
                }
            )
            losses, rights = [], []
        else:
            losses.append(line["loss"])
            rights.append(line[score])
    return rows


class StageTimer:
    """Seconds by stage of the work.

    Attributes:
        seconds: of each stage, in the order in which they were begun.

    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Count what is done inside."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - began
