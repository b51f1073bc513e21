"""The ABCD rule of dermoscopy, by image analysis: asymmetry, border, colors, structures.

The rule (Stolz et al. 1994, Nachbar et al. 1994) is one for trained eyes. What they see is approximated here by
simple means, each stated in its docstring with its threshold; no dermatologist has checked them.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from nevus.data.images import Pixels
from nevus.models.handcrafted.lesion import Mask

SUSPICIOUS, HIGHLY_SUSPICIOUS = 4.75, 5.45
"""Of the total dermoscopy score (Nachbar et al. 1994)."""
UNEQUAL = 0.14
"""Share of the lesion that its mirror image does not cover, from which an axis counts as asymmetric."""
UNLIKE = 9.0
"""Mean difference in Lab between the halves, from which it does, too."""
ABRUPT = 12.0
"""Difference of L, of 100, across the border, from which an eighth of it counts as abrupt."""
COLORS: dict[str, tuple[int, int, int]] = {
    "white": (230, 225, 220),
    "red": (180, 70, 70),
    "light_brown": (185, 130, 90),
    "dark_brown": (95, 60, 45),
    "blue_gray": (95, 105, 120),
    "black": (35, 30, 30),
}
"""The six of the rule, sRGB."""
PRESENT = 0.03
"""Share of the lesion from which a color or a structure counts as present."""
STRUCTURES = ("network", "structureless", "streaks", "dots", "globules")


@dataclass(frozen=True)
class AbcdMeasurements:
    """What the rule counts.

    Attributes:
        asymmetry: axes about which the lesion is asymmetric, 0 to 2.
        border: eighths of the border that are abrupt, 0 to 8.
        colors: of six, present, 1 to 6.
        structures: of five, present, 1 to 5.
        measures: by name what these were counted from.

    """

    asymmetry: int
    border: int
    colors: int
    structures: int
    measures: dict[str, float]

    @property
    def score(self) -> float:
        """The total dermoscopy score, 1.3 A + 0.1 B + 0.5 C + 0.5 D, 1.0 to 8.9."""
        return 1.3 * self.asymmetry + 0.1 * self.border + 0.5 * self.colors + 0.5 * self.structures


def abcd(pixels: Pixels, mask: Mask) -> AbcdMeasurements:
    """Count what the rule counts.

    Args:
        pixels: uint8 (image_size, image_size, 3).
        mask: of the lesion; not empty.

    """
    lab = np.asarray(cv2.cvtColor(pixels.astype(np.float32) / 255, cv2.COLOR_RGB2LAB), np.float32)
    shape, halves = _asymmetry(lab, mask)
    steps = _border(lab[..., 0], mask)
    shares, kinds = _colors(lab, mask), _structures(lab[..., 0], mask)
    measures = {f"abcd:uncovered_{k}": value for k, value in enumerate(shape)}
    measures |= {f"abcd:halves_{k}": value for k, value in enumerate(halves)}
    measures |= {"abcd:border_mean": float(np.mean(steps)), "abcd:border_std": float(np.std(steps))}
    measures |= {f"abcd:{name}": share for name, share in {**shares, **kinds}.items()}
    return AbcdMeasurements(
        asymmetry=sum(s > UNEQUAL or h > UNLIKE for s, h in zip(shape, halves, strict=True)),
        border=int(sum(step > ABRUPT for step in steps)),
        colors=max(1, sum(share > PRESENT for share in shares.values())),
        structures=max(1, sum(share > PRESENT for share in kinds.values())),
        measures={**measures, **_outline(mask)},
    )


def _asymmetry(lab: NDArray[np.float32], mask: Mask) -> tuple[list[float], list[float]]:
    """Measure the asymmetry about the lesion's two principal axes, the long one first.

    The share of the lesion that its mirror image does not cover, and the mean difference in Lab where it does.
    """
    image_size = len(mask)
    m = cv2.moments(mask.astype(np.uint8), binaryImage=True)
    center = (m["m10"] / m["m00"], m["m01"] / m["m00"])
    angle = np.degrees(0.5 * np.arctan2(2 * m["mu11"], m["mu20"] - m["mu02"]))
    turn = np.asarray(cv2.getRotationMatrix2D(center, angle, 1.0), np.float64)
    turn[:, 2] += (image_size - 1) / 2 - np.array(center)
    upright = cv2.warpAffine(mask.astype(np.uint8), turn, (image_size, image_size), flags=cv2.INTER_NEAREST) > 0
    colors = cv2.warpAffine(lab, turn, (image_size, image_size), borderMode=cv2.BORDER_REPLICATE)
    shape, halves = [], []
    for axis in (0, 1):
        mirrored = np.flip(upright, axis)
        both = upright & mirrored
        shape.append(float((upright & ~mirrored).sum() / max(upright.sum(), 1)))
        difference = np.linalg.norm(colors - np.flip(colors, axis), axis=-1)
        halves.append(float(difference[both].mean()) if both.any() else 0.0)
    return shape, halves


def _border(light: NDArray[np.float32], mask: Mask) -> list[float]:
    """By eighths around the lesion's center, how much lighter it is just outside of the border than just inside."""
    width = max(1, round(0.04 * len(mask)))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * width + 1, 2 * width + 1))
    own = mask.astype(np.uint8)
    outside = (cv2.dilate(own, kernel) > 0) & ~mask
    inside = mask & ~(cv2.erode(own, kernel, borderValue=1) > 0)
    y, x = np.indices(mask.shape)
    cy, cx = (np.nonzero(mask)[k].mean() for k in (0, 1))
    eighth = (np.floor((np.arctan2(y - cy, x - cx) + np.pi) / (np.pi / 4)).astype(int)) % 8
    steps = []
    for k in range(8):
        here, there = light[outside & (eighth == k)], light[inside & (eighth == k)]
        steps.append(float(here.mean() - there.mean()) if len(here) and len(there) else 0.0)
    return steps


def _colors(lab: NDArray[np.float32], mask: Mask) -> dict[str, float]:
    """Share of the lesion that is nearest, in Lab, to each color, where it is nearer to it than to skin."""
    palette = np.array([*COLORS.values()], np.float32)[None] / 255
    references = cv2.cvtColor(palette, cv2.COLOR_RGB2LAB)[0]
    if not mask.all():  # unaffected skin is no color of the lesion
        references = np.vstack([references, np.median(lab[~mask], axis=0)])
    nearest = np.linalg.norm(lab[mask][:, None] - references, axis=-1).argmin(1)
    shares = np.bincount(nearest, minlength=len(references)) / len(nearest)
    return {name: float(share) for name, share in zip(COLORS, shares, strict=False)}


def _structures(light: NDArray[np.float32], mask: Mask) -> dict[str, float]:
    """Share of the lesion under each kind of structure.

    Dots are dark blobs of about 1 % of the side, globules of about 2.5 % (the Laplacian of a Gaussian at that
    scale); the network is where dark lines (ridges: the larger eigenvalue of the Hessian, where the smaller is less
    than half of it) are found away from the border, streaks where they are found along it; structureless is where
    the luminance hardly varies within 4 % of the side.
    """
    image_size = len(mask)
    spot = {}
    for name, share in (("dots", 0.01), ("globules", 0.025)):
        sigma = share * image_size / 2**0.5
        blurred = cv2.GaussianBlur(light, (0, 0), sigma)
        spot[name] = sigma**2 * cv2.Laplacian(blurred, cv2.CV_32F, ksize=3) / 4 > 2.0
    smooth = cv2.GaussianBlur(light, (0, 0), 0.012 * image_size)
    xx, yy, xy = (cv2.Sobel(smooth, cv2.CV_32F, *order, ksize=3) / 4 for order in ((2, 0), (0, 2), (1, 1)))
    spread = np.sqrt((xx - yy) ** 2 / 4 + xy**2)
    large, small = (xx + yy) / 2 + spread, (xx + yy) / 2 - spread
    lines = (large > 0.8) & (np.abs(small) < large / 2)
    depth = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 3)[1:-1, 1:-1]
    rim = depth < 0.06 * image_size
    size = 2 * round(0.02 * image_size) + 1
    mean, square = cv2.blur(light, (size, size)), cv2.blur(light * light, (size, size))
    flat = np.sqrt(np.maximum(square - mean**2, 0)) < 1.5
    whole = int(mask.sum())
    return {
        "network": float((lines & mask & ~rim).sum() / whole),
        "structureless": float((flat & mask).sum() / whole),
        "streaks": float((lines & mask & rim).sum() / whole),
        "dots": float((spot["dots"] & mask & ~lines).sum() / whole),
        "globules": float((spot["globules"] & mask & ~lines & ~spot["dots"]).sum() / whole),
    }


def _outline(mask: Mask) -> dict[str, float]:
    """Measure size and shape of the lesion.

    The diameter, of a circle of the lesion's area and across it, in sides of the image; 4 pi area / perimeter^2; area /
    area of its convex hull; shorter / longer axis.
    """
    image_size = len(mask)
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    largest = max(contours, key=cv2.contourArea)
    area, around = max(cv2.contourArea(largest), 1.0), max(cv2.arcLength(largest, True), 1.0)
    hull = cv2.convexHull(largest)
    (_, across, _) = cv2.minAreaRect(largest)
    return {
        "abcd:diameter": float((4 * mask.sum() / np.pi) ** 0.5 / image_size),
        "abcd:across": float(max(across) / image_size),
        "abcd:roundness": float(min(4 * np.pi * area / around**2, 1.0)),
        "abcd:solidity": float(area / max(cv2.contourArea(hull), area)),
        "abcd:axes": float(min(across) / max(*across, 1e-6)),
    }
