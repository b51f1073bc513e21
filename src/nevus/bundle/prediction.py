"""The prediction for one image, and its row in a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from nevus.data.images import Source


@dataclass(frozen=True)
class Prediction:
    """The prediction for one image.

    Attributes:
        image: the path, PIL image or array that was given.
        probabilities: calibrated, by class, float64 (classes,), summing to 1; None if the image cannot be used.
        error: the reason in one sentence; None if the image can be used.
        logits: float64 (classes,), before calibration; None if the image cannot be used.
        decision: `cannot judge` where there is a flag; else the class at the bundle's operating point, or the most
            probable one where the bundle has none. Empty if the image cannot be used.
        members: the conformal set: the classes that cannot be excluded; empty where the bundle has no sets.
        flag: reason not to trust the number, see `DecisionRule.flags`; empty if there is none.
        kind: of image, recognized as `dermoscopic` or `clinical`; empty if it was not looked for.
        scores: of the image check, see `nevus.bundle.image_check.ImageScores`: `foreign`, `photograph`, `sharpness`;
            empty if it was not made.
        disagreement: of the networks of an ensemble, see `nevus.bundle.ensemble.disagreement`; else None.

    """

    image: Source
    probabilities: NDArray[np.float64] | None
    error: str | None
    logits: NDArray[np.float64] | None = None
    decision: str = ""
    members: tuple[str, ...] = ()
    flag: str = ""
    kind: str = ""
    scores: Mapping[str, float] = field(default_factory=dict)
    disagreement: float | None = None


def prediction_columns(classes: Sequence[str], *, ensemble: bool = False) -> list[str]:
    """Return the columns of a table of predictions.

    `image`, `label` (the most probable class), `p_<class>` for each class, `error`, `decision`, `set` (the conformal
    set, its classes separated by `|`) and `flag`; of an ensemble also `disagreement`.
    """
    last = ["disagreement"] if ensemble else []
    return ["image", "label", *(f"p_{name}" for name in classes), "error", "decision", "set", "flag", *last]


def prediction_row(
    prediction: Prediction, classes: Sequence[str], *, ensemble: bool = False
) -> dict[str, str | float | None]:
    """Return a prediction by the columns of `prediction_columns`; what does not apply is None."""
    p = prediction.probabilities
    values = [None] * len(classes) if p is None else [round(float(value), 6) for value in p]
    label = None if p is None else classes[int(p.argmax())]
    judged = [None] * 3 if p is None else [prediction.decision, "|".join(prediction.members), prediction.flag]
    spread = prediction.disagreement
    last = [None if spread is None else round(spread, 6)] if ensemble else []
    cells = [str(prediction.image), label, *values, prediction.error, *judged, *last]
    return dict(zip(prediction_columns(classes, ensemble=ensemble), cells, strict=True))
