"""The image check: whether an image shows a skin lesion, of which kind, and sharp enough.

One small network for all bundles. It is the first three stages of `bit-r26x0.5-generic`, pooled, with two linear scores
that `tools/fit_image_check.py` fitted on all public sources; `results/image_check.csv` has the rates on sources that
were left out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nevus._progress import progress
from nevus.data.images import Pixels
from nevus.data.preprocess import resize_square
from nevus.data.quality import image_issue, overexposed, sharpness
from nevus.runtime.engines import INFERENCE_BATCH_SIZE, OnnxEngine

if TYPE_CHECKING:
    from nevus.data.decoded import DecodedImages

CHECK_IMAGE_SIZE = 128
FOREIGN, PHOTOGRAPH = "foreign", "photograph"
DERMOSCOPIC, CLINICAL = "dermoscopic", "clinical"
"""Kinds of image, as the ISIC archive names them in `image_type`."""
FOLDER = Path(str(files("nevus"))) / "pretrained" / "image_check"
MAX_FLAGGED = 0.05
"""Largest share of validation images that a limit may flag; a bundle raises its limits to keep it."""


@dataclass(frozen=True)
class CheckLimits:
    """Limits of the scores.

    Attributes:
        foreign: score above which an image is foreign.
        photograph: score above which an image is a clinical photograph.
        sharpness: below which an image is blurred.

    """

    foreign: float
    photograph: float
    sharpness: float

    @classmethod
    def default(cls) -> CheckLimits:
        """Return the limits that were chosen on the public sources."""
        return cls(**json.loads((FOLDER / "limits.json").read_text(encoding="utf-8")))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> CheckLimits:
        """Read what `as_dict` wrote.

        Raises:
            TypeError, ValueError: they are no limits.

        """
        limits = cls(**{key: float(value) for key, value in values.items()})
        if not np.isfinite(list(limits.as_dict().values())).all():
            raise ValueError("a limit of the image check is no number")
        return limits

    def as_dict(self) -> dict[str, float]:
        """Return plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class ImageScores:
    """What the check measures of images, each (n,).

    Attributes:
        foreign: the higher, the less an image looks like a skin lesion.
        photograph: the higher, the more an image looks like a clinical photograph and the less like dermoscopy.
        sharpness: see `nevus.data.quality.sharpness`.
        issues: a problem of the pixels as a flag, or an empty string.

    """

    foreign: NDArray[np.float64]
    photograph: NDArray[np.float64]
    sharpness: NDArray[np.float64]
    issues: tuple[str, ...]

    def fitted_limits(self) -> CheckLimits:
        """Return limits that flag at most `MAX_FLAGGED` of these images, and are not stricter than the default's.

        Of a data set that differs from the public ones (other magnification, synthetic images) the default limits
        would flag most images, which says nothing of a single one.
        """
        default, n = CheckLimits.default(), len(self.foreign)
        if not n:
            return default
        return CheckLimits(
            foreign=max(default.foreign, float(np.quantile(self.foreign, 1 - MAX_FLAGGED))),
            photograph=default.photograph,
            sharpness=min(default.sharpness, float(np.quantile(self.sharpness, MAX_FLAGGED))),
        )

    def subset(self, rows: Sequence[int]) -> ImageScores:
        """Return the scores of some images."""
        of = list(rows)
        issues = tuple(self.issues[row] for row in of)
        return ImageScores(self.foreign[of], self.photograph[of], self.sharpness[of], issues)

    def row(self, index: int) -> dict[str, float]:
        """Return the scores of one image by their names."""
        return {name: float(getattr(self, name)[index]) for name in ("foreign", "photograph", "sharpness")}

    def kinds(self, limits: CheckLimits) -> tuple[str, ...]:
        """Return the kind of each image."""
        return tuple(CLINICAL if score > limits.photograph else DERMOSCOPIC for score in self.photograph)

    def flags(self, limits: CheckLimits) -> tuple[str, ...]:
        """Return for each image the first reason not to judge it, or an empty string."""
        found = []
        for issue, foreign, sharp in zip(self.issues, self.foreign, self.sharpness, strict=True):
            if issue:
                found.append(issue)
            elif foreign > limits.foreign:
                found.append("foreign")
            else:
                found.append("blurred" if sharp < limits.sharpness else "")
        return tuple(found)


ISSUES = {
    "nearly black": "blank",
    "nearly uniform": "blank",
    "a large flat region, as a damaged file has": "cut off",
    "a document or a drawing: mostly white": "foreign",
    "no color": "no color",
}
"""Flags by what `image_issue` returns."""


@cache
def _engine() -> OnnxEngine:
    return OnnxEngine(FOLDER / "model.onnx")


def check_images(squares: Pixels) -> ImageScores:
    """Check images.

    Args:
        squares: uint8 (n, CHECK_IMAGE_SIZE, CHECK_IMAGE_SIZE, 3).

    """
    foreign, photograph, sharp = [np.zeros(0)], [np.zeros(0)], [np.zeros(0)]
    for start in range(0, len(squares), INFERENCE_BATCH_SIZE):
        part = squares[start : start + INFERENCE_BATCH_SIZE]
        one, other = _engine().outputs(part, [FOREIGN, PHOTOGRAPH])
        foreign.append(one.astype(np.float64))
        photograph.append(other.astype(np.float64))
        sharp.append(sharpness(part))
    issues = tuple(map(_issue, squares))
    return ImageScores(np.concatenate(foreign), np.concatenate(photograph), np.concatenate(sharp), issues)


def image_kinds(images: DecodedImages) -> list[str]:
    """Recognize the kind of decoded images of any size, at the default limit and without the other checks.

    Args:
        images: n images; a batch of them is in memory at once.

    """
    limit, kinds = CheckLimits.default().photograph, list[str]()
    with progress() as bar:
        task = bar.add_task("recognizing kinds of image", total=len(images), note="")
        for start in range(0, len(images), INFERENCE_BATCH_SIZE):
            squares = [resize_square(one, CHECK_IMAGE_SIZE) for one in images[start : start + INFERENCE_BATCH_SIZE]]
            (scores,) = _engine().outputs(np.stack(squares), [PHOTOGRAPH])
            kinds += [CLINICAL if score > limit else DERMOSCOPIC for score in scores.tolist()]
            bar.advance(task, len(squares))
    return kinds


def _issue(pixels: Pixels) -> str:
    issue = image_issue(pixels)
    if issue:
        return ISSUES[issue]
    return "overexposed" if overexposed(pixels) else ""
