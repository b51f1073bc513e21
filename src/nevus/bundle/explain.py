"""Heat maps: which parts of an image speak for a class, without gradients and without torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Literal

import numpy as np
from PIL import Image

from nevus.bundle.bundle import Bundle
from nevus.bundle.classifier import Classifier, Prediction
from nevus.data.images import Pixels, Source, decode
from nevus.data.preprocess import resize_square
from nevus.errors import NevusError
from nevus.metrics.scores import Floats
from nevus.models.label_groups import LabelGroups
from nevus.runtime.engines import EVIDENCE, FINE_LOGITS, LOGITS, OnnxEngine
from nevus.runtime.tta import tta_views, untransform

BATCH = 8
"""Images that are explained at once; each of their maps is held in memory."""
GRID = 12
"""Patches along a side that an occlusion map covers, one after the other."""
SHOWN = 28
"""Squares along a side that an overlay shows."""
LONGEST_SIDE = 1024
"""Longest side of an overlay in pixels."""

Method = Literal["exact", "occlusion"]


@dataclass(frozen=True)
class Explanation:
    """A heat map of one image.

    Attributes:
        prediction: of the image.
        target: the class that the map speaks for (positive values) or against (negative ones).
        map: float64 (image_size, image_size), what each pixel of the square adds to the margin.
        margin: logit of the target minus the mean logit of the other classes, before calibration.
        constant: part of the margin that belongs to no pixel; `map.sum() + constant` is the margin.
        method: `exact`: the decomposition of `ImageClassifier.outputs`; `occlusion`: how much the margin falls when a
            patch is covered, for models that have no such decomposition. Then the sum means nothing.

    """

    prediction: Prediction
    target: str
    map: Floats
    margin: float
    constant: float
    method: Method

    def overlay(self, pixels: Pixels) -> Image.Image:
        """Draw the map over the image, red for the target and blue against it.

        Args:
            pixels: uint8 (h, w, 3), the image as it was decoded.

        """
        scale = min(1.0, LONGEST_SIDE / max(pixels.shape[:2]))
        size = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
        image = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR), np.float64)
        # Single pixels of early stages are too fine to read: shown is the mean over small squares.
        coarse = Image.fromarray(self.map.astype(np.float32)).resize((SHOWN, SHOWN), Image.Resampling.BOX)
        heat = np.asarray(coarse.resize(size, Image.Resampling.BICUBIC), np.float64)
        strength = np.abs(heat) / max(float(np.quantile(np.abs(heat), 0.99)), 1e-12)
        alpha = 0.65 * np.clip(strength, 0, 1)[..., None]
        color = np.where(heat[..., None] > 0, np.array([214.0, 39.0, 40.0]), np.array([31.0, 119.0, 180.0]))
        return Image.fromarray(np.rint(image * (1 - alpha) + color * alpha).astype(np.uint8))


def explain(classifier: Classifier, images: Iterable[Source], target: str | None = None) -> Iterator[Explanation]:
    """Explain images, in order, at constant memory; an image that cannot be used is an explanation without a map.

    Args:
        classifier: a bundle made ready.
        images: paths, PIL images or uint8 arrays (h, w, 3).
        target: class to explain; by default the positive one of two, else the most probable one of each image.

    Raises:
        NevusError: there is no such class.

    """
    bundle = classifier.bundle
    if target is not None and target not in bundle.classes:
        raise NevusError(f"Cannot explain '{target}': the classes are {', '.join(bundle.classes)}. Correct --target.")
    if target is None and len(bundle.classes) == 2:
        target = bundle.classes[1]
    exact = _evidence_engine(bundle)
    method: Method = "exact" if exact else "occlusion"
    source = iter(images)
    while chunk := list(islice(source, BATCH)):
        predictions = list(classifier.stream(chunk))
        usable = [p for p in predictions if p.error is None]
        squares = [resize_square(decode(p.image), bundle.spec.image_size) for p in usable]
        targets = [bundle.classes.index(target or _most_probable(p, bundle.classes)) for p in usable]
        found = _exact(exact, classifier, squares, targets) if exact else _occluded(classifier, squares, targets)
        maps = iter(found)
        for prediction in predictions:
            if prediction.error is not None:
                yield Explanation(prediction, target or "", np.zeros((0, 0)), 0.0, 0.0, method)
                continue
            heat, margin, constant, cls = next(maps)
            yield Explanation(prediction, bundle.classes[cls], heat, margin, constant, method)


def _most_probable(prediction: Prediction, classes: Sequence[str]) -> str:
    assert prediction.probabilities is not None
    return classes[int(prediction.probabilities.argmax())]


def _evidence_engine(bundle: Bundle) -> OnnxEngine | None:
    engine = OnnxEngine(bundle.onnx) if bundle.onnx else None
    return engine if engine and f"{EVIDENCE}_1" in engine.output_names else None


Found = tuple[Floats, float, float, int]
"""Map, margin, constant and target."""


def _exact(engine: OnnxEngine, classifier: Classifier, squares: list[Pixels], targets: list[int]) -> list[Found]:
    if not squares:
        return []
    spec, tta = classifier.bundle.spec, classifier.tta
    names = [name for name in engine.output_names if name.startswith(EVIDENCE)]
    fine_name = FINE_LOGITS if spec.label_groups else LOGITS
    views, margins = [], np.zeros(len(squares))
    for view in tta_views(np.stack(squares), tta):
        logits, fine, *evidence = (
            one.astype(np.float64) for one in engine.outputs(np.ascontiguousarray(view), [LOGITS, fine_name, *names])
        )
        weights = class_weights(fine, spec.label_groups)
        maps = np.zeros((len(squares), spec.image_size, spec.image_size))
        for one in evidence:
            for row, target in enumerate(targets):
                # What a position adds to the margin: the weights of the fine classes, target minus the others' mean.
                contrast = _contrast(weights[row], target)
                maps[row] += enlarged(np.tensordot(contrast, one[row], 1), spec.image_size)
        views.append(maps)
        margins += [_margin(row, target) for row, target in zip(logits, targets, strict=True)]
    heat = np.mean(untransform(views, tta), axis=0)
    margins /= len(views)
    return [
        (one, float(margin), float(margin - one.sum()), target)
        for one, margin, target in zip(heat, margins, targets, strict=True)
    ]


def class_weights(fine: Floats, groups: LabelGroups | None) -> Floats:
    """Return how the evidence of the fine classes adds up to that of the classes, (n, classes, fine classes).

    Without label groups it is the identity, and evidence and bias add up to the logits. The logit of a group is the
    log of a sum of exponentials; its derivative by the fine logits, their share of the group's probability, weighs
    them. Evidence and bias then add up to the logit but for the entropy of these shares, which belongs to no pixel.

    Args:
        fine: logits of the fine classes, (n, fine classes).
        groups: of the bundle.

    """
    n, k = fine.shape
    if groups is None:
        return np.broadcast_to(np.eye(k), (n, k, k)).copy()
    moved = fine + np.log(groups.class_prior) if groups.class_prior else fine
    weights = np.zeros((n, len(groups.classes), k))
    for group, places in enumerate(groups.indices):
        part = moved[:, list(places)]
        share = np.exp(part - part.max(1, keepdims=True))
        weights[:, group, list(places)] = share / share.sum(1, keepdims=True)
    return weights


def _contrast(weights: Floats, target: int) -> Floats:
    others = np.delete(weights, target, axis=0)
    return np.asarray(weights[target] - others.mean(0), np.float64)


def _margin(logits: Floats, target: int) -> float:
    return float(logits[target] - np.delete(logits, target).mean())


def enlarged(evidence: Floats, size: int) -> Floats:
    """Enlarge a map (h, w) to (size, size), bilinear, with the same sum."""
    h, w = evidence.shape
    small = (evidence * h * w / size**2).astype(np.float32)
    big = np.asarray(Image.fromarray(small).resize((size, size), Image.Resampling.BILINEAR), np.float64)
    return big + (float(evidence.sum()) - float(big.sum())) / size**2


def _occluded(classifier: Classifier, squares: list[Pixels], targets: list[int]) -> list[Found]:
    """Cover one patch after the other with the image's mean color, and measure how much the margin falls."""
    size = classifier.bundle.spec.image_size
    edges = np.linspace(0, size, min(GRID, size) + 1).round().astype(int)
    found = []
    for square, target in zip(squares, targets, strict=True):
        margin = _margin(classifier.engine(square[None]).astype(np.float64)[0], target)
        heat, mean = np.zeros((size, size)), square.mean((0, 1)).round().astype(np.uint8)
        for top, bottom in pairwise(edges):
            covered = np.repeat(square[None], len(edges) - 1, axis=0)
            for k, (left, right) in enumerate(pairwise(edges)):
                covered[k, top:bottom, left:right] = mean
            logits = classifier.engine(covered).astype(np.float64)
            for (left, right), row in zip(pairwise(edges), logits, strict=True):
                heat[top:bottom, left:right] = margin - _margin(row, target)
        found.append((heat, margin, 0.0, target))
    return found
