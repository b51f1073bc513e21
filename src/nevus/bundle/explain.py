"""Heat maps: which parts of an image speak for a class, without gradients and without torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nevus.bundle.classifier import Classifier
from nevus.bundle.ensemble import Ensemble, EnsembleEngine, disagreement
from nevus.bundle.image_check import CHECK_IMAGE_SIZE, check_images
from nevus.bundle.prediction import Prediction
from nevus.data.images import Pixels, Source, decode
from nevus.data.parallel import prefetch_map
from nevus.data.preprocess import resize_square
from nevus.errors import ImageError, NevusError
from nevus.metrics.calibration import Calibration
from nevus.metrics.scores import Floats
from nevus.models.label_groups import LabelGroups
from nevus.models.spec import ModelSpec
from nevus.runtime.engines import EVIDENCE, FINE_LOGITS, LOGITS, OnnxEngine
from nevus.runtime.tta import TTAPolicy, tta_views, untransform

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
            pixels: uint8 (h, w, 3), the decoded image.

        """
        scale = min(1.0, LONGEST_SIDE / max(pixels.shape[:2]))
        size = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
        image = Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR)
        return Image.alpha_composite(image.convert("RGBA"), self.layer(size)).convert("RGB")

    def layer(self, size: tuple[int, int]) -> Image.Image:
        """Draw the map alone, as an RGBA image that is transparent where the map is 0.

        Args:
            size: width and height in pixels.

        """
        # Single pixels of early stages are too fine to read: shown is the mean over small squares.
        coarse = Image.fromarray(self.map.astype(np.float32)).resize((SHOWN, SHOWN), Image.Resampling.BOX)
        heat = np.asarray(coarse.resize(size, Image.Resampling.BICUBIC), np.float64)
        strength = np.abs(heat) / max(float(np.quantile(np.abs(heat), 0.99)), 1e-12)
        alpha = 255 * 0.65 * np.clip(strength, 0, 1)[..., None]
        color = np.where(heat[..., None] > 0, np.array([214.0, 39.0, 40.0]), np.array([31.0, 119.0, 180.0]))
        return Image.fromarray(np.rint(np.concatenate([color, alpha], axis=-1)).astype(np.uint8))


def explain(
    classifier: Classifier,
    images: Iterable[Source],
    target: str | None = None,
    *,
    prevalence: float | None = None,
    networks: Sequence[EvidenceNetwork] | None = None,
) -> Iterator[Explanation]:
    """Explain images, in order, at constant memory; an image that cannot be used is an explanation without a map.

    An exact map costs no more than a prediction: one pass through the network gives both.

    Args:
        classifier: a bundle made ready.
        images: paths, PIL images or uint8 arrays (h, w, 3).
        target: class to explain; by default the positive one of two, else the most probable one of each image.
        prevalence: of the positive class where the classifier is used, see `Classifier.stream`.
        networks: what `evidence_networks` made, to explain one image after the other without loading models again.

    Raises:
        NevusError: there is no such class.

    """
    classes = classifier.classes
    if target is not None and target not in classes:
        raise NevusError(f"Cannot explain '{target}': the classes are {', '.join(classes)}. Correct --target.")
    given = classes.index(target) if target is not None else 1 if len(classes) == 2 else None
    return _explained(classifier, images, given, prevalence, networks or evidence_networks(classifier))


def _explained(
    classifier: Classifier,
    images: Iterable[Source],
    given: int | None,
    prevalence: float | None,
    networks: Sequence[EvidenceNetwork],
) -> Iterator[Explanation]:
    source = iter(images)
    while chunk := list(islice(source, BATCH)):
        decoded = list(prefetch_map(_decoded, chunk))
        usable = [one for one in decoded if not isinstance(one, str)]
        size = classifier.bundle.spec.image_size
        squares = [resize_square(one, size) for one in usable]
        checked = [resize_square(one, CHECK_IMAGE_SIZE) for one in usable]
        if not squares:
            found: list[Explanation] = []
        elif networks:
            found = _exact(networks, classifier, squares, checked, given, prevalence)
        else:
            found = _occluded(classifier, squares, checked, given, prevalence)
        explanations = iter(found)
        for image, one in zip(chunk, decoded, strict=True):
            if isinstance(one, str):
                method: Method = "exact" if networks else "occlusion"
                yield Explanation(Prediction(image, None, one), "", np.zeros((0, 0)), 0.0, 0.0, method)
            else:
                explanation = next(explanations)
                yield replace(explanation, prediction=replace(explanation.prediction, image=image))


def _decoded(image: Source) -> Pixels | str:
    try:
        return decode(image)
    except ImageError as error:
        return str(error)


@dataclass(frozen=True)
class EvidenceNetwork:
    """A network whose logits are sums over its feature maps.

    Attributes:
        engine: of its `model.onnx`.
        spec: of it.
        tta: its test-time augmentation.
        calibration: of its logits, within an ensemble; else the identity.

    """

    engine: OnnxEngine
    spec: ModelSpec
    tta: TTAPolicy
    calibration: Calibration

    def outputs(self, squares: Pixels) -> list[list[NDArray[np.float32]]]:
        """Return logits, fine logits and evidence maps of each view.

        Args:
            squares: uint8 (n, image_size, image_size, 3).

        """
        names = [name for name in self.engine.output_names if name.startswith(EVIDENCE)]
        asked = [LOGITS, FINE_LOGITS if self.spec.label_groups else LOGITS, *names]
        return [self.engine.outputs(np.ascontiguousarray(view), asked) for view in tta_views(squares, self.tta)]

    def heat(self, outputs: list[list[NDArray[np.float32]]], targets: list[int]) -> Floats:
        """Return what each pixel adds to the margin of the targets, float64 (n, image_size, image_size)."""
        size, views = self.spec.image_size, []
        for _, fine, *evidence in outputs:
            weights = class_weights(fine.astype(np.float64), self.spec.label_groups)
            weights *= np.array(self.calibration.scale)[:, None]
            maps = np.zeros((len(targets), size, size))
            for one in evidence:
                for row, target in enumerate(targets):
                    # What a position adds to the margin: weights of the fine classes, target minus the others' mean.
                    contrast = _contrast(weights[row], target)
                    maps[row] += enlarged(np.tensordot(contrast, one[row].astype(np.float64), 1), size)
            views.append(maps)
        return np.asarray(np.mean(untransform(views, self.tta), axis=0), np.float64)


def evidence_networks(classifier: Classifier) -> list[EvidenceNetwork]:
    """Load the models for exact maps; none where one of them has no such maps, and maps are made by occlusion."""
    bundle, k = classifier.bundle, len(classifier.classes)
    if classifier.is_ensemble:
        assert bundle.folder is not None
        members = Ensemble.load(bundle.folder).members
        found = [EvidenceNetwork(OnnxEngine(one.onnx), one.spec, one.tta, one.own_calibration) for one in members]
    elif bundle.onnx is None:
        return []
    else:
        same = Calibration.identity(k)
        found = [EvidenceNetwork(OnnxEngine(bundle.onnx), bundle.spec, classifier.tta, same)]
    return found if all(f"{EVIDENCE}_1" in one.engine.output_names for one in found) else []


def _targets(logits: Floats, given: int | None) -> list[int]:
    return [int(k) for k in logits.argmax(1)] if given is None else [given] * len(logits)


def _exact(
    networks: Sequence[EvidenceNetwork],
    classifier: Classifier,
    squares: list[Pixels],
    checked: list[Pixels],
    given: int | None,
    prevalence: float | None,
) -> list[Explanation]:
    """Explain squares; the margin of an ensemble is the mean of those of its networks, and so is the map."""
    size = classifier.bundle.spec.image_size
    outputs = [one.outputs(_resized(squares, one.spec.image_size)) for one in networks]
    own = [np.mean([view[0].astype(np.float64) for view in views], axis=0) for views in outputs]
    logits, spread = own[0], []
    if classifier.is_ensemble:
        each = np.stack([one.calibration.apply(z) for one, z in zip(networks, own, strict=True)])
        logits, spread = EnsembleEngine.logits(each).astype(np.float64), disagreement(each).tolist()
    targets = _targets(logits, given)
    heat = np.zeros((len(squares), size, size))
    for network, views in zip(networks, outputs, strict=True):
        heat += np.stack([enlarged(one, size) for one in network.heat(views, targets)]) / len(networks)
    predictions = classifier.decide(logits, check_images(np.stack(checked)), prevalence, spread)
    return [
        Explanation(prediction, classifier.classes[target], one, margin, margin - float(one.sum()), "exact")
        for prediction, one, target, margin in zip(
            predictions, heat, targets, map(_margin, logits, targets), strict=True
        )
    ]


def _resized(squares: list[Pixels], size: int) -> Pixels:
    return np.stack([one if len(one) == size else resize_square(one, size) for one in squares])


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


def _occluded(
    classifier: Classifier,
    squares: list[Pixels],
    checked: list[Pixels],
    given: int | None,
    prevalence: float | None,
) -> list[Explanation]:
    """Cover one patch after the other with the image's mean color, and measure how much the margin falls."""
    size = classifier.bundle.spec.image_size
    edges = np.linspace(0, size, min(GRID, size) + 1).round().astype(int)
    logits, spread = classifier.logits(squares)
    predictions = classifier.decide(logits, check_images(np.stack(checked)), prevalence, spread)
    found = []
    for square, prediction, row, target in zip(squares, predictions, logits, _targets(logits, given), strict=True):
        margin = _margin(row, target)
        heat, mean = np.zeros((size, size)), square.mean((0, 1)).round().astype(np.uint8)
        for top, bottom in pairwise(edges):
            covered = np.repeat(square[None], len(edges) - 1, axis=0)
            for k, (left, right) in enumerate(pairwise(edges)):
                covered[k, top:bottom, left:right] = mean
            fallen = classifier.engine(covered).astype(np.float64)
            for (left, right), one in zip(pairwise(edges), fallen, strict=True):
                heat[top:bottom, left:right] = margin - _margin(one, target)
        found.append(Explanation(prediction, classifier.classes[target], heat, margin, 0.0, "occlusion"))
    return found
