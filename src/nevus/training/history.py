"""A training by epoch."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator, Mapping, Sequence

import numpy as np


def metrics_by_epoch(metrics: Sequence[Mapping[str, float]], score: str = "accuracy") -> list[dict[str, float]]:
    """Summarize the metrics of a run by evaluation: epoch, losses and scores.

    The training values are means over the steps since the previous evaluation, on augmented images. A last interval of
    less than half the usual length is merged with the previous one, since the mean of a few steps is noisy.
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


TRAINING_STAGES = ("features", "linear probe", "training", "fitting")
"""Stages that are counted as training time; decoding, the duplicate check and validation are not."""


class StageTimer:
    """Seconds by stage of the work.

    Attributes:
        seconds: of each finished stage, in the order in which they began.
        stage: name of the current stage; empty between stages.
        time_limit: seconds of training, see `TRAINING_STAGES`.

    """

    def __init__(self, time_limit: float = math.inf) -> None:
        self.seconds: dict[str, float] = {}
        self.stage = ""
        self.time_limit = time_limit
        self._began = 0.0

    @contextlib.contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Count what is done inside."""
        self._began, self.stage = time.perf_counter(), stage
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - self._began
            self.stage = ""

    def expired(self) -> bool:
        """Return whether the time limit of the training is over."""
        spent = sum(seconds for stage, seconds in self.seconds.items() if stage in TRAINING_STAGES)
        if self.stage in TRAINING_STAGES:
            spent += time.perf_counter() - self._began
        return spent > self.time_limit
