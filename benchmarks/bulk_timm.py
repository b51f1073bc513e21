"""Predictions for a folder of images by timm, with the steps and the defaults of its inference script.

    python -m benchmarks.bulk_timm FOLDER IMAGE_SIZE OUT

Two worker processes decode, batches of 256, PyTorch in float32, the best class of each image in a csv file. The network
is timm's BiT of the size of the built-in backbones, with random weights.
"""

from __future__ import annotations

import sys

import pandas as pd
import torch

from benchmarks.peers import ours  # makes timm importable beside a CPU build of PyTorch

from timm.data import create_dataset, create_loader  # isort: skip

BATCH, WORKERS = 256, 2


def main() -> None:
    """Predict."""
    folder, image_size, out = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    dataset = create_dataset("", folder)
    half = (0.5, 0.5, 0.5)
    loader = create_loader(
        dataset,
        (3, image_size, image_size),
        BATCH,
        use_prefetcher=False,
        num_workers=WORKERS,
        mean=half,
        std=half,
        crop_pct=1.0,
    )
    network = ours("bit-r26x0.5").eval()
    found = []
    with torch.inference_mode():
        for images, _ in loader:
            found.append(torch.topk(network(images).softmax(1), 1))
    table = pd.DataFrame({"filename": dataset.filenames(basename=True)})
    table["label"] = torch.cat([one.indices for one in found])[:, 0]
    table["p"] = torch.cat([one.values for one in found])[:, 0]
    table.to_csv(out, index=False)


if __name__ == "__main__":
    main()
