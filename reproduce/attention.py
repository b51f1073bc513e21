"""The share of a heat map that is inside the lesion.

    python -m reproduce.attention BUNDLE DATA [DATA ...]

The lesion is the mask of `nevus.models.handcrafted.lesion`, by Otsu's threshold: no public mask is used. A row
has the share of the map's absolute values and the share of the area, which a map without any preference reaches.
Rows of results/attention.csv.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from benchmarks.rows import keep

import nevus
from nevus.bundle.explain import SHOWN, explain
from nevus.data.images import decode
from nevus.data.preprocess import resize_square
from nevus.data.readers.dispatch import read
from nevus.models.handcrafted.lesion import lesion_mask

MOST = 400
"""Images of a data set, drawn at random."""


def main(bundle: str, folders: list[str]) -> None:
    """Measure, and write the rows."""
    classifier, found = nevus.load(bundle), []
    size = classifier.bundle.spec.image_size
    for folder in folders:
        manifest = read(folder)
        rows = np.random.default_rng(0).permutation(len(manifest))[:MOST]
        shares, areas = [], []
        for one in explain(classifier, [manifest.paths[row] for row in rows]):
            mask = lesion_mask(resize_square(decode(one.prediction.image), size))
            if mask is None or not mask.any():
                continue
            # Over the squares that an overlay shows, whose signs single pixels do not blur.
            parts = np.arange(size) * SHOWN // size
            cells = np.zeros((SHOWN, SHOWN))
            np.add.at(cells, (parts[:, None], parts[None, :]), one.map)
            inside = np.zeros((SHOWN, SHOWN))
            np.add.at(inside, (parts[:, None], parts[None, :]), mask)
            count = np.bincount(parts, minlength=SHOWN)
            inside /= np.outer(count, count)
            shares.append(float((np.abs(cells) * inside).sum() / np.abs(cells).sum()))
            areas.append(float(mask.mean()))
        error = 1.96 * np.std(shares, ddof=1) / np.sqrt(len(shares))
        mean = float(np.mean(shares))
        found.append(
            {
                "classifier": Path(bundle).name,
                "data": Path(folder).parent.name if Path(folder).is_file() else manifest.name,
                "n": len(shares),
                "share": mean,
                "share_low": float(mean - error),
                "share_high": float(mean + error),
                "area": float(np.mean(areas)),
            }
        )
        print(found[-1])
    keep(found, "attention", ["classifier", "data"])


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
