"""Whether the individual typology angle of an image tells the skin type.

    python -m reproduce.skin_tone PAD_UFES_20

The angle (Chardon et al. 1991) is arctan((L* - 50) / b*) in degrees, here the median over pixels that are probably
skin. It is compared with the Fitzpatrick types that dermatologists noted. Rows of results/skin_tone.csv.
"""

from __future__ import annotations

import sys

import numpy as np
from benchmarks.rows import keep
from numpy.typing import NDArray
from scipy.stats import spearmanr
from skimage.color import rgb2lab
from skimage.filters import threshold_otsu

from nevus.data.images import Pixels, decode
from nevus.data.manifest import SKIN_TYPES
from nevus.data.preprocess import resize_square
from nevus.data.readers.dispatch import read

SIZE, MARGIN = 128, 16
"""Side of the images, and width of the border ring, in pixels."""


def balanced(pixels: Pixels) -> Pixels:
    """Return an image whose brightest percent of each channel is white."""
    values = pixels / np.maximum(np.quantile(pixels, 0.99, axis=(0, 1)), 1)
    return np.rint(255 * values.clip(0, 1)).astype(np.uint8)


def angle(pixels: Pixels, where: NDArray[np.bool_]) -> float:
    """Return the median angle of the chosen pixels of an image, in degrees."""
    lab = rgb2lab(pixels)[where]
    return float(np.median(np.degrees(np.arctan2(lab[:, 0] - 50, lab[:, 2]))))


def angles(pixels: Pixels) -> dict[str, float]:
    """Return the angle by each choice of pixels, without the black and white ones."""
    usable = (pixels.max(-1) > 30) & (pixels.min(-1) < 250)
    light = rgb2lab(pixels)[..., 0]
    ring = np.ones(usable.shape, bool)
    ring[MARGIN:-MARGIN, MARGIN:-MARGIN] = False
    lighter = light >= threshold_otsu(light[usable])
    chosen = {"border ring": ring, "lighter than the lesion": lighter, "both": ring & lighter}
    found = {}
    for name, part in chosen.items():
        where = usable & part if (usable & part).any() else usable
        found[name] = angle(pixels, where)
        found[f"{name}, white balance"] = angle(balanced(pixels), where)
    return found


def main(folder: str) -> None:
    """Measure, and write the rows."""
    manifest = read(folder)
    types = manifest.table["fitzpatrick_skin_type"].fillna("").tolist()
    rows = [row for row, kind in enumerate(types) if kind in SKIN_TYPES]
    measured = [angles(resize_square(decode(manifest.paths[row]), SIZE)) for row in rows]
    truth = np.array([SKIN_TYPES.index(types[row]) for row in rows])
    found = []
    for name in measured[0]:
        values = np.array([one[name] for one in measured])
        rho = float(spearmanr(values, truth).statistic)
        half = 1.96 / np.sqrt(len(rows) - 3)  # Fisher's transformation
        low, high = (float(np.tanh(np.arctanh(rho) + sign * half)) for sign in (-1, 1))
        found.append({"data": manifest.name, "pixels": name, "n": len(rows)})
        found[-1] |= {"spearman": rho, "spearman_low": low, "spearman_high": high}
        print(found[-1])
    keep(found, "skin_tone", ["data", "pixels"])


if __name__ == "__main__":
    main(sys.argv[1])
