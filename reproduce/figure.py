"""The picture of the README: pairs of phantoms that a random split leaks, found by the audit.

python -m reproduce.figure
"""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from nevus.auditing.audit import audit
from nevus.data.cache import Cache, CacheConfig
from nevus.data.readers.dispatch import read
from nevus.phantoms.dataset import PhantomConfig, write

PATH = Path(__file__).resolve().parents[1] / "docs" / "figures" / "leaks.png"
PAIRS = 4


def main() -> None:
    """Draw phantoms, split them at random, audit them, and draw the pairs across the split."""
    with tempfile.TemporaryDirectory() as folder:
        write(PhantomConfig(n=160, image_size=192, seed=4, repeats=0.4), Path(folder, "set"), workers=1)
        manifest = read(Path(folder, "set"))
        table = manifest.table.assign(group=manifest.table["image"])  # ids are unknown, as in many public sets
        table["split"] = np.where(np.random.default_rng(0).random(len(table)) < 0.2, "test", "train")
        with contextlib.closing(Cache(CacheConfig(Path(folder, "cache")))) as cache:
            result = audit(manifest.with_table(table), cache=cache)
        images, counts = result.lesion_groups.images, result.counts()
        pairs = result.pairs[result.pairs["crosses"]].sort_values("similarity").head(PAIRS)
        figure = Figure(figsize=(8.4, 4.7), layout="constrained", facecolor="white")
        figure.suptitle(
            f"A random split of {counts['images']} images leaks {counts['groups_across_splits']} lesions: "
            f"{counts['leaking_test_images']} test images show a lesion of the training set",
            fontsize=11,
        )
        for column, pair in enumerate(pairs.to_dict("records")):
            rows = sorted((images.iloc[pair[side]] for side in "ab"), key=lambda row: row["split"] != "train")
            for line, row in enumerate(rows):
                ax = figure.add_subplot(2, PAIRS, line * PAIRS + column + 1)
                with Image.open(row["image"]) as image:
                    ax.imshow(image.convert("RGB"))
                ax.set_title("training" if row["split"] == "train" else "test", fontsize=9)
                ax.set_xticks([])
                ax.set_yticks([])
                if line:
                    ax.set_xlabel(f"similarity {pair['similarity']:.2f}, {pair['matches']} key points", fontsize=8)
        figure.savefig(PATH, dpi=110)


if __name__ == "__main__":
    main()
